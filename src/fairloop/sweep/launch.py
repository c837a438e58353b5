"""Hand the missing cells of a sweep to Hydra's launcher, and go on when a process dies under them.

The launcher gets the cells that are missing, not the grid: a finished cell costs no process and no place in a queue.
What became of each cell is in the run store; what a job reports beside that comes back through the launcher.
"""

import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import HydraContext
from omegaconf import DictConfig

from fairloop import console
from fairloop.composition import CONFIG_NAME, compose_config, compose_multirun, hydra_context
from fairloop.errors import FairloopError, Fault, UserError, first_line
from fairloop.packages import is_installed, needs, uninstall_command
from fairloop.sweep import course, slurm
from fairloop.sweep.jobs import Job, Outcome
from fairloop.sweep.resources import RAY_ADDRESS, Share, check_gpu_share, check_ray, share_of

Task = Callable[[DictConfig], Outcome]

STOP_FILE = "stopped"

MOST_KILLS = 2
"""A cell whose process was killed so often under one command is given up."""

PLUGINS = {
    "submitit": ("sweep", "hydra_plugins.hydra_submitit_launcher"),
    "slurm": ("sweep", "hydra_plugins.hydra_submitit_launcher"),
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher"),
    "optuna": ("optuna", "optuna"),
}
"""The extra and the module of each launcher and sweeper, by what its name begins with (after `fairloop_`)."""


FORMER_SWEEPER = "hydra-optuna-sweeper"
"""A plugin of others for Optuna 2, which searches ran with once; its choices have the names of Fairloop's."""


def check_plugins(overrides: Sequence[str]) -> None:
    """Refuse a launcher or sweeper whose package is not installed, before Hydra looks for it."""
    for line in overrides:
        key, _, value = line.lstrip("+").partition("=")
        if key not in ("hydra/launcher", "hydra/sweeper"):
            continue
        extra, module = PLUGINS.get(value.removeprefix("fairloop_").partition("_")[0], ("", ""))
        if module and not is_installed(module):
            raise UserError(f"{line}: {needs(extra, package_of(module))}")
        former = FORMER_SWEEPER.replace("-", "_")
        if module == "optuna" and is_installed(f"hydra_plugins.{former}.optuna_sweeper"):
            raise UserError(f"{line}: the package {FORMER_SWEEPER} is in its way: {uninstall_command(FORMER_SWEEPER)}")


def package_of(module: str) -> str:
    """Return the package that brings one of the modules of `PLUGINS`."""
    return module.rpartition(".")[2].replace("_", "-")


def run_alone(overrides: Sequence[str], task: Task) -> Outcome:
    """Run the one cell of a command as a job of Hydra's, in this process; inside `composition.composer()`."""
    composed = compose_config([*overrides, "hydra.mode=RUN"], with_hydra=True)
    context = hydra_context(composed)
    context.callbacks.on_run_start(config=composed, config_name=CONFIG_NAME)
    done = run_hydra_job(task, composed, "hydra.run.dir", None, context)
    context.callbacks.on_run_end(config=composed, config_name=CONFIG_NAME, job_return=done)
    outcome: Outcome = done.return_value
    return outcome


@dataclass(frozen=True)
class Launcher:
    """The chosen launcher of Hydra, ready to be given cells."""

    config: DictConfig
    context: HydraContext
    share: Share

    @classmethod
    def of(cls, overrides: Sequence[str], cells: int, gpu_share: float | None) -> "Launcher":
        """Compose the command's own configuration, for its launcher; inside `composition.composer()`."""
        composed = compose_multirun(overrides)
        share = share_of(composed.hydra.launcher, cells)
        check_gpu_share(gpu_share, composed.hydra.launcher, share)
        if _plugin(composed.hydra.launcher) == "SlurmLauncher":
            slurm.check_slurm(composed.hydra.launcher)
        if _plugin(composed.hydra.launcher) == "RayLauncher":
            check_ray(composed.hydra.launcher)
        return cls(composed, hydra_context(composed), share)

    @property
    def folder(self) -> Path:
        """Where the launcher keeps its own files, and where jobs leave word for each other."""
        return Path(str(self.config.hydra.sweep.dir))

    @property
    def batch(self) -> int | None:
        """How many cells the launcher is given at a time; None for all of them."""
        return self.config.hydra.sweeper.get("max_batch_size") or (self.share.cells if self.share.waves else None)

    @contextmanager
    def multirun(self) -> Iterator[None]:
        """Tell Hydra's callbacks when the command's cells begin and end."""
        self.context.callbacks.on_multirun_start(config=self.config, config_name=CONFIG_NAME)
        yield
        self.context.callbacks.on_multirun_end(config=self.config, config_name=CONFIG_NAME)

    def launch(self, task: Task, jobs: Sequence[Job], first: int) -> list[Outcome | slurm.JobEndedError]:
        """Run the cells and return what each reports; raises what the launcher raises when a process dies.

        Of jobs of submitit each says for itself that it ended without a report; the others go on.
        """
        launcher = Plugins.instance().instantiate_launcher(
            config=self.config, hydra_context=self.context, task_function=task
        )
        overrides = [self._overrides(job) for job in jobs]
        if _plugin(self.config.hydra.launcher) in ("SlurmLauncher", "LocalLauncher"):
            returns = slurm.launch(launcher, overrides, first)
        else:
            try:
                with _ending_workers_too(self.config.hydra.launcher):
                    returns = list(launcher.launch(overrides, initial_job_idx=first))
            except ConnectionError as error:
                if _plugin(self.config.hydra.launcher) != "RayLauncher":
                    raise
                raise UserError.of(
                    RAY_ADDRESS, self.config.hydra.launcher.ray.init.address, first_line(error)
                ) from error
        return [_outcome(job, result) for job, result in zip(jobs, returns, strict=True)]

    def _overrides(self, job: Job) -> list[str]:
        threads = self.share.threads
        if threads is None or job.configuration.trainer.threads is not None:
            return list(job.overrides)
        return [*job.overrides, f"trainer.threads={threads}"]


@contextmanager
def _ending_workers_too(launcher: DictConfig) -> Iterator[None]:
    """Let SIGTERM end joblib's workers with the command, as Ctrl-C does.

    Else they would go on with their cells, unseen, and joblib would warn of what the command had left behind.
    """
    usual = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM)
    if _plugin(launcher) != "JoblibLauncher" or usual != signal.SIG_DFL:
        yield
        return

    def end(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # the next one ends this process at once
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _plugin(launcher: DictConfig) -> str:
    return str(launcher.get("_target_", "")).rsplit(".", 1)[-1]


def _outcome(job: Job, result: Any) -> Outcome | slurm.JobEndedError:
    if isinstance(result, slurm.JobEndedError):
        return result
    try:
        outcome = result.return_value
    except Exception as error:  # the job could not even be composed there
        return Outcome(job.cell.folder, "failed", f"cell {job.cell.key}: {first_line(error, type(error).__name__)}", 1)
    assert isinstance(outcome, Outcome)  # noqa: S101 - what the tasks of this package return
    return outcome


def run_cells(launcher: Launcher, jobs: Sequence[Job], task: Task, waiting_task: Task) -> list[Outcome]:
    """Run every cell, each until it is complete or has failed, and return what went wrong.

    A cell that another command is working on is left for the end, so that two commands share their work. When the
    launcher breaks because a process died (out of memory, say), the cells that were not at work go on, and one whose
    process died twice is given up.

    Args:
        launcher: takes them.
        jobs: the missing cells.
        task: runs a cell unless another process is working on it.
        waiting_task: runs a cell, waiting for another process that works on it.

    Raises:
        Fault: the launcher broke without having started anything.
    """
    failures: list[Outcome] = []
    kills: Counter[Path] = Counter()
    done = 0
    course.begin(launcher.folder, jobs)
    left, busy = list(jobs), list[Job]()
    while left or busy:
        if not left:
            left, busy, task = busy, [], waiting_task
        batch, left = left[: launcher.batch], left[launcher.batch :] if launcher.batch else []
        began = _now()
        try:
            returns: list[Any] = list(launcher.launch(task, batch, done))
        except FairloopError:
            _tidy(launcher.folder, all_of_it=done == 0)
            raise
        except Exception as error:
            returns = [error] * len(batch)
        outcomes = [result for result in returns if isinstance(result, Outcome)]
        outcomes += _what_is_left(
            [(job, result) for job, result in zip(batch, returns, strict=True) if isinstance(result, Exception)],
            began,
            kills,
            started=bool(outcomes),
        )
        done += len(batch)
        by_folder = {outcome.cell: outcome for outcome in outcomes}
        failures += [outcome for outcome in outcomes if outcome.state in ("failed", "left")]
        again = [job for job in batch if job.cell.folder not in by_folder]
        busy += [job for job in batch if job.cell.folder in by_folder and by_folder[job.cell.folder].state == "busy"]
        if _is_stopped(launcher, jobs, outcomes):
            failures += [Outcome(job.cell.folder, "left") for job in [*again, *left, *busy]]
            break
        left = [*left, *again]
    _tidy(launcher.folder)
    return failures


def _what_is_left(
    ended: Sequence[tuple[Job, Exception]], began: str, kills: Counter[Path], *, started: bool
) -> list[Outcome]:
    """Return what is known of cells whose process or launcher broke; one without an outcome is to be run again.

    Args:
        ended: the cells, each with what was said of its end.
        began: when they were launched.
        kills: how often each cell's process was killed; counted on here.
        started: whether anything was started, or the launcher may not work at all.
    """
    outcomes = []
    for job, error in ended:
        status, folder = job.status(), job.cell.folder
        on_purpose = isinstance(error, slurm.JobEndedError) and error.on_purpose
        started = started or on_purpose or status.started >= began or status.state == "complete"
        if status.state == "complete":
            outcomes.append(Outcome(folder, "done"))
        elif status.state == "failed" and status.started >= began:
            outcomes.append(Outcome(folder, "failed", status.reason, 1))
        elif on_purpose:
            outcomes.append(Outcome(folder, "failed", f"cell {job.cell.key}: its {error}", 1))
        elif status.state == "interrupted" and status.started >= began:
            kills[folder] += 1
            if kills[folder] >= MOST_KILLS:
                line = f"cell {job.cell.key}: its process was killed {MOST_KILLS} times (out of memory?)"
                outcomes.append(Outcome(folder, "failed", line, 1))
    if ended and not started:
        raise Fault(f"the launcher could not start a cell: {_why(ended[0][1])}") from ended[0][1]
    given_up = {outcome.line.rpartition(": its ")[2] for outcome in outcomes}
    for text in dict.fromkeys(_why(error) for _, error in ended):
        if text not in given_up:  # said at the end, with the cell
            console.warn(f"fairloop: a process of the launcher ended ({text})")
    return outcomes


def _why(error: Exception) -> str:
    """Name an error of another library by its type, and say how a job ended."""
    line = first_line(error)
    return line if isinstance(error, slurm.JobEndedError) else f"{type(error).__name__}: {line}"


def _is_stopped(launcher: Launcher, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> bool:
    stops = jobs[0].configuration.on_failure == "stop"
    return stops and any(outcome.state in ("failed", "left") for outcome in outcomes)


def _tidy(folder: Path, *, all_of_it: bool = False) -> None:
    """Remove the sweep's folder if the launcher kept nothing in it; `all_of_it`: whatever is in it."""
    course.remove(folder)
    if all_of_it:
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        (folder / STOP_FILE).unlink(missing_ok=True)
    for empty in (folder, folder.parent, *([folder.parents[1]] if all_of_it else [])):
        with suppress(OSError):
            empty.rmdir()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
