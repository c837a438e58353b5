"""Fairloop in Python: the same bytes as the command, the same one line for a mistake, any number of calls."""

import os
import subprocess
import sys
from pathlib import Path

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import fairloop
from fairloop import Fault, SweepFailed, UserError, api, app, console
from fairloop.app import command
from fairloop.composition import conf_dir
from fairloop.report.read import read_runs

# Corpora of known bias, measured by rules: no model is loaded.
SMALL = [
    "study=metric_calibration",
    "study.metrics=[rule_based]",
    "study.levels=[0,0.25,0.5]",
    "study.sizes=[60]",
    "study.replicates=[2]",
    "study.augment_rates=[]",
    "tracking=none",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder in which the cells of two seeds were computed in this process, one call after the other."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        threads = torch.get_num_threads()
        first = fairloop.run([*SMALL, "trainer.threads=1"])
        assert torch.get_num_threads() == threads
        swept = fairloop.sweep([*SMALL, "seed=0,1"], quiet=True)
    return folder, first, swept


def kept(cell: Path) -> dict[str, bytes]:
    files = [cell / "result.json", cell / "metrics.csv", cell / "deciding.json", *sorted(cell.glob("stages/*/*"))]
    return {str(path.relative_to(cell)): path.read_bytes() for path in files if path.name != "stage.json"}


def test_the_result_has_the_bytes_of_the_command(store, tmp_path, monkeypatch, capsys):
    folder, first, swept = store
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_show_report", lambda runs_dir, cells: None)
    assert command([*SMALL, "seed=1"]) == 0
    capsys.readouterr()
    (cell,) = (path.parent for path in tmp_path.glob("runs/*/*/status.json"))
    assert [result.name for result in swept] == [first.name, cell.name]
    assert kept(folder / swept.results[1].folder) == kept(cell)


def test_what_a_result_holds_is_what_the_store_holds(store, monkeypatch):
    folder, first, _ = store
    monkeypatch.chdir(folder)
    (cell,) = read_runs("runs", [first.folder]).cells
    assert len(first.metrics) == len(cell.measures)
    for row in first.metrics.itertuples():
        estimate = cell.get(row.metric, None if pd.isna(row.generation) else row.generation)
        for name in ("value", "low", "high"):
            assert getattr(row, name) == pytest.approx(getattr(estimate, name), rel=0, abs=0, nan_ok=True)
        assert row.n == estimate.n
    assert first.values == cell.result
    assert first.config["study"]["levels"] == [0, 0.25, 0.5]
    assert first.model is None
    assert str(first.folder) in repr(first)


def test_figures_are_those_of_the_report_and_show_themselves(store, monkeypatch, tmp_path):
    folder, _, swept = store
    monkeypatch.chdir(folder)
    assert len(swept.figures) == 2
    assert all(any(result.name in name for name in swept.figures) for result in swept)
    figure = next(iter(swept.figures.values()))
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.save(tmp_path / "x.png").read_bytes() == figure.files["png"]
    with pytest.raises(UserError, match=r"x\.bmp"):
        figure.save(tmp_path / "x.bmp")
    assert not (folder / "runs" / "report").exists()


def test_load_reads_a_store_a_cell_and_results_with_chosen_keys(store, monkeypatch):
    folder, first, swept = store
    monkeypatch.chdir(folder)
    whole = fairloop.load("runs", keys=["study.sizes"])
    assert list(whole.columns[:6]) == ["study", "cell", "model", "mitigation", "level", "seed"]
    assert set(whole["seed"]) == {0, 1}
    assert [60] in list(whole["study.sizes"])
    assert len(fairloop.load(first.folder)) == len(first.metrics) == len(fairloop.load([first]))
    assert len(fairloop.load(swept)) == len(whole) == len(swept.metrics)
    with pytest.raises(UserError, match=r"keys=no\.key"):
        fairloop.load("runs", keys=["no.key"])
    with pytest.raises(UserError, match="no such folder"):
        fairloop.load("elsewhere")


def test_a_mistake_is_an_exception_with_the_line_of_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for wrong in ("initial_bias.level=1.5", "initial_bias=huge"):
        with pytest.raises(UserError) as error:
            fairloop.run([wrong, "tracking=none"])
        assert command([wrong, "tracking=none"]) == 2
        assert capsys.readouterr().err == f"fairloop: {error.value}\n"
    with pytest.raises(UserError, match="command `fairloop` runs searches"):
        fairloop.sweep(["hydra/sweeper=fairloop_optuna", "seed=0,1"])
    assert list(tmp_path.iterdir()) == []


def test_an_application_that_uses_hydra_itself_is_not_disturbed():
    assert not GlobalHydra.instance().is_initialized()
    with hydra.initialize_config_dir(str(conf_dir() / "study"), version_base="1.3"):
        own = GlobalHydra.instance().hydra
        with pytest.raises(UserError, match=r"level=1\.5"):
            fairloop.run("initial_bias.level=1.5")
        assert GlobalHydra.instance().hydra is own
        assert hydra.compose("evaluate").name == "evaluate"
    assert not GlobalHydra.instance().is_initialized()


def test_a_cell_that_fails_raises_and_a_sweep_keeps_the_others(store, monkeypatch):
    folder, _, _ = store
    monkeypatch.chdir(folder)

    def fails(configuration, cell, *more):
        if configuration.seed == 2:
            raise Fault("the disk is full")
        return original(configuration, cell, *more)

    from fairloop.studies import runner

    original = runner.run_cell
    monkeypatch.setattr(runner, "run_cell", fails)
    with pytest.raises(Fault, match="the disk is full"):
        fairloop.run([*SMALL, "seed=2"])
    with pytest.raises(SweepFailed, match="1 cell failed") as error:
        fairloop.sweep([*SMALL, "seed=0,2"], quiet=True)
    assert len(error.value.sweep) == 1
    assert "the disk is full" in error.value.sweep.failures[0]


def test_choices_are_said_as_on_the_command_line():
    chosen = {
        "seed": [0, 1],
        "mitigation": ["none", ["augment", "finetune"]],
        "plm.revision": None,
        "x": "a b's",
        "y": True,
        "z": range(2),
        "w": {"a": 1},
    }
    assert api._lines(chosen, swept=True) == [
        "seed=0,1",
        "mitigation=none,[augment,finetune]",
        "plm.revision=null",
        "x='a b\\'s'",
        "y=true",
        "z=0,1",
        "w={a:1}",
    ]
    assert api._lines({"mitigation": ["augment", "finetune"]}) == ["mitigation=[augment,finetune]"]
    assert api._lines("seed=3") == ["seed=3"]
    with pytest.raises(UserError, match="has no values"):
        api._lines({"seed": []}, swept=True)


def test_the_import_is_fast_for_it_loads_no_torch_and_no_pandas():
    code = "import sys, fairloop; print([one for one in ('torch', 'pandas', 'numpy', 'hydra') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr


def test_quiet_prints_nothing_and_the_next_call_prints_again(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with api._as_before(quiet=True):
        console.say("nothing of this")
        print("nor of this")
    assert capsys.readouterr().out == ""
    with api._as_before(quiet=False):
        console.say("this")
    assert capsys.readouterr().out == "this\n"
