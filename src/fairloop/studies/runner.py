"""Run one cell: hold its folder, open its tracker, and let its study do the rest."""

import importlib

from fairloop.catalogue import catalogue
from fairloop.config import Configuration
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import tracked


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
        study = configuration.study
        names = study.names(configuration)
        choices, tags = {**configuration.deciding(), **names}, [study.name, *names.values()]
        name = study.run_name(configuration)
        with tracked(configuration.tracking, cell, choices, catalogue(), tags=tags, name=name) as tracker:
            importlib.import_module(f"fairloop.studies.{study.name}").run(configuration, cell, tracker)


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
