"""The sweep's own run, and the sweep of W&B that drives `fairloop` as its program."""

import itertools
import logging
import shutil
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image
from test_tracking_wandb import no_key, said  # noqa: F401 (no_key is a fixture)
from wandb_reader import ended_run, offline_runs

from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.tracking import wandb_sweep
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_sweep import comparison, log_sweep, sweep_id

OFFLINE = TrackingSettings(mode="offline", sweep="sweep-1")


def config(level: float, *strategies: str, rank: int = 8) -> dict:
    settings = {"finetune": {"weights": "lora", "lora": {"rank": rank}}}
    return {
        "study": {"name": "recursion", "generations": 2},
        "initial_bias": {"level": level},
        "mitigation": {name: settings.get(name, {}) for name in strategies},
        "tracking": {"mode": "offline"},
        "runs_dir": f"somewhere/{level}",
        "seed": 1,
    }


def cell(runs: Path, chosen: dict, bias: list[float] | None, error: str = "out of memory") -> Cell:
    """A finished cell with the bias of each generation, or one that failed."""
    one = Cell.open(runs, "recursion", {**chosen, "runs_dir": ""}, chosen)
    try:
        with one.working() as unfinished:
            if unfinished:
                if bias is None:
                    raise RuntimeError(error)
                measures = {
                    generation: [
                        Measurement("downstream/bias", value, None, None, 9),
                        Measurement("mitigated/downstream/bias", value / 2, None, None, 9),
                        Measurement("downstream/accuracy", 0.5 + value, None, None, 9),
                        Measurement("downstream/chance", 0.1, None, None, 9),
                    ]
                    for generation, value in enumerate(bias)
                }
                one.write_results({**measures, None: [Measurement("lpbs/gap", 2.0, None, None, 9)]})
    except RuntimeError:
        pass
    return one


@pytest.fixture
def cells(tmp_path) -> list[Cell]:
    runs = tmp_path / "runs"
    return [
        cell(runs, config(0.1), [0.3, -0.4]),
        cell(runs, config(0.6, "augment", "prompt"), [0.3, 0.2]),
        cell(runs, config(0.6, "finetune", rank=4), None),
        Cell.open(runs, "recursion", {"never": "started"}, config(0.6, "finetune", rank=16)),
    ]


def test_the_table_has_the_choices_that_differ_status_and_headlines(cells):
    rows = comparison(cells, catalogue())
    assert [row["cell"] for row in rows] == [cell.key for cell in cells]
    assert [row["status"] for row in rows] == ["complete", "complete", "failed", "absent"]
    assert rows[2]["reason"] == "RuntimeError: out of memory"
    assert [row["mitigation"] for row in rows] == ["none", "augment+prompt", "finetune", "finetune"]
    assert [row["initial_bias.level"] for row in rows] == [0.1, 0.6, 0.6, 0.6]
    assert [row["mitigation.finetune.lora.rank"] for row in rows] == [None, None, 4, 16]
    for same in ("seed", "study.generations", "runs_dir", "tracking.mode"):
        assert not [row for row in rows if same in row]
    assert (rows[0]["downstream/bias"], rows[0]["downstream/bias/distance"]) == (-0.4, 0.4)
    assert rows[1]["mitigated/downstream/bias"] == 0.1
    assert (rows[1]["downstream/accuracy"], rows[1]["lpbs/gap/distance"]) == (0.7, 2.0)
    assert "downstream/chance" not in rows[0]
    assert "downstream/bias" not in rows[2]


def test_a_sweep_is_one_run_that_the_same_command_continues(cells, tmp_path, caplog):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    picture, numbers = tmp_path / "bias_by_generation.png", tmp_path / "equilibrium.csv"
    Image.new("RGB", (4, 4)).save(picture)
    numbers.write_text("condition,level,slope\ngemma,0.12,\nother,,0.5\n")
    files = [picture, numbers, tmp_path / "report.html"]
    log_sweep(OFFLINE, cells, catalogue(), files)
    place = tmp_path / "runs" / ".sweeps"
    run = ended_run(place)
    assert (run.run_id, run.name) == (sweep_id(cells), "recursion: 4 cells")
    assert (run.config["sweep"], run.job_type, run.tags) == ("sweep-1", "sweep", ["sweep", "recursion"])
    assert run.config["cells"] == sorted(cell.key for cell in cells)
    (row,) = run.history
    table = run.table(row, "cells")
    assert [dict(zip(table["columns"], line, strict=True)) for line in table["data"]] == [
        {**dict.fromkeys(table["columns"]), **one} for one in comparison(cells, catalogue())
    ]
    equilibrium = run.table(row, "report/equilibrium_table")
    assert equilibrium["data"] == [["gemma", 0.12, None], ["other", None, 0.5]]
    assert row["report/bias_by_generation"]["_type"] == "image-file"
    assert run.summary["cells/all"] == 4
    assert (run.summary["cells/complete"], run.summary["cells/failed"]) == (2, 1)
    assert run.summary["best/downstream/bias/distance"] == 0.2
    assert run.summary["best/downstream/accuracy"] == 0.7
    assert "best/downstream/bias" not in run.summary
    assert run.goals["best/downstream/bias/distance"] == "minimize"
    assert run.goals["best/downstream/accuracy"] == "maximize"
    assert said(caplog)[-1] == f"Weights & Biases: the sweep's table; upload with: wandb sync {place / 'wandb'}"

    log_sweep(OFFLINE, cells[::-1][::-1], catalogue(), files)  # nothing new: nothing is logged
    assert ended_run(place).folder == run.folder
    time.sleep(1.1)  # W&B names its folders by the second
    (tmp_path / "runs" / "recursion" / cells[2].key / "status.json").unlink()
    log_sweep(OFFLINE, cells, catalogue(), files)
    again = ended_run(place)  # still one run
    assert (again.run_id, again.summary["cells/failed"]) == (run.run_id, 0)
    assert again.folder != run.folder


def test_the_id_is_of_the_cells_not_of_their_order(cells):
    assert sweep_id(cells) == sweep_id(cells[::-1])
    assert sweep_id(cells) != sweep_id(cells[:3])


def test_one_cell_no_tracking_and_agents_have_no_sweep_run(cells, tmp_path, monkeypatch):
    log_sweep(OFFLINE, cells[:1], catalogue())
    log_sweep(TrackingSettings(mode="none"), cells, catalogue())
    monkeypatch.setenv("RANK", "1")
    log_sweep(OFFLINE, cells, catalogue())
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    log_sweep(OFFLINE, cells, catalogue())
    assert not (tmp_path / "runs" / ".sweeps").exists()


def test_no_error_fails_the_command_and_the_next_one_tries_again(cells, tmp_path, monkeypatch, caplog):
    def broken(*arguments: object) -> None:
        raise TypeError("not a\ntable")

    monkeypatch.setattr(wandb_sweep, "table", broken)
    log_sweep(OFFLINE, cells, catalogue())
    assert said(caplog) == ["Weights & Biases: the sweep's table is not logged: not a table"]
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "runs" / ".sweeps")
    log_sweep(OFFLINE, cells, catalogue())
    assert len(offline_runs(tmp_path / "runs" / ".sweeps")) == 1


def test_the_sweep_file_drives_the_program_through_every_cell(tmp_path, monkeypatch):
    """As `wandb agent` makes its commands, and as `fairloop` reads them."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    from fairloop import composition
    from fairloop.sweep.jobs import jobs_of
    from fairloop.tracking.wandb_values import goal_of

    chosen = yaml.safe_load((Path(__file__).parents[2] / "docs" / "wandb_sweep.yaml").read_text())
    assert chosen["metric"]["goal"] == goal_of(chosen["metric"]["name"], catalogue()) == "minimize"
    names = list(chosen["parameters"])
    monkeypatch.setattr("fairloop.config.fingerprint", lambda *_: "weights")
    keys = set()
    choices = [chosen["parameters"][name]["values"] for name in names]
    assert [len(values) for values in choices] == [3, 5, 3]
    for values in itertools.islice(zip(*map(itertools.cycle, choices), strict=True), 15):
        sent = {"args": {name: {"value": value} for name, value in zip(names, values, strict=True)}}
        parts = create_sweep_command_args(sent) | {"env": ["env"], "program": [chosen["program"]]}
        words = [
            word
            for part in create_sweep_command(chosen["command"])
            for word in (parts[part[2:-1]] if part.startswith("${") else [part])
        ]
        assert words[:2] == ["env", "fairloop"]
        with composition.composer():
            (job,) = jobs_of([[*words[2:], f"runs_dir={tmp_path}"]])
        assert job.configuration.tracking.sweep == "fairloop-mitigations"
        keys.add(job.cell.key)
    assert len(keys) == 15
