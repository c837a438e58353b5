import json
import math

import pytest
from report_store import make_cell, make_demo

from fairloop.errors import UserError
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions


def test_a_finished_cell_comes_back_as_plain_data(tmp_path):
    make_cell(tmp_path, level=0.3, seed=2, mitigation=("prompt", "augment"))
    (cell,) = read_runs(tmp_path).cells
    assert (cell.study, cell.model, cell.mitigation, cell.level, cell.seed) == (
        "recursion", "gemma_3_270m", "augment+prompt", 0.3, "2",
    )  # fmt: skip
    assert cell.generations == [0, 1, 2, 3]
    assert cell.get("rule/net_stereotype_rate", 0).value == 0.3
    assert cell.result["rule/net_stereotype_rate@0"] == 0.3
    assert math.isnan(cell.get("diversity/distinct_2", 0).low)
    assert math.isnan(cell.get("no/such_metric", 0).value)


def test_cells_are_ordered_by_condition_level_and_seed(tmp_path):
    make_demo(tmp_path, seeds=(10, 2), mitigations=(("augment",), ()))
    order = [(cell.mitigation, cell.level, cell.seed) for cell in read_runs(tmp_path).cells]
    assert order[:4] == [("none", 0.1, "2"), ("none", 0.1, "10"), ("none", 0.3, "2"), ("none", 0.3, "10")]
    assert order[6][0] == "augment"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "metrics.csv").unlink(), "metrics.csv is missing"),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is missing"),
        (lambda folder: (folder / "status.json").unlink(), "status.json is missing"),
        (lambda folder: (folder / "status.json").write_text("{"), "status.json is not JSON"),
        (lambda folder: (folder / "status.json").write_text("[1]"), "status.json holds no table"),
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "config.yaml is not YAML"),
        (lambda folder: (folder / "config.yaml").write_text("[" * 100_000), "config.yaml is not YAML"),
        (lambda folder: (folder / "config.yaml").write_text("just text"), "config.yaml holds no configuration"),
        (lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"), "config.yaml is not text"),
        (lambda folder: (folder / "config.yaml").write_text("!!python/object/apply:os.getcwd []"), "is not YAML"),
        (lambda folder: (folder / "result.json").write_text("{}"), "result.json is not what the study wrote"),
        (lambda folder: _cut(folder / "metrics.csv"), "metrics.csv is not what the study wrote"),
    ],
)
def test_a_damaged_cell_is_named_with_its_reason_and_the_others_are_read(tmp_path, damage, reason):
    make_cell(tmp_path, level=0.1)
    folder = make_cell(tmp_path, level=0.6)
    damage(folder)
    runs = read_runs(tmp_path)
    assert [cell.level for cell in runs.cells] == [0.1]
    assert [one.folder for one in runs.unusable] == [folder]
    assert reason in runs.unusable[0].reason
    assert "\n" not in runs.unusable[0].reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with generation"),
        ("a,b\n", "does not begin with generation"),
        ("generation,metric,value,low,high,n\n0,rule/x,0.1\n", "line 2 has 3 fields"),
        ("generation,metric,value,low,high,n\n0,rule/x,many,0,1,3\n", "line 2 holds something other than numbers"),
        ("generation,metric,value,low,high,n\nlast,rule/x,1,0,1,3\n", "line 2 holds something other than numbers"),
    ],
)
def test_a_metrics_table_that_cannot_be_read_is_explained(tmp_path, text, reason):
    make_cell(tmp_path, level=0.1)
    folder = make_cell(tmp_path, level=0.6, sealed=False)
    (folder / "metrics.csv").write_text(text)
    assert reason in read_runs(tmp_path).unusable[0].reason


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("state", ["running", "failed"])
def test_unfinished_cells_are_listed(tmp_path, state):
    make_cell(tmp_path, level=0.1)
    make_cell(tmp_path, level=0.3, state=state, reason="out of\nmemory" if state == "failed" else "")
    assert (
        read_runs(tmp_path).unusable[0].reason == {"running": "interrupted", "failed": "failed: out of memory"}[state]
    )


def test_undefined_values_and_measures_of_the_whole_cell(tmp_path):
    folder = make_cell(tmp_path, sealed=False)
    with (folder / "metrics.csv").open("a") as stream:
        stream.write(
            "4,rule/net_stereotype_rate,,,,\n4,embedding/effect_size,nan,,,0\n,equilibrium/level,0.12,0.1,0.14,9\n"
        )
    (cell,) = read_runs(tmp_path).cells
    assert math.isnan(cell.get("rule/net_stereotype_rate", 4).value)
    assert math.isnan(cell.get("embedding/effect_size", 4).value)
    assert cell.get("equilibrium/level", None).value == 0.12
    assert cell.values("rule/net_stereotype_rate")[0] == 0.3
    assert math.isnan(cell.values("rule/net_stereotype_rate")[4])


def test_a_missing_folder_and_an_empty_one_are_mistakes(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no finished cell"):
        read_runs(tmp_path)
    make_cell(tmp_path, state="failed", reason="no network")
    with pytest.raises(UserError, match="failed: no network"):
        read_runs(tmp_path)


def test_only_the_cells_asked_for_are_read(tmp_path):
    folders = make_demo(tmp_path)
    assert {cell.folder for cell in read_runs(tmp_path, folders[:2]).cells} == set(folders[:2])


def test_hidden_folders_and_stray_files_are_no_cells(tmp_path):
    make_cell(tmp_path)
    (tmp_path / ".sweeps" / "today").mkdir(parents=True)
    (tmp_path / "recursion" / ".aside-x").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    assert not read_runs(tmp_path).unusable


def test_conditions_are_models_mitigations_and_whatever_else_differs(tmp_path):
    make_demo(tmp_path, mitigations=((), ("augment",)))
    make_demo(tmp_path, model="gemma_2_2b_it")
    make_demo(tmp_path, sentences=500)
    make_cell(tmp_path, study="evaluate")
    labels = [one.label for one in conditions(read_runs(tmp_path).cells)]
    assert labels == [
        "gemma_2_2b_it, mitigation none",
        "gemma_3_270m, mitigation none, study.sentences=256",
        "gemma_3_270m, mitigation none, study.sentences=500",
        "gemma_3_270m, mitigation augment",
    ]


def test_cells_that_differ_in_length_or_place_only_are_one_condition(tmp_path):
    make_cell(tmp_path / "a", level=0.1, generations=2)
    make_cell(tmp_path / "b", level=0.6, generations=5)
    cells = [*read_runs(tmp_path / "a").cells, *read_runs(tmp_path / "b").cells]
    (condition,) = conditions(cells)
    found = condition.settlings[0].equilibrium
    assert (found.line.transitions, found.transitions) == (1 + 4, 1)


def test_the_status_of_a_cell_without_a_seal_is_trusted(tmp_path):
    folder = make_cell(tmp_path, sealed=False)
    assert "seal" not in json.loads((folder / "status.json").read_text())
    assert len(read_runs(tmp_path).cells) == 1
