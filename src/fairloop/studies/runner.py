"""Run one cell: hold its folder, open its tracker, and let its study do the rest."""

from collections.abc import Callable

from fairloop.config import Configuration
from fairloop.studies import recursion
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker, tracked

Study = Callable[[Configuration, Cell, Tracker], None]

STUDIES: dict[str, Study] = {"recursion": recursion.run}


def run_cell(configuration: Configuration, cell: Cell) -> None:
    """Compute what a cell still lacks; a finished one is left as it is.

    Raises:
        UserError: a mistake that showed only now (a model that cannot write, say).
        Fault: something outside the configuration; what is finished is kept.
    """
    with cell.working() as unfinished:
        if not unfinished:
            return
        _limit_threads(configuration.trainer.threads)
        choices = configuration.model_dump(mode="json", exclude={"runs_dir", "trainer", "tracking"})
        tags = [configuration.study.name, configuration.model.name, configuration.strategies]
        with tracked(configuration.tracking, cell, choices, tags=tags, name=_run_name(configuration)) as tracker:
            STUDIES[configuration.study.name](configuration, cell, tracker)


def _run_name(configuration: Configuration) -> str:
    level = f"{configuration.initial_bias.level:g}"
    return f"{configuration.model.name} {configuration.strategies} level {level} seed {configuration.seed}"


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
