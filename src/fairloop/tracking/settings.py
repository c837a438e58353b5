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
    group: str | None = incidental(
        None, max_length=128, description="the group of this sweep's runs; null: the study's name"
    )
