"""Sweeps through a real SLURM, with accounting and without: what is cancelled, requeued, out of time or drained."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import slow_cells
from slow_cells import start
from slurm_cluster import cluster, missing

LAUNCHER = [
    "hydra/launcher=fairloop_slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.timeout_min=10",
    "hydra.launcher.signal_delay_s=50",  # of a limit of one minute, ten seconds are left
    "hydra.launcher.array_parallelism=2",
]


@pytest.fixture(scope="module", params=[False, True], ids=["without accounting", "with accounting"])
def slurm(request, tmp_path_factory):
    if why := missing(accounting=request.param):
        pytest.skip(why)
    with cluster(tmp_path_factory.mktemp("slurm"), accounting=request.param) as made:
        yield made


def sweep(slurm, grid, folder, *more):
    return start("-m", *grid, *LAUNCHER, *more, cwd=folder, env=slurm.environment)


def locked(folder):
    return slow_cells.locked(folder / "runs")


def running(slurm):
    return sorted(job for job, (state, _) in slurm.states().items() if state == "RUNNING")


def jobs_at_work(slurm, folder, count):
    """Return the running jobs as soon as there are so many and each is in the middle of its cell."""
    return running(slurm) if len(running(slurm)) == len(locked(folder)) == count else None


def process_of(job):
    """Return the process in which a job of an array runs its cell."""
    number, _, task = job.partition("_")
    marks = [f"SLURM_ARRAY_JOB_ID={number}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode()]
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line, variables = (
                (place / "cmdline").read_bytes().split(b"\0"),
                (place / "environ").read_bytes().split(b"\0"),
            )
            if b"submitit.core._submit" in line and b"srun" not in line[0] and set(marks) <= set(variables):
                return int(place.name)
    raise AssertionError(f"no process of job {job}")


def test_six_cells_one_requeued_one_out_of_time_one_cancelled_and_a_node_drained(slurm, grid, finished, tmp_path):
    process = sweep(slurm, grid, tmp_path)
    first, second = slurm.wait_for(lambda: jobs_at_work(slurm, tmp_path, 2))  # the second is the long one
    others = [job for job, (state, _) in slurm.states().items() if state == "PENDING"]
    slurm.ask("scontrol", "hold", ",".join(others))  # a quiet machine would be done with them before the time is up
    slurm.ask("scontrol", "requeue", first)
    slurm.ask("scontrol", "update", f"jobid={second}", "timelimit=1")
    slurm.wait_for(lambda: slurm.states()[second][0] == "PENDING")  # it was told, and went back into the queue
    slurm.ask("scontrol", "update", f"jobid={second}", "timelimit=10")
    slurm.ask("scontrol", "release", ",".join(others))
    third = slurm.wait_for(lambda: next((job for job in running(slurm) if job in others), None))
    slurm.wait_for(lambda: jobs_at_work(slurm, tmp_path, len(running(slurm))))  # it has just begun with its cell
    slurm.ask("scancel", third)
    slurm.wait_for(lambda: running(slurm))
    drained = slurm.states()[running(slurm)[0]][1]
    slurm.ask("scontrol", "update", f"nodename={drained}", "state=drain", "reason=a test")
    before = {job for job, (state, _) in slurm.states().items() if state in ("RUNNING", "COMPLETED", "COMPLETING")}
    out, err = process.communicate(timeout=1800)
    after = {job: node for job, (_, node) in slurm.states().items() if job not in before}
    slurm.ask("scontrol", "update", f"nodename={drained}", "state=resume")

    assert process.returncode == 1, (out, err, slurm.states())
    key = re.search(rf"^fairloop: cell (\w+): its job {third} was cancelled$", err, re.MULTILINE)[1]
    assert "sacct" not in out + err
    assert "Traceback" not in out + err
    assert set(after.values()) == {"one", "two"} - {drained}
    table = out[out.index("Cells") :]
    assert len(re.findall(r" complete ", table)) == 5
    assert re.search(rf" interrupted .* {key} ", table)
    assert locked(tmp_path) == []
    logs = "".join(path.read_text() for path in (tmp_path / "runs" / ".sweeps").rglob("*_log.*"))
    assert "this job is timed-out" in logs
    assert {name: files for name, files in finished.items() if name != key} == slow_cells.complete(tmp_path / "runs")

    again = sweep(slurm, grid, tmp_path)
    out, err = again.communicate(timeout=1800)
    assert (again.returncode, err) == (0, "")
    assert "5 complete, 0 to do, 1 interrupted" in out
    assert slow_cells.complete(tmp_path / "runs") == finished
    assert locked(tmp_path) == []


def test_a_job_that_may_not_be_requeued_and_one_that_is_killed(slurm, grid, finished, tmp_path):
    two = [*grid[:-1], ",".join(grid[-1].split(",")[:2])]
    process = sweep(slurm, two, tmp_path, "hydra.launcher.max_num_timeout=0")
    short, long = slurm.wait_for(lambda: jobs_at_work(slurm, tmp_path, 2))
    os.kill(process_of(short), signal.SIGKILL)
    slurm.ask("scontrol", "update", f"jobid={long}", "timelimit=1")
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert re.search(
        r"^fairloop: cell \w+: its job may not be requeued at its time limit again "
        r"\(hydra.launcher.timeout_min=10, hydra.launcher.max_num_timeout\)$",
        err,
        re.MULTILINE,
    )
    assert f"fairloop: a process of the launcher ended (job {short} ended without a result (" in err
    assert "Traceback" not in out + err
    done = slow_cells.complete(tmp_path / "runs")
    assert len(done) == 1  # the killed one was tried again
    assert done.items() <= finished.items()
    assert locked(tmp_path) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ("partition=nope", "hydra.launcher.partition=nope: must be of small"),
        ("gpus_per_node=1", "hydra.launcher.gpus_per_node=1: partition small has at most 0 GPUs in a node; null: none"),
        ("cpus_per_task=8", "hydra.launcher.cpus_per_task=8: partition small has at most 2 processors in a node"),
        ("mem_gb=32", "hydra.launcher.mem_gb=32: partition small has at most 3.9 GB in a node"),
        ("timeout_min=61", "hydra.launcher.timeout_min=61: partition small has at most 60 minutes for a job"),
        (
            "constraint=fast",
            "hydra.launcher: sbatch refuses the jobs: Batch job submission failed: Invalid feature specification",
        ),
    ],
)
def test_what_the_cluster_has_not_is_one_line_and_nothing_is_left(slurm, grid, tmp_path, changed, line):
    process = sweep(slurm, grid, tmp_path, f"hydra.launcher.{changed}")
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (2, f"fairloop: {line}\n")
    assert not (tmp_path / "runs").exists()
    assert slurm.ask("squeue", "-h", "--states=pending,running") == ""
