"""What a method that trains inside a study needs to know of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairloop.training.settings import TrainerSettings


@dataclass(frozen=True)
class Training:
    """Where and how a hook of a study trains.

    Attributes:
        trainer: the config group `trainer`.
        seed: of the cell.
        work: a folder that outlives a kill; its checkpoints are gone on with. Other than the hook's output folder.
        on_progress: called with (steps done, all steps).
        on_logged: called with each point of a loss curve: the curve, the steps done, the values by name.
    """

    trainer: TrainerSettings
    seed: int
    work: Path
    on_progress: Callable[[int, int], None] | None = None
    on_logged: Callable[[str, int, dict[str, float]], None] | None = None
