"""A cell as a command sees it: its configuration, its place in the run store, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairloop import config
from fairloop.config import Configuration
from fairloop.sweep.compose import Composer
from fairloop.sweep.unread import refuse_unread
from fairloop.tracking.store import Cell, Status, is_complete, read_status


@dataclass(frozen=True)
class Job:
    """One cell of a command.

    Attributes:
        configuration: its checked configuration.
        cell: its place in the run store.
        overrides: what was chosen for it on the command line, for the launcher; empty where nothing is launched.
    """

    configuration: Configuration
    cell: Cell
    overrides: tuple[str, ...] = ()

    @classmethod
    def of(cls, configuration: Configuration, overrides: Sequence[str] = ()) -> "Job":
        """Look the cell of a configuration up; nothing is written."""
        study, settings = configuration.study, configuration.model_dump(mode="json")
        deciding = configuration.deciding()
        cell = Cell.open(configuration.runs_dir, study.name, deciding, settings, method=study.version)
        return cls(configuration, cell, tuple(overrides))

    def status(self) -> Status:
        """Return what the store says of the cell now; a complete one whose files were altered counts as absent."""
        status = read_status(self.cell.folder)
        return status if status.state != "complete" or is_complete(self.cell.folder) else Status("absent")


def jobs_of(lines: Sequence[Sequence[str]]) -> list[Job]:
    """Compose and check every cell, each once; inside `composition.composer()`.

    Args:
        lines: the overrides of each cell. Hydra's own ones are for the whole command, and left out.

    Raises:
        UserError: the first mistake in any of them.
    """
    composer = Composer()
    chosen = [[text for text in line if not text.lstrip("+~").startswith(("hydra.", "hydra/"))] for line in lines]
    cells = [config.check(composer.compose(line)) for line in chosen]
    refuse_unread(chosen, cells)
    jobs: dict[Path, Job] = {}
    for line, cell in zip(chosen, cells, strict=True):
        job = Job.of(cell, line)
        jobs.setdefault(job.cell.folder, job)
    return list(jobs.values())


@dataclass(frozen=True)
class Outcome:
    """What a launched job reports of its cell; carried from the process it ran in.

    Attributes:
        cell: the cell's folder.
        state: `done`, `failed`, `busy` (another process was working on it), `left` (not started: another failed), or
            `pruned` (its search ended it early).
        line: why it failed, for the user.
        exit_status: 0, 1 (a fault) or 2 (a mistake).
    """

    cell: Path
    state: Literal["done", "failed", "busy", "left", "pruned"]
    line: str = ""
    exit_status: int = 0
