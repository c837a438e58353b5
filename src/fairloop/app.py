"""The command line: compose the configuration, plan the cells, run what is missing, show the result.

Everything that can be known to be wrong is found before a cell is started: all jobs of a sweep are composed,
validated and looked up in the run store first. Torch is imported when a cell has something to compute.
"""

import os
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig

from fairloop import config, console
from fairloop.config import Configuration
from fairloop.errors import FairloopError, UserError
from fairloop.plm.locate import require
from fairloop.tracking.store import Cell, read_status


@dataclass(frozen=True)
class Job:
    """One cell of the command: its configuration and its place in the run store."""

    configuration: Configuration
    cell: Cell

    @classmethod
    def of(cls, configuration: Configuration) -> "Job":
        """Look the cell of a configuration up; nothing is written."""
        study = configuration.study.name
        settings = configuration.model_dump(mode="json")
        method = config.METHODS[study]
        return cls(
            configuration, Cell.open(configuration.runs_dir, study, configuration.deciding(), settings, method=method)
        )


# What went wrong in jobs that ran in this process: (line for the user, exit status).
_failures: list[tuple[str, int]] = []


def main() -> None:
    """Entry point of `fairloop`; exits with 0, 1 (a fault), 2 (a mistake) or 130 (interrupted)."""
    sys.exit(command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    flags = get_args_parser().parse_args(arguments)
    try:
        if _is_question(flags):
            _hand_to_hydra()
            return 0
        jobs = plan(flags)
        _say_plan(jobs)
        if not all(job.cell.complete for job in jobs):
            _hand_to_hydra()
        return _finish(jobs)
    except FairloopError as error:
        console.warn(f"fairloop: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        console.warn("fairloop: interrupted; the same command goes on after the last finished stage")
        return 130


def plan(flags: Namespace) -> list[Job]:
    """Compose and validate every cell of the command; raise UserError for the first mistake in any of them."""
    config.parse_overrides(flags.overrides)
    with config.composer(flags.config_dir):
        if flags.multirun:
            base = config.compose_config(
                [line for line in flags.overrides if _chooses(line, "hydra", "experiment")], with_hydra=True
            )
        else:
            base = config.compose_config(flags.overrides, with_hydra=True)
        if flags.multirun or base.hydra.mode == RunMode.MULTIRUN:
            lines = config.expand_sweep(flags.overrides, base.hydra.sweeper.params)
        else:
            lines = [list(flags.overrides)]
        configurations = [config.validate(config.compose_config(line)) for line in lines]
    jobs = list({job.cell.folder: job for job in map(Job.of, configurations)}.values())
    _check_surroundings(jobs)
    return jobs


def run_job(composed: DictConfig) -> None:
    """Run one cell: the task that Hydra's launchers call, in this process or another one.

    A cell that fails is named at the end of the command and does not keep the others of a sweep from running.
    """
    job = Job.of(config.validate(composed))
    if job.cell.complete:
        return
    from fairloop.studies.runner import run_cell

    console.show_warnings()
    try:
        run_cell(job.configuration, job.cell)
    except FairloopError as error:
        _failures.append((str(error), error.exit_status))
    except Exception as error:
        traceback.print_exc()
        _failures.append((f"internal error in cell {job.cell.key}: {type(error).__name__}: {error}", 1))


def _hand_to_hydra() -> None:
    hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name=config.CONFIG_NAME)(run_job)()


def _is_question(flags: Namespace) -> bool:
    return bool(flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)


def _chooses(line: str, *keys: str) -> bool:
    return line.lstrip("+~").startswith(tuple(f"{key}{end}" for key in keys for end in "=./"))


def _check_surroundings(jobs: Sequence[Job]) -> None:
    """Refuse what would fail later: a run store that can't be written, packages or weights that are not here."""
    for runs_dir in {job.configuration.runs_dir for job in jobs}:
        _check_writable(runs_dir)
    for job in jobs:
        if not job.cell.complete:
            for key, (path, revision) in job.configuration.models.items():
                require(path, revision, key)


def _check_writable(runs_dir: str) -> None:
    ancestor = Path(runs_dir).absolute()
    while not ancestor.exists() and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    try:
        if os.path.lexists(ancestor) and not ancestor.is_dir():
            raise NotADirectoryError
        with tempfile.TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise UserError.of("runs_dir", runs_dir, f"a folder that can be written ({ancestor} can not)") from error


def _say_plan(jobs: Sequence[Job]) -> None:
    done = sum(job.cell.complete for job in jobs)
    cells = "1 cell" if len(jobs) == 1 else f"{len(jobs)} cells"
    console.say(f"{cells} in {jobs[0].configuration.runs_dir}: {done} complete, {len(jobs) - done} to do")


def _finish(jobs: Sequence[Job]) -> int:
    """Show the finished cells together, name those that failed, and return the exit status."""
    from fairloop.report.cli import show_report

    finished = [job.cell.folder for job in jobs if job.cell.complete]
    if finished:
        show_report(jobs[0].configuration.runs_dir, cells=finished, console=console.stdout)
    failures = list(_failures)
    if len(finished) + len(failures) < len(jobs):  # the others ran in other processes, which left word in the store
        statuses = [read_status(job.cell.folder) for job in jobs if not job.cell.complete]
        failures += [(f"a cell is {status.state}: {status.reason}", 1) for status in statuses]
    for line, _ in failures:
        console.warn(f"fairloop: {line}")
    return max((status for _, status in failures), default=0)
