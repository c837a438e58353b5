"""What a method that trains inside a study needs to know of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairloop.training.settings import TrainerSettings

if TYPE_CHECKING:
    from fairloop.training.checkpoints import Saved


@dataclass(frozen=True)
class Training:
    """Where and how a hook of a study trains.

    Attributes:
        trainer: the config group `trainer`.
        seed: of the cell.
        work: a folder that outlives a kill; its checkpoints are gone on with. Other than the hook's output folder.
        on_progress: called with (steps done, all steps).
        on_saved: called after each checkpoint.
    """

    trainer: TrainerSettings
    seed: int
    work: Path
    on_progress: Callable[[int, int], None] | None = None
    on_saved: "Callable[[Saved], None] | None" = None
