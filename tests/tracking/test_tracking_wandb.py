"""A cell's W&B run, read back from its transaction log."""

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from wandb_reader import ended_run, offline_runs

from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.tracking import wandb_run
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker, reason_to_stay_offline, tracked
from fairloop.tracking.wandb_service import SETTLED
from fairloop.tracking.wandb_sweep import log_sweep

HOSTILE = "<script>alert('é')</script> \u202e\U0001f469"


@pytest.fixture(autouse=True)
def no_key(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["RANK", "LOCAL_RANK"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def cell(tmp_path) -> Cell:
    return Cell.open(tmp_path / "runs", "recursion", {"seed": 1}, {"seed": 1})


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fairloop.tracking"]


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


NAMED = {"tags": ["gemma", "seed:1", "gemma"], "name": "gemma low seed 1", "group": "gemma low"}


def study(cell: Cell, settings: TrackingSettings, generations: int = 3, fail_at: int | None = None) -> None:
    with cell.working() as needed:
        if not needed:
            return
        choices = {"model": {"name": "gemma"}, "seed": 1}
        with tracked(settings, cell, choices, catalogue(), **NAMED) as tracker:
            before = []
            for generation in range(generations):
                stage = cell.stage(
                    f"corpus-{generation}",
                    lambda folder, g=generation: (folder / "corpus.parquet").write_bytes(b"PAR%d" % g) and None,
                )
                if generation == fail_at:
                    raise RuntimeError("stopped")
                measures = [
                    Measurement("rule/net_stereotype_rate", 0.1 * generation, 0.0, 0.5, 64),
                    Measurement("downstream/accuracy", float("nan") if generation == 0 else 0.5, None, None, 10),
                ]
                rows = [{"text": HOSTILE, "occupation": "nurse"}, {"text": "She works.", "occupation": "plumber"}]
                corpus = stage.folder / "corpus.parquet"
                refused = [{"reason": "a fragment", "text": HOSTILE}] if generation else []
                tracker.log_generation(generation, measures, rows, corpus, before, refused)
                before = [corpus]
            trained = cell.stage("train", weights).folder / "model"
            tracker.log_checkpoint("classifier", trained, {"epochs": 2}, made_from=before)
            cell.write_results({None: [Measurement("equilibrium/level", 0.12, None, None, 3)]})
            tracker.finish("complete", {"equilibrium/level": 0.12})


def weights(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "weights.safetensors").write_bytes(b"w")


def digest(generation: int) -> str:
    return hashlib.sha256(b"PAR%d" % generation).hexdigest()


def check_run(cell: Cell) -> None:
    run = ended_run(cell.folder)
    assert run.folder.parent == cell.folder / "wandb"
    assert (run.run_id, run.project, run.name) == (cell.key, "fairloop", "gemma low seed 1")
    assert (run.group, run.job_type, run.tags) == ("gemma low", "recursion", ["gemma", "seed:1"])
    assert run.config == {"model": {"name": "gemma"}, "seed": 1, "cell": cell.key, "sweep": "sweep-1"}
    assert run.series("rule/net_stereotype_rate") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    rate = {
        "metric": "rule/net_stereotype_rate",
        "generation": 1,
        "value": 0.1,
        "low": 0.0,
        "high": 0.5,
        "n": 64,
        "note": "",
    }
    assert run.measures()["rule/net_stereotype_rate", 1] == rate
    assert set(run.measures()) == {(metric, g) for metric in (rate["metric"], "downstream/accuracy") for g in range(3)}
    assert run.series("downstream/accuracy") == [(1, 0.5), (2, 0.5)]
    assert run.series("rule/net_stereotype_rate/distance") == run.series("rule/net_stereotype_rate")
    logged = {name for row in run.history for name in row if not name.startswith("_")} - {"generation", "measures"}
    assert {run.step_metrics[name] for name in logged} == {"generation"}
    panels = {name for name in logged if name not in run.hidden}
    assert panels == {"rule/net_stereotype_rate", "downstream/accuracy", "sentences", "rejected"}
    assert (run.summary["rule/net_stereotype_rate/low"], run.summary["rule/net_stereotype_rate/high"]) == (0.0, 0.5)
    goals = {name: goal for name, goal in run.goals.items() if goal}
    assert goals == {"rule/net_stereotype_rate/distance": "minimize", "downstream/accuracy": "maximize"}
    assert len(run.history) == 4
    for row in run.history[:3]:
        table = run.table(row)
        assert table["columns"] == ["generation", "text", "occupation"]
        assert table["data"][0] == [row["generation"], HOSTILE, "nurse"]
        if row["generation"]:
            assert run.table(row, "rejected")["data"] == [[row["generation"], "a fragment", HOSTILE]]
    corpora = [item for item in run.artifacts if item["type"] == "dataset"]
    assert [item["aliases"] for item in corpora] == [[f"generation-{generation}", "latest"] for generation in range(3)]
    for generation, item in enumerate(corpora):
        before = {f"corpus-{cell.key}:generation-{generation - 1}": digest(generation - 1)} if generation else {}
        assert item["name"] == f"corpus-{cell.key}"
        assert item["used"]
        assert item["made"]
        assert item["metadata"] == {
            "generation": generation,
            "cell": cell.key,
            "study": "recursion",
            "sha256": digest(generation),
            "made_from": before,
        }
        assert Path(item["files"]["corpus.parquet"]).read_bytes() == b"PAR%d" % generation
        assert Path(item["files"]["corpus.parquet"]).is_relative_to(cell.folder / "stages")
    (model,) = [item for item in run.artifacts if item["type"] == "model"]
    assert model["name"] == f"classifier-{cell.key}"
    assert set(model["files"]) == {"weights.safetensors"}
    assert model["metadata"]["made_from"] == {f"corpus-{cell.key}:generation-2": digest(2)}
    (scores,) = [item for item in run.artifacts if item["type"] == "scores"]
    assert (scores["name"], scores["used"]) == (f"scores-{cell.key}", False)
    assert {name: Path(path) for name, path in scores["files"].items()} == {
        name: cell.folder / name for name in ("config.yaml", "deciding.json", "metrics.csv", "result.json")
    }
    made_from = {f"corpus-{cell.key}:generation-{generation}": digest(generation) for generation in range(3)}
    made_from[f"classifier-{cell.key}:latest"] = model["metadata"]["sha256"]
    assert scores["metadata"]["made_from"] == made_from
    assert run.summary["equilibrium/level"] == 0.12
    assert run.summary["status"] == "complete"
    assert run.exit_code == 0


OFFLINE = TrackingSettings(mode="offline", sweep="sweep-1", system_metrics=False)


def test_offline_run_holds_everything(cell, capfd, caplog):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    study(cell, OFFLINE)
    check_run(cell)
    (line,) = said(caplog)
    assert line.startswith("Weights & Biases: offline (tracking.mode=offline); upload with: wandb sync ")
    assert Path(line.rsplit(" ", 1)[1]) == ended_run(cell.folder).folder
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_resumed_cell_has_one_complete_run(cell):
    with pytest.raises(RuntimeError):
        study(cell, OFFLINE, fail_at=2)
    failed = ended_run(cell.folder)
    assert failed.exit_code == 1
    assert failed.summary["status"] == "failed"
    time.sleep(1.1)  # W&B names its folders by the second
    study(cell, OFFLINE)
    check_run(cell)
    study(cell, OFFLINE)
    assert len(offline_runs(cell.folder)) == 1


def test_killed_process_leaves_one_run(cell, tmp_path):
    code = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_tracking_wandb as t
        from fairloop.tracking.wandb_run import WandbTracker
        log = WandbTracker.log_generation
        def slow(self, generation, *rest):
            log(self, generation, *rest)
            if generation == 1:
                print("now", flush=True)
                time.sleep(60)
        WandbTracker.log_generation = slow
        t.study(t.Cell.open({str(tmp_path / "runs")!r}, "recursion", {{"seed": 1}}, {{"seed": 1}}), t.OFFLINE)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(offline_runs(cell.folder)) == 1
    study(cell, OFFLINE)
    check_run(cell)


def test_a_synced_run_is_never_removed(cell):
    with pytest.raises(RuntimeError):
        study(cell, OFFLINE, fail_at=1)
    (synced,) = offline_runs(cell.folder)
    (synced / f"run-{cell.key}.wandb.synced").touch()
    time.sleep(1.1)
    study(cell, OFFLINE)
    assert synced in offline_runs(cell.folder)
    assert len(offline_runs(cell.folder)) == 2


def test_three_cells_in_one_process_are_three_runs(tmp_path):
    cells = [Cell.open(tmp_path, "recursion", {"seed": seed}, {}) for seed in range(3)]
    for one in cells:
        study(one, OFFLINE, generations=1)
    assert {ended_run(one.folder).run_id for one in cells} == {one.key for one in cells}
    assert len(offline_runs(tmp_path)) == 3


def test_closed_port_without_a_key(cell, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    study(cell, TrackingSettings(sweep="sweep-1"))
    check_run(cell)
    assert [line.split(";")[0] for line in said(caplog)] == ["Weights & Biases: offline (no API key)"]


def test_closed_port_with_a_key(cell, monkeypatch, caplog):
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    started = time.monotonic()
    assert reason_to_stay_offline("online") == f"{address} cannot be reached"
    assert time.monotonic() - started < 5
    study(cell, TrackingSettings(mode="online", sweep="sweep-1"))
    check_run(cell)
    assert [line.split(";")[0] for line in said(caplog)] == [f"Weights & Biases: offline ({address} cannot be reached)"]


def test_key_in_netrc_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    assert reason_to_stay_offline("auto") == "no API key"
    netrc = tmp_path / "netrc"
    host = os.environ["WANDB_BASE_URL"].removeprefix("http://")
    netrc.write_text(f"machine {host} login user password {'0' * 40}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert "cannot be reached" in reason_to_stay_offline("auto")


def test_mode_of_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert reason_to_stay_offline("auto") == "WANDB_MODE=offline"
    assert reason_to_stay_offline("online") == "no API key"


@pytest.mark.parametrize("mode", ["auto", "online", "offline"])
def test_disabled_writes_nothing(cell, monkeypatch, caplog, mode):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    settings = TrackingSettings(mode=mode)
    study(cell, settings)
    log_sweep(settings, [cell, Cell.open(cell.folder.parents[1], "recursion", {"seed": 2}, {})], catalogue())
    assert cell.complete
    assert not [path for path in cell.folder.parents[1].rglob("*") if "wandb" in path.name or path.name == ".sweeps"]
    assert said(caplog) == ["Weights & Biases: not used (WANDB_MODE=disabled)"]


@pytest.mark.parametrize(
    ("key", "of_run"),
    [
        ("system_metrics", lambda run: run.system),
        ("git", lambda run: run.commit),
        ("command", lambda run: run.command),
        ("packages", lambda run: "requirements.txt" in run.files),
    ],
)
def test_what_wandb_adds_by_itself_can_be_switched_off(cell, monkeypatch, tmp_path, key, of_run):
    repository = tmp_path / "runs"
    repository.mkdir()
    commit = ["-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-q", "--allow-empty", "-m", "mine"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", *words], cwd=repository, check=True)
    for wanted in (True, False):
        with tracked(TrackingSettings(mode="offline", **{key: wanted}), cell, {}, catalogue()) as tracker:
            tracker.log_scores([Measurement("lpbs/gap", 0.5, 0.25, 0.75, 8)])
            time.sleep(2.0 if key == "system_metrics" and wanted else 0)
        assert bool(of_run(ended_run(cell.folder))) is wanted
        shutil.rmtree(cell.folder / "wandb")


@pytest.mark.parametrize("mode", ["none", "offline"])
def test_one_line_is_said_whatever_is_shown_of_the_log(cell, tmp_path, mode):
    code = f"""
        import logging, sys
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_tracking_wandb as t
        settings = t.TrackingSettings(mode={mode!r})
        t.study(t.Cell.open({str(tmp_path / "runs")!r}, "recursion", {{"seed": 1}}, {{}}), settings)
        print([name for name in ("wandb", "torch") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    line, imported = done.stdout.splitlines()
    assert done.stderr == ""
    if mode == "none":
        assert (line, imported) == ("Weights & Biases: not used (tracking.mode=none)", "[]")
        assert not (cell.folder / "wandb").exists()
    else:
        assert line.startswith("Weights & Biases: offline (tracking.mode=offline)")
        assert imported == "['wandb']"


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK"])
def test_only_the_first_rank_tracks(cell, monkeypatch, rank):
    monkeypatch.setenv(rank, "1")
    with tracked(OFFLINE, cell, {}, catalogue()) as tracker:
        assert type(tracker) is Tracker
    assert not cell.folder.exists()


def test_an_error_of_wandb_is_reported_once_and_the_study_goes_on(cell, monkeypatch, caplog):
    def broken(*arguments: object) -> None:
        raise TypeError("not a\ntable")

    monkeypatch.setattr(wandb_run, "table", broken)
    study(cell, OFFLINE)
    assert cell.complete
    assert [line for line in said(caplog) if "upload with" not in line] == [
        "Weights & Biases: given up for this cell, the study goes on: not a table"
    ]


class OnlineRun:
    """Stands in for the service: what was logged under an id, and what the service remembers of it."""

    remembered: dict[str, dict] = {}  # noqa: RUF012

    def __init__(self, run_id: str) -> None:
        self.summary, self.rows, self.url = self.remembered.setdefault(run_id, {}), [], "https://example.invalid/run"
        self.artifacts: list[str] = []

    def define_metric(self, name: str, step_metric: str | None = None, hidden: bool = False) -> None: ...

    def log(self, row: dict) -> None:
        self.rows += [row["generation"]] if "generation" in row else []
        self.summary.update(row)

    def _log_artifact(self, artifact, aliases, **rest) -> None:
        self.artifacts += aliases

    def log_artifact(self, artifact, aliases) -> None:
        self.artifacts += aliases

    def finish(self, exit_code: int = 0) -> None: ...


def test_resumed_online_run_logs_only_what_is_missing(cell, monkeypatch):
    import wandb

    runs: list[OnlineRun] = []

    def init(**arguments: object) -> OnlineRun:
        assert (arguments["mode"], arguments["resume"], arguments["id"]) == ("online", "allow", cell.key)
        runs.append(OnlineRun(str(arguments["id"])))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_run, "reason_to_stay_offline", lambda mode: None)
    OnlineRun.remembered.clear()
    with pytest.raises(RuntimeError):
        study(cell, TrackingSettings(), fail_at=2)
    assert json.loads((cell.folder / "wandb" / "journal.json").read_text()) == [
        "generation/0",
        "dataset/corpus/generation-0",
        "generation/1",
        "dataset/corpus/generation-1",
    ]
    OnlineRun.remembered[cell.key]["generation"] = 0  # generation 1 was noted, but killed before it was sent
    study(cell, TrackingSettings())
    assert [run.rows for run in runs] == [[0, 1], [1, 2]]
    assert runs[1].artifacts == ["generation-1", "generation-2", "latest", "latest"]  # corpora, classifier, scores


def as_agent(monkeypatch, run_id: str) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1234567")
    monkeypatch.setenv("WANDB_RUN_ID", run_id)
    monkeypatch.setattr(wandb_run, "_agents_cell", [])


AGENT = """
    import sys
    sys.path.insert(0, {tests!r})
    import test_tracking_wandb as t
    cell = t.Cell.open({runs!r}, "recursion", {{"seed": 1}}, {{"seed": 1}})
    {call}
"""


def run_under_agent(tmp_path, run_id: str, call: str) -> subprocess.CompletedProcess:
    """In a process of its own, as an agent starts it: W&B reads an agent's variables once."""
    code = AGENT.format(tests=str(Path(__file__).parent), runs=str(tmp_path / "runs"), call=call)
    env = {**os.environ, "WANDB_SWEEP_ID": "s1234567", "WANDB_RUN_ID": run_id}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True)


def test_under_an_agent_the_run_is_the_agents(cell, tmp_path):
    done = run_under_agent(tmp_path, "agent-1", "t.study(cell, t.OFFLINE)")
    assert (done.stdout, done.stderr) == ("", "")
    run = ended_run(cell.folder)
    assert (run.run_id, run.sweep_id, run.config["cell"]) == ("agent-1", "s1234567", cell.key)
    assert (run.group, run.job_type) == ("gemma low", "recursion")
    assert run.series("rule/net_stereotype_rate") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert run.artifact(f"scores-{cell.key}")["made"]


def test_an_agents_run_holds_one_cell(tmp_path, monkeypatch, caplog):
    as_agent(monkeypatch, "agent-1")
    monkeypatch.setattr(wandb_run.WandbTracker, "start", lambda *_: None)
    cells = [Cell.open(tmp_path, "recursion", {"seed": seed}, {}) for seed in range(2)]
    kinds = []
    for one in (cells[0], cells[0], cells[1]):
        with tracked(OFFLINE, one, {}, catalogue()) as tracker:
            kinds.append(type(tracker).__name__)
    assert kinds == ["WandbTracker", "WandbTracker", "Tracker"]
    assert said(caplog) == [
        f"Weights & Biases: cell {cells[1].key} is not tracked: an agent's run holds one cell (no -m)"
    ]


def test_a_run_that_was_deleted_on_the_service_has_a_successor(cell, monkeypatch, caplog):
    import wandb

    begun = []

    def init(**arguments: object) -> OnlineRun:
        begun.append(arguments["id"])
        if len(begun) < 3:
            raise wandb.errors.CommError("409: run lab/x was previously created and deleted; try a new run name")
        return OnlineRun(str(arguments["id"]))

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_run, "reason_to_stay_offline", lambda mode: None)
    monkeypatch.delenv(SETTLED, raising=False)
    OnlineRun.remembered.clear()
    study(cell, TrackingSettings())
    assert begun == [cell.key, f"{cell.key}-2", f"{cell.key}-3"]
    assert said(caplog) == [
        f"Weights & Biases: the run {one} was deleted on the service: a new one is begun" for one in begun[:2]
    ]
    assert SETTLED not in os.environ
    assert (cell.folder / "wandb" / f"journal-{cell.key}-3.json").is_file()


def test_refusing_service_makes_the_run_offline(cell, monkeypatch, caplog):
    import wandb

    init = wandb.init

    def refuse(**arguments: object) -> object:
        if arguments["mode"] == "online":
            raise wandb.errors.CommError("403: invalid\nkey")
        return init(**arguments)

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setattr(wandb_run, "reason_to_stay_offline", lambda mode: None)
    study(cell, TrackingSettings(sweep="sweep-1"))
    check_run(cell)
    (line,) = said(caplog)
    assert line.startswith("Weights & Biases: offline (the service refused: 403: invalid key); upload with")
