"""A search whose study is in a real PostgreSQL: two workers, one of which is killed, and both launchers of clusters."""

import json
import os
import re
import signal
import time
import zlib
from contextlib import ExitStack

import pytest
import slow_cells
import slurm_cluster
from postgresql import database, missing
from slow_cells import start
from stand_in_server import serving

from fairloop.errors import UserError
from fairloop.packages import is_installed
from fairloop.sweep.study_storage import open_storage
from fairloop.sweep.trials import RETRY
from tiny_models import tiny_encoder

NAME = "search-of-levels"
SLURM = [
    "hydra/launcher=fairloop_slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.timeout_min=30",
]
pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with database(tmp_path_factory.mktemp("postgresql")) as made:
        yield made


@pytest.fixture(scope="module")
def server():
    """Serve texts at a pace at which a trial takes some seconds."""

    def answer(asked):
        time.sleep(0.2)
        who = re.findall(r'with the words? "(.+?)"\.', asked.prompt)[-1]
        number = zlib.crc32(json.dumps(asked.body).encode())  # trials get texts of their own, or they share stages
        return f"The {who} said that {('he', 'she')[number % 2]} wrote letter {number}."

    with serving(answer, models=["org/model"]) as made:
        yield made


@pytest.fixture
def search(address, server, tmp_path):
    """Return the overrides of a search, in a study of its own."""
    encoder = tiny_encoder(tmp_path / "encoder")
    model = ["model=openai_server", "model.path=org/model", f"model.url={server.url}", "model.concurrency=1"]
    small = ["study.sentences=12", "study.generations=1", "study.examples=2", "study.prompt_group=6"]
    plain = [f"study.encoder={encoder}", "study.resamples=100", "trainer.threads=1", "tracking=none"]
    sweeper = ["hydra/sweeper=fairloop_optuna", f"hydra.sweeper.storage={address}"]
    named = [f"hydra.sweeper.study_name={NAME}-{tmp_path.name}", "objective=rule/net_stereotype_rate@1"]
    return ["-m", *model, *small, *plain, *sweeper, *named, "initial_bias.level=interval(0.1,0.6)"]


def trials(address, folder):
    import optuna

    storage = open_storage(address)
    if f"{NAME}-{folder.name}" not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name=f"{NAME}-{folder.name}", storage=storage).get_trials()


def states(address, folder):
    return [trial.state.name for trial in trials(address, folder)]


def until(true, *processes, seconds=900):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].communicate()
        time.sleep(0.1)
    return found


def test_two_workers_share_a_study_and_one_is_killed_in_the_middle(search, address, tmp_path):
    six = [*search, "hydra.sweeper.n_trials=6"]
    workers = [start(*six, cwd=tmp_path, start_new_session=True) for _ in range(2)]

    def both_at_work():
        now = states(address, tmp_path)
        return now.count("RUNNING") == 2 and now.count("COMPLETE") >= 2

    until(both_at_work, *workers)
    os.killpg(workers[0].pid, signal.SIGKILL)
    workers[0].communicate()
    again = start(*six, cwd=tmp_path)
    for worker in (workers[1], again):
        out, err = worker.communicate(timeout=1800)
        assert (worker.returncode, err) == (0, "")
        assert len(re.findall(r" complete ", out[out.index("Search") :])) == 6
    found = trials(address, tmp_path)
    complete = [trial for trial in found if trial.state.name == "COMPLETE"]
    assert len({trial.params["initial_bias.level"] for trial in complete}) == len(complete) == 6
    (lost,) = [trial.number for trial in found if trial.state.name != "COMPLETE"]
    (retried,) = [trial for trial in complete if trial.user_attrs.get(RETRY) == lost]
    assert retried.params == found[lost].params
    assert not list((tmp_path / "runs" / ".sweeps").glob("workers/*"))
    done = slow_cells.fairloop(*search, "hydra.sweeper.n_trials=7", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 trials complete, 1 to do" in done.stdout
    assert len(slow_cells.cells(tmp_path / "runs")) == 7


@pytest.mark.parametrize("scheduler", ["slurm", "ray"])
def test_cells_of_a_search_report_to_it_from_wherever_they_run(scheduler, search, address, tmp_path, tmp_path_factory):
    two = [*search, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "hydra/sweeper/pruner=median"]
    if scheduler == "ray" and not is_installed("hydra_plugins.hydra_ray_launcher"):
        pytest.skip("the extra `ray` is not installed")
    if scheduler == "slurm" and (why := slurm_cluster.missing(accounting=False)):
        pytest.skip(why)
    with ExitStack() as stack:
        launcher, environment = ["hydra/launcher=fairloop_ray", "hydra.launcher.ray.init.num_cpus=2"], {}
        if scheduler == "slurm":
            folder = tmp_path_factory.mktemp("slurm")
            environment = stack.enter_context(slurm_cluster.cluster(folder, accounting=False)).environment
            launcher = SLURM
        done = slow_cells.fairloop(*two, *launcher, cwd=tmp_path, env=environment, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = trials(address, tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 4
    assert all(trial.intermediate_values == {1: trial.value} for trial in found)
    assert len(slow_cells.cells(tmp_path / "runs")) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda url: re.sub(r":\w+@", ":another@", url), "password authentication failed"),
        (lambda url: f"{url}2", 'database "postgres2" does not exist'),
        (lambda url: re.sub(r":\d+/", ":9/", url), "Connection refused"),
    ],
)
def test_a_database_that_does_not_open_is_one_line(changed, said, address):
    with pytest.raises(UserError) as caught:
        open_storage(changed(address))
    assert said in str(caught.value)
    assert str(caught.value).startswith("hydra.sweeper.storage=postgresql://fair:***@")
