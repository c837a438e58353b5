"""Run one cell: hold its folder, open its tracker, and let its study do the rest."""

from collections.abc import Callable

from fairloop.catalogue import catalogue
from fairloop.config import Configuration
from fairloop.studies import evaluate, fair_gender, metric_calibration, recursion
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker, tracked

Study = Callable[[Configuration, Cell, Tracker], None]

STUDIES: dict[str, Study] = {
    "recursion": recursion.run,
    "evaluate": evaluate.run,
    "metric_calibration": metric_calibration.run,
    "fair_gender": fair_gender.run,
}


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
        choices = {**configuration.deciding(), **_names(configuration)}
        tags = [configuration.study.name, *_names(configuration).values()]
        name = _run_name(configuration)
        with tracked(configuration.tracking, cell, choices, catalogue(), tags=tags, name=name) as tracker:
            STUDIES[configuration.study.name](configuration, cell, tracker)


def _names(configuration: Configuration) -> dict[str, str]:
    """Return the names of the choices by which runs are grouped and found."""
    if configuration.study.name == "evaluate":
        return {"plm_name": configuration.plm.name, "benchmark_name": configuration.benchmark.name}
    if configuration.study.name == "fair_gender":
        generator = {"model_name": configuration.model.name} if configuration.generates else {}
        return {"plm_name": configuration.plm.name, "debias_name": configuration.debias.name, **generator}
    if configuration.study.name == "metric_calibration":
        return {"encoder_name": configuration.study.encoder}
    return {"model_name": configuration.model.name, "strategies": configuration.strategies}


def _run_name(configuration: Configuration) -> str:
    names = " ".join(_names(configuration).values())
    if configuration.study.name != "recursion":
        return f"{names} seed {configuration.seed}"
    return f"{names} level {configuration.initial_bias.level:g} seed {configuration.seed}"


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
