"""Run one cell: hold its folder, open its tracker, and let its study do the rest."""

import importlib
import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from fairloop.catalogue import catalogue
from fairloop.config import Configuration
from fairloop.naming import naming_of
from fairloop.tracking.store import ENVIRONMENT_FILE, Cell, IncompleteError
from fairloop.tracking.wandb_run import OnGeneration, Tracker, tracked
from fairloop.tracking.wandb_service import agents_run
from fairloop.version import __version__


def run_cell(
    configuration: Configuration,
    cell: Cell,
    overrides: Sequence[str] = (),
    after_generation: OnGeneration | None = None,
) -> None:
    """Compute what a cell still lacks; a finished one is left as it is.

    Args:
        configuration: the cell's resolved configuration.
        cell: its place in the run store.
        overrides: what was chosen for it on the command line, for its run on Weights & Biases.
        after_generation: is told the measures of every generation but the last; what it raises ends the cell.

    Raises:
        UserError: a mistake that showed only now (a model that cannot write, say).
        Fault: something outside the configuration; what is finished is kept.
    """
    with cell.working() as unfinished:
        if not unfinished:
            return
        _limit_threads(configuration.trainer.threads)
        with _tracked(configuration, cell, overrides) as tracker:
            tracker.after_generation = after_generation
            _study(configuration).run(configuration, cell, tracker)
            tracker.finish("complete", _result(cell))


def report_finished(configuration: Configuration, cell: Cell, overrides: Sequence[str] = ()) -> None:
    """Log a cell that was finished before to the run of a `wandb agent`; nothing without an agent.

    A sweep of W&B may ask for a cell that the store has. Nothing is computed then: the study reads its stages again,
    so that the agent's run holds what it would hold if it had computed them. Arguments as of `run_cell`.
    """
    if agents_run() is None:
        return
    with _tracked(configuration, cell, overrides) as tracker:
        # A stage that this version would compute otherwise ends the reading: the result is there all the same.
        with suppress(IncompleteError), cell.reading():
            _study(configuration).run(configuration, cell, tracker)
        tracker.finish("complete", _result(cell))


def _result(cell: Cell) -> dict[str, float]:
    found: dict[str, float] = json.loads((cell.folder / "result.json").read_text(encoding="utf-8"))
    return found


def _study(configuration: Configuration) -> Any:
    return importlib.import_module(f"fairloop.studies.{configuration.study.name}")


def _tracked(configuration: Configuration, cell: Cell, overrides: Sequence[str]) -> AbstractContextManager[Tracker]:
    naming, tracking = naming_of(configuration), configuration.tracking
    code = _code(cell, commit=tracking.git)
    choices = {**configuration.deciding(), **naming.names, "condition": naming.condition, "code": code}
    if tracking.command:
        choices["command"] = shlex.join(["fairloop", *overrides])
    return tracked(
        tracking,
        cell,
        choices,
        catalogue(),
        tags=naming.tags,
        name=naming.run_name,
        group=naming.condition,
    )


def _code(cell: Cell, *, commit: bool) -> dict[str, Any]:
    """Return which Fairloop computes, or computed, a cell: its version, Python's and, if wanted, its commit."""
    try:
        environment = json.loads((cell.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        versions = {"fairloop": environment["packages"].get("fairloop", __version__), "python": environment["python"]}
        return {**versions, **((environment["git"] or {}) if commit else {})}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a copied store may lack it
        return {}


def _limit_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
