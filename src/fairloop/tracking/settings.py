"""The settings of config group `tracking`: none decides a result."""

from typing import Literal

from fairloop.settings import Settings, incidental


class TrackingSettings(Settings):
    """How a cell is reported to Weights & Biases."""

    mode: Literal["auto", "online", "offline", "none"] = incidental(
        "auto",
        description="auto: online if there is a key and the service answers, else offline; none: no Weights & Biases",
    )
    project: str = incidental(
        "fairloop", min_length=1, max_length=128, description="the project that runs are logged to"
    )
    entity: str | None = incidental(None, description="the user or team that owns the project; null: the key's default")
    sweep: str | None = incidental(
        None, max_length=128, description="what this sweep's runs are found by (config key `sweep`); null: the study"
    )
    group: str | None = incidental(
        None, max_length=128, description="one group for all runs; null: a group for runs that differ in the seed alone"
    )
    system_metrics: bool = incidental(True, description="log the load of processor, memory, disk and GPU over time")
    git: bool = incidental(True, description="log the commit of Fairloop, and of the repository that runs lie in")
    command: bool = incidental(True, description="log the command, the interpreter and the machine's hardware")
    packages: bool = incidental(True, description="log the versions of all installed packages")
