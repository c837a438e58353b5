"""Cells as jobs of submitit: SLURM is asked what it has before a job is sent, and how each job ended.

hydra-submitit-launcher gives up all jobs when one of them ends without a result, and submitit asks `sacct`, which many
small clusters do not have: a cancelled job would be waited for without end. Here `squeue` is asked, which all have.
"""

import io
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from omegaconf import DictConfig

from fairloop import console
from fairloop.errors import Fault, UserError, first_line
from fairloop.words import counted

if TYPE_CHECKING:
    from submitit import Job

KEY = "hydra.launcher"
POLL_SECONDS = 60
"""SLURM is asked after 2, 4, 8, … seconds, and then so often."""

_AT_WORK = "PENDING RUNNING COMPLETING CONFIGURING REQUEUED REQUEUE_FED RESIZING SIGNALING STAGE_OUT SUSPENDED STOPPED"
_USUAL = ("None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "")
"""Why jobs wait where nothing is wrong."""


class JobEndedError(Exception):
    """A job has ended, and its cell has not said how.

    Attributes:
        on_purpose: whether starting it once more would be wrong: it was cancelled, or has used up its time.
    """

    def __init__(self, line: str, *, on_purpose: bool) -> None:
        super().__init__(line)
        self.on_purpose = on_purpose


class OutOfTimeError(SystemExit):
    """The job of this process has reached its time limit, and may not be requeued once more."""


# --- before a job is sent --------------------------------------------------------------------------------------------


def check_slurm(launcher: DictConfig) -> None:
    """Refuse a partition that does not exist, and what no node of it has: jobs would be refused, or wait for ever.

    Raises:
        UserError: the key, its value and what the partition has.
        Fault: SLURM does not answer.
    """
    groups = [line.split("|") for line in _ask("sinfo", "--noheader", "--exact", "--all", "--format=%P|%c|%m|%l|%G")]
    wanted = str(launcher.partition).split(",") if launcher.partition else None
    names = {name.rstrip("*") for name, *_ in groups}
    if wanted and not set(wanted) <= names:
        raise UserError.of(f"{KEY}.partition", launcher.partition, f"must be of {', '.join(sorted(names))}")
    chosen = [group for group in groups if (group[0].rstrip("*") in wanted if wanted else group[0].endswith("*"))]
    if not chosen:
        return  # no partition is the default: sbatch says so
    where = "partition " + ", ".join(dict.fromkeys(group[0].rstrip("*") for group in chosen))
    memory = float(launcher.mem_gb or 0) * 1024
    most = {
        "cpus_per_task": (launcher.cpus_per_task, max(_number(group[1]) for group in chosen), "processors in a node"),
        "gpus_per_node": (launcher.gpus_per_node, max(_gpus(group[4]) for group in chosen), "GPUs in a node"),
        "timeout_min": (launcher.timeout_min, max(_minutes(group[3]) for group in chosen), "minutes for a job"),
    }
    for key, (value, has, what) in most.items():
        if value and value > has:
            null = "; null: none" if key == "gpus_per_node" else ""
            raise UserError.of(f"{KEY}.{key}", value, f"{where} has at most {has:g} {what}{null}")
    has = max(_number(group[2]) for group in chosen)
    if memory > has:
        raise UserError.of(f"{KEY}.mem_gb", launcher.mem_gb, f"{where} has at most {has / 1024:.1f} GB in a node")


def _ask(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise UserError(
            f"hydra/launcher=fairloop_slurm: {command[0]} is no command here; start it on a machine of the cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise Fault(f"SLURM does not answer: {command[0]} has not ended in a minute") from None
    if done.returncode:
        raise Fault(f"SLURM does not answer: {first_line(done.stderr, command[0])}")
    return done.stdout.splitlines()


def _number(text: str) -> int:
    return int(re.sub(r"\D.*", "", text) or 0)


def _gpus(generic: str) -> int:
    """Return the GPUs of `gpu:a100:4(S:0-1),gpu:2,shard:8`."""
    counts = [entry.split(":") for entry in re.sub(r"\(.*?\)", "", generic).split(",")]
    return sum(_number(parts[-1]) or 1 for parts in counts if parts[0] == "gpu")


def _minutes(limit: str) -> float:
    """Return the minutes of `1-02:00:00`, `2:00:00` or `30:00`; endless for `infinite`."""
    days, _, rest = limit.rpartition("-")
    try:
        hours, minutes, seconds = [0, 0, *map(int, rest.split(":"))][-3:]
        return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60
    except ValueError:
        return float("inf")


# --- the jobs --------------------------------------------------------------------------------------------------------


def launch(plugin: Any, overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
    """Run cells as jobs, and return what each returned (a `JobReturn`), or a `JobEndedError` in its place.

    Raises:
        UserError: sbatch refuses the jobs; nothing is left of them.
    """
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf  # type: ignore[import-untyped, unused-ignore]

    kind, given = plugin._EXECUTOR, dict(plugin.params)
    folder, timeouts = Path(given.pop("submitit_folder")), given.pop("max_num_timeout", None)
    started = {} if timeouts is None else {f"{kind}_max_num_timeout": timeouts}
    executor = submitit.AutoExecutor(cluster=kind, folder=folder, **started)
    common = BaseQueueConf.__dataclass_fields__
    executor.update_parameters(**{key if key in common else f"{kind}_{key}": given[key] for key in given})
    if kind == "slurm":
        _ask_squeue()
    numbers = range(first, first + len(overrides))
    given_to_each = (
        [list(one), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state()]
        for one, number in zip(overrides, numbers, strict=True)
    )
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            jobs: list[Job[Any]] = executor.map_array(plugin, *zip(*given_to_each, strict=True))
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        line = first_line(said.getvalue(), first_line(error)).removeprefix("sbatch: ").removeprefix("error: ")
        raise UserError(f"{KEY}: sbatch refuses the jobs: {line}") from error
    return [_result(job, given.get("timeout_min")) for job in jobs]


def _result(job: "Job[Any]", limit: Any) -> Any:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    while True:
        job.wait()
        try:
            return job.results()[0]
        except FailedJobError as error:  # what the process itself could still say
            raised = str(error).split("-" * 22)[1].strip().splitlines()[-1]
            return JobEndedError(f"job {job.job_id} ended with {raised}", on_purpose=False)
        except UncompletedJobError:
            if not job.done(force_check=True):
                continue  # SLURM has put it into its queue again
            return _ended(job, limit)


def _ended(job: "Job[Any]", limit: Any) -> JobEndedError:
    """Say how a job ended that left no result."""
    state = str(job.state).split()[0]
    ends = {
        "CANCELLED": "was cancelled",
        "TIMEOUT": f"has reached its time limit ({KEY}.timeout_min={limit})",
        "DEADLINE": "has reached its deadline",
    }
    if state in ends:
        return JobEndedError(f"job {job.job_id} {ends[state]}", on_purpose=True)
    lines = (job.stderr() or "").strip().splitlines()
    says = f": {lines[-1]}" if lines else ""
    return JobEndedError(f"job {job.job_id} ended without a result ({state.lower()}){says}", on_purpose=False)


def _ask_squeue() -> None:
    """Let submitit ask `squeue` how its jobs are; it has no other place for that than the class of its jobs."""
    from submitit.slurm import slurm

    class Queue(slurm.SlurmInfoWatcher):  # type: ignore[misc, unused-ignore]
        """The states of jobs in SLURM's queue."""

        _silent = False
        _reasons: frozenset[str] = frozenset()

        def update(self) -> None:
            """Ask; a job that SLURM does not know any more has ended, one it cannot be asked about is as it was."""
            left = self._registered - self._finished
            numbers = ",".join(sorted({job.partition("_")[0] for job in left}))
            command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r", f"--jobs={numbers}"]
            self._last_status_check, self._num_calls = time.time(), self._num_calls + 1
            if not left:
                return
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "Invalid job id" not in done.stderr:
                if not self._silent:
                    console.warn(f"fairloop: SLURM does not answer, it is asked again: {first_line(done.stderr)}")
                self._silent = True
                return
            self._silent = False
            rows = [line.split("|", 3) for line in done.stdout.splitlines()]
            known = {job: {"State": state, "NodeList": node} for job, state, node, _ in rows}
            self._info_dict.update({job: known.get(job, {"State": "ENDED"}) for job in left})
            self._finished |= {job for job in left if self.is_done(job, mode="cache")}
            self._say_what_holds([why.strip("()") for job, state, _, why in rows if state == "PENDING"])

        def is_done(self, job_id: str, mode: str = "standard") -> bool:
            """Tell whether a job has ended, whatever the end."""
            return self.get_state(job_id, mode=mode).upper() not in ("UNKNOWN", "REQUEUE_HOLD", *_AT_WORK.split())

        def _say_what_holds(self, reasons: Sequence[str]) -> None:
            for why in sorted(set(reasons) - self._reasons - set(_USUAL)):
                console.warn(f"fairloop: SLURM holds {counted(reasons.count(why), 'job')} back: {why}")
            self._reasons |= set(reasons)

    slurm.SlurmJob.watcher = Queue(delay_s=POLL_SECONDS)


# --- in a job --------------------------------------------------------------------------------------------------------


def end_at_time_limit() -> None:
    """Let submitit end this process, if it is its job, by an exit, which no `except Exception` takes for its own."""
    if "submitit.core.job_environment" in sys.modules:
        sys.modules["submitit.core.utils"].UncompletedJobError = OutOfTimeError  # type: ignore[attr-defined]
