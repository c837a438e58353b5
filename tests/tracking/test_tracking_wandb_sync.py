"""Offline runs are uploaded with `wandb sync`, to a stand-in for the service on the loopback."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from test_tracking_wandb import HOSTILE, OFFLINE, digest, no_key, study  # noqa: F401 (no_key is a fixture)
from wandb_reader import offline_runs
from wandb_service import Service, serving

from fairloop.catalogue import catalogue
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_sweep import log_sweep, sweep_id


@pytest.fixture
def service():
    with serving() as one:
        yield one


def finished(runs: Path, seed: int) -> Cell:
    cell = Cell.open(runs, "recursion", {"seed": seed}, {"seed": seed})
    study(cell, OFFLINE)
    return cell


def sync(service: Service, *folders: Path) -> subprocess.Popen:
    """Start the command of the guide, as a process group of its own, where it may leave its log."""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
    env = {**os.environ, "WANDB_BASE_URL": service.address, "WANDB_API_KEY": "0" * 40}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, cwd=folders[0], start_new_session=True, **pipes)


def synced(service: Service, *folders: Path) -> str:
    process = sync(service, *folders)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    return said


def check_served(service: Service, cell: Cell) -> None:
    run = service.runs[cell.key]
    settings = run.settings
    assert (settings["project"], settings["groupName"], settings["jobType"]) == ("fairloop", "gemma low", "recursion")
    assert settings["displayName"] == "gemma low seed 1"
    assert settings["tags"] == ["gemma", "seed:1"]
    assert (run.config["cell"], run.config["sweep"]) == (cell.key, "sweep-1")
    rows = [row for row in run.history if "generation" in row]
    assert [(row["generation"], row["rule/net_stereotype_rate"]) for row in rows] == [(0, 0), (1, 0.1), (2, 0.2)]
    assert [row["_step"] for row in rows] == [0, 1, 2]
    assert [row["rule/net_stereotype_rate/distance"] for row in rows] == [0, 0.1, 0.2]
    assert run.summary["equilibrium/level"] == 0.12
    assert run.summary["status"] == "complete"
    assert run.summary["downstream/accuracy"] == 0.5  # the last generation's, not a table of aggregates
    assert run.exit_code == 0
    metrics = {one["1"]: one for one in run.config["_wandb"]["m"] if "1" in one}
    goals = {name: one["8"] for name, one in metrics.items() if "8" in one}  # 8: the goal; 1: minimize, 2: maximize
    assert goals == {"rule/net_stereotype_rate/distance": 1, "downstream/accuracy": 2}
    for row in rows:
        assert json.loads(run.files[row["sentences"]["path"]])["data"][0] == [row["generation"], HOSTILE, "nurse"]
    mine = [one for one in service.artifacts.values() if one.collection.endswith(cell.key)]
    assert all(one.state == "COMMITTED" for one in mine)
    corpora = {one.metadata["generation"]: one for one in mine if one.kind == "dataset"}
    assert {generation: one.files for generation, one in corpora.items()} == {
        generation: {"corpus.parquet": b"PAR%d" % generation} for generation in range(3)
    }
    made_from = {"made_from": {f"corpus-{cell.key}:generation-1": digest(1)}, "sha256": digest(2)}
    assert made_from.items() <= corpora[2].metadata.items()
    assert {"latest", "generation-2"} == set(corpora[2].aliases)
    (scores,) = [one for one in mine if one.kind == "scores"]
    assert scores.files == {
        name: (cell.folder / name).read_bytes()
        for name in ("config.yaml", "deciding.json", "metrics.csv", "result.json")
    }
    # What the run made and read again is its output and its input; scores are an output.
    lineage = {one.kind: (one.logged_by, set(one.used_by)) for one in mine if one.kind != "run_table"}
    key = cell.key
    assert lineage == {"dataset": (key, {key}), "model": (key, {key}), "scores": (key, set())}


def test_syncing_sends_history_summary_tables_and_artifacts_once(service, tmp_path):
    cells = [finished(tmp_path / "runs", seed) for seed in range(2)]
    log_sweep(OFFLINE, cells, catalogue())
    runs = tmp_path / "runs"
    synced(service, *sorted(runs.glob("*/*/wandb")), runs / ".sweeps" / "wandb")
    assert set(service.runs) == {cells[0].key, cells[1].key, sweep_id(cells)}
    for cell in cells:
        check_served(service, cell)
    sweep = service.runs[sweep_id(cells)]
    assert (sweep.settings["jobType"], sweep.config["sweep"]) == ("sweep", "sweep-1")
    table = json.loads(sweep.files[sweep.history[0]["cells"]["path"]])
    assert [row[table["columns"].index("cell")] for row in table["data"]] == [cell.key for cell in cells]
    uploads = len(service.uploads)
    assert "Skipped" in synced(service, *sorted(runs.glob("*/*/wandb")))
    assert len(service.uploads) == uploads


def test_an_interrupted_upload_can_be_repeated(service, tmp_path):
    cell = finished(tmp_path / "runs", 1)
    service.stall_after = 3
    process = sync(service, cell.folder / "wandb")
    assert service.stalled.wait(60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(cell.folder.rglob("*.wandb.synced"))
    states = [one.state for one in service.artifacts.values()]
    assert "PENDING" in states
    service.stall_after = None
    service.release.set()
    synced(service, cell.folder / "wandb")
    check_served(service, cell)
    assert len(list(cell.folder.rglob("*.wandb.synced"))) == 1
    assert len(service.runs) == 1
    # A cell that is begun again after an upload keeps what was uploaded, and its next upload adds no row.
    (cell.folder / "result.json").write_text("{}")
    time.sleep(1.1)  # W&B names its folders by the second
    study(cell, OFFLINE)
    assert len(offline_runs(cell.folder)) == 2
    synced(service, cell.folder / "wandb")
    check_served(service, cell)
    assert len(service.runs) == 1


ONLINE = """
    import logging, sys
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.path.insert(0, {tests!r})
    import test_tracking_wandb as t
    cell = t.Cell.open({runs!r}, "recursion", {{"seed": 1}}, {{"seed": 1}})
    try:
        t.study(cell, t.TrackingSettings(mode="online", sweep="sweep-1"), fail_at={fail_at})
    except RuntimeError:
        pass
"""


def run_online(service: Service, runs: Path, fail_at: int | None = None, **more: str) -> Cell:
    """Run the toy study in a process of its own, for W&B reads its variables once."""
    code = textwrap.dedent(ONLINE.format(tests=str(Path(__file__).parent), runs=str(runs), fail_at=fail_at))
    env = {**os.environ, "WANDB_BASE_URL": service.address, "WANDB_API_KEY": "0" * 40, **more}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Weights & Biases" not in done.stderr, done.stderr  # no warning
    return Cell.open(runs, "recursion", {"seed": 1}, {"seed": 1})


def test_an_online_run_is_what_an_uploaded_one_is(service, tmp_path):
    check_served(service, run_online(service, tmp_path / "runs"))


def test_a_failed_cell_continues_its_online_run(service, tmp_path):
    cell = run_online(service, tmp_path / "runs", fail_at=2)
    assert service.runs[cell.key].summary["status"] == "failed"
    assert len(service.runs[cell.key].history) == 2
    uploads = [place for place in service.uploads if "corpus.parquet" in place]
    assert run_online(service, tmp_path / "runs").complete
    check_served(service, cell)
    assert len(service.runs) == 1
    again = [place for place in service.uploads if "corpus.parquet" in place]
    assert (len(uploads), len(again)) == (2, 3)  # what the service has is not sent again


def test_an_agents_run_belongs_to_its_sweep(service, tmp_path):
    cell = run_online(service, tmp_path / "runs", WANDB_SWEEP_ID="s1234567", WANDB_RUN_ID="agent-1")
    (run,) = service.runs.values()
    assert (run.run_id, run.settings["sweep"], run.config["cell"]) == ("agent-1", "s1234567", cell.key)
    assert run.summary["rule/net_stereotype_rate/distance"] == 0.2
    assert run.exit_code == 0
