"""The command line: compose the configuration, plan the cells, run what is missing, show the result.

Everything that can be known to be wrong is found before a cell is started: all jobs of a sweep are composed,
validated and looked up in the run store first. Torch is imported when a cell has something to compute.
"""

import os
import string
import sys
import textwrap
import traceback
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from fairloop import composition, console
from fairloop.catalogue import catalogue
from fairloop.debias.hub import check_pushes, model_folder, push
from fairloop.errors import FairloopError
from fairloop.files import digest_text, write_text
from fairloop.locks import LostError
from fairloop.sweep import course
from fairloop.sweep.estimate import estimate
from fairloop.sweep.jobs import Job, Outcome, jobs_of
from fairloop.sweep.launch import STOP_FILE, Launcher, check_plugins, run_alone, run_cells
from fairloop.sweep.plan import Plan
from fairloop.sweep.resources import limit_threads, runs_here, take_gpu_share
from fairloop.sweep.search import Search, is_grid, read_search
from fairloop.sweep.slurm import OutOfTimeError, end_at_time_limit
from fairloop.sweep.study_storage import open_study
from fairloop.sweep.surroundings import check_surroundings
from fairloop.sweep.table import print_cells
from fairloop.sweep.trials import Pruned, Watch, print_trials, run_trials, trials_of
from fairloop.tracking.wandb_service import SETTLED, agents_run, settle_offline
from fairloop.tracking.wandb_sweep import begin_sweep, log_sweep
from fairloop.version import __version__
from fairloop.words import counted

REPORT_FOLDER = "report"
HELP_WIDTH = 80
REPORT_STAMP = ".cells"  # names the cells that the report was made of, and their state


@console.entry("fairloop", "interrupted; the same command goes on after the last finished stage")
def command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    try:
        flags = composition.parse_arguments(arguments)
        if flags.help:
            return show_help(flags)
        if flags.version:
            print(f"fairloop {__version__}")
            return 0
        if flags.hydra_help or flags.cfg or flags.info or flags.shell_completion:
            return _hand_to_hydra(flags)
        composition.parse_overrides(flags.overrides)
        check_plugins(flags.overrides)
        with composition.composer(flags.config_dir):
            own = composition.compose_config(of_the_command(flags.overrides), with_hydra=True).hydra
            if not (flags.multirun or own.mode == RunMode.MULTIRUN):
                return run_one(flags.overrides)
            if is_grid(own.sweeper):
                return run_sweep(flags.overrides, own.sweeper.params)
            return run_search(read_search(flags.overrides, own.sweeper.params))
    finally:
        os.environ.pop(SETTLED, None)


def run_one(overrides: Sequence[str]) -> int:
    """Run the one cell of a command without a sweep, and show it; inside `composition.composer()`."""
    plan, outcomes = compute_cell(overrides)
    status = _finish(plan, [outcome for outcome in outcomes if outcome.state == "failed"])
    return max(status, _show_pushes(plan))


def compute_cell(overrides: Sequence[str]) -> tuple[Plan, list[Outcome]]:
    """Run the one cell of a command without a sweep, if it is missing; inside `composition.composer()`."""
    plan = Plan.of(jobs_of([list(overrides)]))
    check_pushes(_repositories(plan))
    if plan.missing:
        check_surroundings(plan.missing)
    plan.say()
    if plan.missing:
        return plan, [run_alone(overrides, run_waiting_job)]
    if not plan.given_up:
        _report_finished(plan.jobs[0])
    return plan, []


def run_sweep(overrides: Sequence[str], params: dict[str, Any] | None) -> int:
    """Run every cell of a grid that is missing, and show all; inside `composition.composer()`."""
    plan, failures = compute_sweep(overrides, params)
    status = _finish(plan, failures)
    files = sorted((Path(plan.jobs[0].configuration.runs_dir) / REPORT_FOLDER).glob("*.*"))
    log_sweep(plan.jobs[0].configuration.tracking, [job.cell for job in plan.jobs], catalogue(), files)
    return max(status, _show_pushes(plan))


def compute_sweep(overrides: Sequence[str], params: dict[str, Any] | None) -> tuple[Plan, list[Outcome]]:
    """Run every cell of a grid that is missing in the store; inside `composition.composer()`.

    Returns:
        The plan, and what became of the cells that are not finished.
    """
    plan = Plan.of(jobs_of(composition.expand_sweep(overrides, params)))
    check_pushes(_repositories(plan))
    failures: list[Outcome] = []
    if plan.missing:
        launcher = Launcher.of(of_the_command(overrides), len(plan.missing), plan.jobs[0].configuration.gpu_share)
        check_surroundings(plan.missing, local=launcher.share.here)
        plan.say()
        console.say(estimate(plan.missing, plan.having("complete")).line(launcher.share.cells))
        if launcher.share.threads is not None:
            at_once = (
                "as many cells at once as there is room for"
                if launcher.share.cells is None
                else f"{counted(launcher.share.cells, 'cell')} at once"
            )
            console.say(f"{at_once}, {counted(launcher.share.threads, 'processor thread')} each")
        console.show_warnings()
        settle_offline(plan.jobs[0].configuration.tracking.mode, plan.jobs[0].configuration.runs_dir)
        begin_sweep(plan.jobs[0].configuration.tracking, [job.cell for job in plan.jobs])
        with launcher.multirun():
            failures = run_cells(launcher, plan.missing, run_job, run_waiting_job)
    else:
        plan.say()
    return plan, failures


def push_models(plan: Plan) -> list[str]:
    """Upload the models of finished cells as `debias.push_to_hub` asks; return a line for each that failed."""
    failed = []
    for key, repository in _repositories(plan).items():
        (job,) = (one for one in plan.jobs if one.cell.key == key)
        folder = model_folder(job.cell.folder) if job.status().state == "complete" else None
        if folder is not None:
            try:
                console.say(f"the debiased model is on the Hub: {push(folder, repository)}")
            except FairloopError as error:
                failed.append(str(error))
    return failed


def _repositories(plan: Plan) -> dict[str, str]:
    """Return the Hub's repository of each cell that is to have one."""
    debiased = [job for job in plan.jobs if "debias" in job.configuration.study.groups(job.configuration)]
    chosen = {job.cell.key: getattr(job.configuration.debias, "push_to_hub", None) for job in debiased}
    return {key: repository for key, repository in chosen.items() if repository is not None}


def _show_pushes(plan: Plan) -> int:
    """Upload what is to be uploaded; return the exit status."""
    failed = push_models(plan)
    for line in failed:
        console.warn(f"fairloop: {line}")
    return int(bool(failed))


def run_search(search: Search) -> int:
    """Run the trials that a search still lacks; inside `composition.composer()`."""
    launcher = Launcher.of(of_the_command(search.overrides), int(search.sweeper["n_jobs"]), search.base.gpu_share)
    check_surroundings([Job.of(search.base)], local=launcher.share.here)
    study = open_study(search)
    done = _done(study)
    console.say(
        f"search {search.study_name} in {search.base.runs_dir}: {counted(done, 'trial')} complete, "
        f"{max(0, search.n_trials - done)} to do"
    )
    if done < search.n_trials:
        console.show_warnings()
        settle_offline(search.base.tracking.mode, search.base.runs_dir)
        with launcher.multirun():
            run_trials(search, study, partial(_run_proposed, launcher, search))
    print_trials(search, study, console.stdout)
    return 0 if _done(study) >= search.n_trials else 1


def _done(study: Any) -> int:
    return sum(trial.state in ("complete", "pruned") for trial in trials_of(study))


def _run_proposed(launcher: Launcher, search: Search, jobs: Sequence[Job], trials: dict[str, int]) -> list[Outcome]:
    """Run the cells of a search's trials, and return what went wrong; the numbers of `trials` are by cell."""
    watch = Watch(search, trials) if search.prunes else None
    return run_cells(launcher, jobs, partial(run_job, watch=watch), partial(run_waiting_job, watch=watch))


# --- what Hydra's launchers call, in this process or another one -----------------------------------------------------


def run_job(composed: DictConfig, watch: Watch | None = None) -> Outcome:
    """Run one cell of a sweep, unless another process is working on it; one of a search may be watched by it."""
    return _run(composed, waits=False, watch=watch)


def run_waiting_job(composed: DictConfig, watch: Watch | None = None) -> Outcome:
    """Run one cell; while another process works on it, wait."""
    return _run(composed, waits=True, watch=watch)


def _run(composed: DictConfig, *, waits: bool, watch: Watch | None = None) -> Outcome:
    """Run one cell. One that fails is reported, and does not keep the others of a sweep from running."""
    os.chdir(HydraConfig.get().runtime.cwd)  # relative paths mean the same in every process
    job = Job.of(composition.validate(composed))
    folder = job.cell.folder
    if job.cell.complete:
        return Outcome(folder, "done")
    if _stop_file().exists():
        return Outcome(folder, "left")
    if not waits and job.status().state == "running":
        return Outcome(folder, "busy")
    end_at_time_limit()
    limit_threads(job.configuration.trainer.threads)
    take_gpu_share(job.configuration.gpu_share, HydraConfig.get().launcher)
    from fairloop.studies.runner import run_cell

    console.show_warnings()
    if not runs_here(HydraConfig.get().launcher):
        console.lines_only()
    sweep, overrides = Path(HydraConfig.get().sweep.dir), HydraConfig.get().overrides.task
    line, status, pruned = "", 0, False
    with console.at_work(course.entered(sweep, job.cell, overrides)):
        try:
            run_cell(job.configuration, job.cell, overrides, watch.of(job.cell.key) if watch else None)
        except Pruned:
            pruned = True
        except LostError as error:  # the cell is not lost: another process is working on it
            console.warn(f"fairloop: {error}")
            return _run(composed, waits=True, watch=watch) if waits else Outcome(folder, "busy")
        except OutOfTimeError:
            launcher = HydraConfig.get().launcher
            limit = f"hydra.launcher.timeout_min={launcher.timeout_min}, hydra.launcher.max_num_timeout"
            line, status = f"cell {job.cell.key}: its job may not be requeued at its time limit again ({limit})", 1
        except FairloopError as error:
            line, status = str(error), error.exit_status
        except Exception as error:
            traceback.print_exc()
            line, status = f"internal error in cell {job.cell.key}: {type(error).__name__}: {error}", 1
    outcome = Outcome(folder, "pruned" if pruned else "failed" if status else "done", line, status)
    if said := course.ended(sweep, job.cell, overrides, outcome):
        console.say(said)
    if (
        status and job.configuration.on_failure == "stop" and HydraConfig.get().mode != RunMode.RUN
    ):  # a sweep's jobs have no mode
        _stop_file().touch()
    return outcome


def _report_finished(job: Job) -> None:
    """Tell the agent of a W&B sweep what the store has already, or its run would count as crashed."""
    if agents_run() is not None:
        from fairloop.studies.runner import report_finished

        report_finished(job.configuration, job.cell, job.overrides)


def _stop_file() -> Path:
    """Return the file that keeps the jobs of this sweep from being started."""
    return Path(HydraConfig.get().sweep.dir) / STOP_FILE


# --- before and after ------------------------------------------------------------------------------------------------


def show_help(flags: Namespace) -> int:
    """Print what can be chosen, and every key with its value under the given overrides.

    Hydra's own help loads every option of every group several times over, which takes seconds.
    """
    with composition.composer(flags.config_dir):
        composed = composition.compose_config(flags.overrides, with_hydra=True)
    template = string.Template(composed.hydra.help.template)
    with flag_override(composed, ["struct", "readonly"], False):
        composed.pop("hydra")
    groups = {
        path.parent.relative_to(composition.conf_dir()).as_posix() for path in composition.conf_dir().rglob("*/*.yaml")
    }
    text = template.substitute(
        APP_CONFIG_GROUPS="".join(
            _wrapped(f"{group}: {', '.join(sorted(composition.options_of(group)))}\n") for group in sorted(groups)
        ),
        CONFIG=OmegaConf.to_yaml(composed),
        FLAGS_HELP="".join(_wrapped(f"{','.join(names)} : {what}\n") for names, (what, _) in composition.FLAGS.items()),
    )
    print(text)
    return 0


def _wrapped(line: str) -> str:
    """Return a line of the help as lines of 80 columns, the later ones indented."""
    return "\n".join(textwrap.wrap(line, HELP_WIDTH, subsequent_indent="    ", break_on_hyphens=False)) + "\n"


def _hand_to_hydra(flags: Namespace) -> int:
    """Let Hydra answer what it is asked about itself and the configuration (`--cfg`, `--info`, …)."""
    if not flags.shell_completion:
        with composition.composer(flags.config_dir):
            composition.compose_config(flags.overrides)  # a mistake gets Fairloop's one line
    conf = str(composition.conf_dir())
    sys.argv[1:] = composition.flag_words(flags)
    hydra.main(version_base="1.3", config_path=conf, config_name=composition.CONFIG_NAME)(run_job)()
    return 0


def of_the_command(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that say how the command runs; others may fit only the choices of single cells."""
    return [line for line in overrides if _chooses(line, "hydra", "experiment", "runs_dir", "gpu_share")]


def _chooses(line: str, *keys: str) -> bool:
    return line.lstrip("+~").startswith(tuple(f"{key}{end}" for key in keys for end in "=./"))


def _finish(plan: Plan, failures: Sequence[Outcome]) -> int:
    """Show the cells, name those that failed, and return the exit status."""
    now = [
        status if status.state == "complete" else job.status()
        for job, status in zip(plan.jobs, plan.statuses, strict=True)
    ]
    if len(plan.jobs) > 1:
        print_cells(plan.jobs, now, console.stdout)
    finished = [job.cell.folder for job, status in zip(plan.jobs, now, strict=True) if status.state == "complete"]
    if finished:
        _show_report(Path(plan.jobs[0].configuration.runs_dir), finished)
    for outcome in failures:
        if outcome.state == "failed":
            console.warn(f"fairloop: {outcome.line}")
    not_started = sum(outcome.state == "left" for outcome in failures)
    if not_started:
        console.warn(f"fairloop: {counted(not_started, 'cell')} not started after a failure (on_failure=stop)")
    status = max((outcome.exit_status for outcome in failures), default=0)
    return max(status, int(len(finished) < len(plan.jobs)))


def _show_report(runs_dir: Path, cells: Sequence[Path]) -> None:
    """Write the report of the finished cells and print its tables; for a sweep, only if it is not there already."""
    page, stamp = runs_dir / REPORT_FOLDER / "report.html", runs_dir / REPORT_FOLDER / REPORT_STAMP

    def state() -> str:
        times = [f"{path} {path.stat().st_mtime_ns}" for path in [page, *(cell / "status.json" for cell in cells)]]
        return digest_text("\n".join([__version__, *times]))

    if len(cells) > 1 and page.exists() and stamp.exists() and stamp.read_text() == state():
        console.say(f"the report of these cells is there already (fairloop-report {runs_dir} makes a new one):")
        console.say(str(page))
        return
    from fairloop.report.cli import show_report

    show_report(runs_dir, cells=cells, console=console.stdout)
    if page.exists() and os.access(page.parent, os.W_OK):
        write_text(stamp, state())
