"""Handing cells to a launcher that breaks, stops or finds cells busy; shares of the processor and of GPUs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from bench.sweep import plan, write_cell
from omegaconf import OmegaConf

from fairloop import composition
from fairloop.errors import Fault, UserError
from fairloop.sweep import launch, resources, slurm
from fairloop.sweep.jobs import Outcome
from fairloop.sweep.launch import check_plugins, run_cells
from fairloop.sweep.resources import Share, check_gpu_share, check_ray, share_of


class FakeLauncher:
    """A launcher whose every batch does what the test says, to the store, and then returns or breaks."""

    def __init__(self, folder, script, batch=None):
        self.folder, self.batch, self.script, self.given = folder, batch, list(script), []
        silent = lambda **_: None  # noqa: E731
        self.context = SimpleNamespace(callbacks=SimpleNamespace(on_multirun_start=silent, on_multirun_end=silent))
        self.config = None

    def launch(self, task, jobs, first):
        self.given.append((task, [job.configuration.seed for job in jobs]))
        return self.script.pop(0)(jobs)


def done(jobs):
    for job in jobs:
        if not job.cell.complete:
            shutil.rmtree(job.cell.folder, ignore_errors=True)
            write_cell(job)
    return [Outcome(job.cell.folder, "done") for job in jobs]


def killed(*seeds):
    """The processes of these cells die and take the launcher with them; the cells before them are complete."""

    def launch(jobs):
        for job in jobs:
            if job.configuration.seed in seeds:
                job.cell.folder.mkdir(parents=True, exist_ok=True)
                record = {"status": "running", "started": datetime.now(UTC).isoformat(timespec="seconds")}
                (job.cell.folder / "status.json").write_text(json.dumps(record))
            elif job.configuration.seed < min(seeds):
                done([job])
        raise RuntimeError("a worker was terminated")

    return launch


def reporting(**states):
    def launch(jobs):
        return [Outcome(job.cell.folder, states.get(f"seed{job.configuration.seed}", "done")) for job in jobs]

    return launch


@pytest.fixture
def five(tmp_path):
    return plan(["seed=range(5)", "tracking=none", f"runs_dir={tmp_path}/runs"])


def test_a_broken_launcher_is_started_again_for_what_is_missing(five, tmp_path):
    launcher = FakeLauncher(tmp_path / "sweep", [killed(2, 3), done])
    assert run_cells(launcher, five, "task", "waits") == []
    assert [seeds for _, seeds in launcher.given] == [[0, 1, 2, 3, 4], [2, 3, 4]]


def test_a_cell_whose_process_is_killed_again_is_given_up(five, tmp_path):
    launcher = FakeLauncher(tmp_path / "sweep", [killed(2), killed(2), done])
    (failure,) = run_cells(launcher, five, "task", "waits")
    assert (failure.cell, failure.state, failure.exit_status) == (five[2].cell.folder, "failed", 1)
    assert "killed 2 times" in failure.line
    assert [seeds for _, seeds in launcher.given] == [[0, 1, 2, 3, 4], [2, 3, 4], [3, 4]]


def test_a_launcher_that_starts_nothing_is_a_fault(five, tmp_path):
    def refuses(jobs):
        raise RuntimeError("no such partition")

    with pytest.raises(Fault, match="no such partition"):
        run_cells(FakeLauncher(tmp_path / "sweep", [refuses]), five, "task", "waits")


def test_a_job_that_was_cancelled_is_not_started_again_and_one_that_died_is(five, tmp_path):
    """Each job ends for itself: what became of one says nothing of the others."""

    def launch(jobs):
        for job in jobs[1:3]:
            job.cell.folder.mkdir(parents=True, exist_ok=True)
            record = {"status": "running", "started": datetime.now(UTC).isoformat(timespec="seconds")}
            (job.cell.folder / "status.json").write_text(json.dumps(record))
        one, _, _, *others = jobs
        cancelled = slurm.JobEndedError("job 7_1 was cancelled", on_purpose=True)
        died = slurm.JobEndedError("job 7_2 ended without a result (node_fail)", on_purpose=False)
        return [*done([one]), cancelled, died, *done(others)]

    launcher = FakeLauncher(tmp_path / "sweep", [launch, done])
    (failure,) = run_cells(launcher, five, "task", "waits")
    assert (failure.cell, failure.state, failure.exit_status) == (five[1].cell.folder, "failed", 1)
    assert failure.line == f"cell {five[1].cell.key}: its job 7_1 was cancelled"
    assert [seeds for _, seeds in launcher.given] == [[0, 1, 2, 3, 4], [2]]


def test_a_launcher_that_refuses_leaves_nothing(five, tmp_path):
    def refuses(jobs):
        raise UserError("hydra.launcher: sbatch refuses the jobs: no")

    sweep = tmp_path / "runs" / ".sweeps" / "now"
    with pytest.raises(UserError, match="sbatch refuses"):
        run_cells(FakeLauncher(sweep, [refuses]), five, "task", "waits")
    assert not (tmp_path / "runs").exists()


NODES = """\
small*|2|4000|1:00:00|(null)
gpu|64+|515000+|2-00:00:00|gpu:a100:4(S:0-1),shard:16
gpu|16|96000|2-00:00:00|gpu:7g.80gb:2
endless|8|16000|infinite|gpu
"""


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"partition": "nope"}, "partition=nope: must be of endless, gpu, small"),
        ({"partition": "gpu,nope"}, "partition=gpu,nope: must be of endless, gpu, small"),
        ({}, "gpus_per_node=1: partition small has at most 0 GPUs in a node; null: none"),
        ({"gpus_per_node": None, "cpus_per_task": 8}, "cpus_per_task=8: partition small has at most 2 processors"),
        ({"gpus_per_node": None, "timeout_min": 61}, "timeout_min=61: partition small has at most 60 minutes"),
        ({"gpus_per_node": None, "mem_gb": 4}, "mem_gb=4: partition small has at most 3.9 GB in a node"),
        ({"partition": "gpu", "gpus_per_node": 5}, "gpus_per_node=5: partition gpu has at most 4 GPUs"),
        ({"partition": "gpu", "timeout_min": 2881}, "timeout_min=2881: partition gpu has at most 2880 minutes"),
        ({"partition": "endless", "gpus_per_node": 2}, "gpus_per_node=2: partition endless has at most 1 GPUs"),
        ({"partition": "endless,gpu", "timeout_min": 10**6, "cpus_per_task": 64, "mem_gb": 500}, None),
        ({"gpus_per_node": None}, None),
    ],
)
def test_what_a_partition_has_not_is_said_before_a_job_is_sent(monkeypatch, chosen, line):
    monkeypatch.setattr(slurm, "_ask", lambda *command: NODES.splitlines())
    usual = {"partition": None, "cpus_per_task": 1, "gpus_per_node": 1, "mem_gb": 1, "timeout_min": 60}
    launcher = OmegaConf.create({**usual, **chosen})
    if line is None:
        slurm.check_slurm(launcher)
    else:
        with pytest.raises(UserError, match=rf"^hydra\.launcher\.{re.escape(line)}"):
            slurm.check_slurm(launcher)


def test_without_slurm_the_line_says_where_to_start(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sinfo is no command here; start it on a machine of the cluster"):
        slurm.check_slurm(OmegaConf.create({"partition": None}))


def test_a_ray_where_nobody_answers_is_one_line(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (None, "auto", "local", f"127.0.0.1:{port}", f"ray://localhost:{port}"):
            check_ray(OmegaConf.create({"ray": {"init": {"address": address}}}))
    for address, why in ((f"127.0.0.1:{port}", "nobody answers there"), ("head", "must be auto or host:port")):
        with pytest.raises(UserError, match=rf"^hydra\.launcher\.ray\.init\.address={address}: {why}"):
            check_ray(OmegaConf.create({"ray": {"init": {"address": address}}}))


def test_busy_cells_come_last_and_are_waited_for(five, tmp_path):
    launcher = FakeLauncher(tmp_path / "sweep", [reporting(seed0="busy", seed3="busy"), done])
    assert run_cells(launcher, five, "task", "waits") == []
    assert launcher.given == [("task", [0, 1, 2, 3, 4]), ("waits", [0, 3])]


def test_batches_and_a_failure_that_stops_the_rest(tmp_path):
    jobs = plan(["seed=range(5)", "on_failure=stop", "tracking=none", f"runs_dir={tmp_path}/runs"])
    launcher = FakeLauncher(tmp_path / "sweep", [done, reporting(seed2="failed")], batch=2)
    failures = run_cells(launcher, jobs, "task", "waits")
    assert [seeds for _, seeds in launcher.given] == [[0, 1], [2, 3]]
    assert [(one.cell, one.state) for one in failures] == [
        (jobs[2].cell.folder, "failed"),
        (jobs[4].cell.folder, "left"),
    ]


def test_a_failure_that_stops_nothing(five, tmp_path):
    launcher = FakeLauncher(tmp_path / "sweep", [done, reporting(seed2="failed"), done], batch=2)
    (failure,) = run_cells(launcher, five, "task", "waits")
    assert failure.cell == five[2].cell.folder
    assert [seeds for _, seeds in launcher.given] == [[0, 1], [2, 3], [4]]


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "jobs", "expected"),
    [
        ([], 12, Share(1, None)),
        (["hydra/launcher=fairloop_joblib"], 12, Share(2, 4)),
        (["hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=3"], 12, Share(3, 2)),
        (["hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=6"], 2, Share(2, 4)),
        (["hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=-2"], 12, Share(7, 1)),
        (["hydra/launcher=joblib"], 12, Share(8, 1)),
        (["hydra/launcher=fairloop_submitit"], 12, Share(8, 1, waves=True)),
        (["hydra/launcher=fairloop_submitit", "hydra.launcher.cpus_per_task=3"], 12, Share(2, 3, waves=True)),
        (["hydra/launcher=fairloop_slurm"], 500, Share(64, 8, here=False)),
        (["hydra/launcher=fairloop_ray", "hydra.launcher.ray.remote.num_cpus=2"], 12, Share(4, 2)),
        (["hydra/launcher=fairloop_ray", "hydra.launcher.ray.init.num_cpus=5"], 12, Share(5, 1)),
        (["hydra/launcher=fairloop_ray", "hydra.launcher.ray.init.address=auto"], 12, Share(None, 1, here=False)),
    ],
)
def test_cells_share_eight_cores_out(overrides, jobs, expected, monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    with composition.composer():
        launcher = composition.compose_config(overrides, with_hydra=True).hydra.launcher
    share = share_of(launcher, jobs)
    assert share == expected
    if share.threads and share.cells and "slurm" not in str(overrides):
        assert share.cells * share.threads <= 8


def test_ray_gives_each_cell_its_share_of_a_gpu():
    with composition.composer():
        overrides = ["hydra/launcher=fairloop_ray", "gpu_share=0.25"]
        launcher = composition.compose_config(overrides, with_hydra=True).hydra.launcher
        remote = OmegaConf.to_container(launcher.ray.remote, resolve=True)
    assert remote["num_gpus"] == 0.25


JOBLIB = OmegaConf.create({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"})


def test_more_cells_than_shares_of_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    check_gpu_share(0.5, JOBLIB, Share(4, 1))
    check_gpu_share(None, JOBLIB, Share(40, 1))
    with pytest.raises(UserError, match=r"gpu_share=0\.5"):
        check_gpu_share(0.5, JOBLIB, Share(5, 1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_gpu_share(0.5, JOBLIB, Share(5, 1))


TAKE = """
import os, sys
from omegaconf import OmegaConf
from fairloop.sweep.resources import take_gpu_share
launcher = OmegaConf.create({"_target_": "JoblibLauncher"})
take_gpu_share(1.0, launcher)
take_gpu_share(1.0, launcher)  # the next cell of the same process keeps it
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def test_processes_get_different_gpus_and_a_dead_one_gives_its_own_back(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,7", "TMPDIR": str(tmp_path)}

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", TAKE], env=environment, **pipes)

    first, second = start(), start()
    taken = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert taken == {"4", "7"}
    third = start()
    assert "waiting" in third.stderr.readline()
    first.kill()
    assert third.stdout.readline().strip() in taken
    for process in (first, second, third):
        process.kill()
        process.communicate()


def test_a_launcher_without_its_package_says_what_to_install(monkeypatch):
    check_plugins(["hydra/launcher=basic", "seed=3"])
    monkeypatch.setattr(launch, "is_installed", lambda module: False)
    for line in ("hydra/launcher=fairloop_ray", "hydra/launcher=submitit_slurm", "hydra/sweeper=fairloop_optuna"):
        with pytest.raises(UserError, match=r"-m pip install .*(hydra-(ray|submitit)-|optuna>=4)"):
            check_plugins([line])
    # What an environment of before still has, which brings choices of the same names.
    monkeypatch.setattr(launch, "is_installed", lambda module: True)
    with pytest.raises(UserError, match=r"in its way: .* -m pip uninstall hydra-optuna-sweeper$"):
        check_plugins(["hydra/sweeper=fairloop_optuna"])


TERMINATED = """
import os, time
from joblib import Parallel, delayed
from omegaconf import OmegaConf
from fairloop.sweep.launch import _ending_workers_too

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)

with _ending_workers_too(OmegaConf.create({"_target_": "plugins.JoblibLauncher"})):
    Parallel(n_jobs=2, backend="loky")(delayed(work)() for _ in range(2))
"""


def test_a_terminated_command_ends_the_workers_of_joblib_without_a_word():
    """They went on with their cells, and joblib told of leaked semaphores and folders when they had ended."""
    command = subprocess.Popen([sys.executable, "-c", TERMINATED], stdout=-1, stderr=-1, text=True)
    workers = [int(command.stdout.readline()) for _ in range(2)]
    command.terminate()
    assert command.wait(120) == 128 + signal.SIGTERM
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert command.communicate(timeout=120) == ("", "")


def test_another_launcher_leaves_the_signal_as_it_is():
    before = signal.getsignal(signal.SIGTERM)
    with launch._ending_workers_too(OmegaConf.create({"_target_": "plugins.BasicLauncher"})):
        assert signal.getsignal(signal.SIGTERM) == before
