import csv
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from report_store import make_cell, make_demo, make_grid
from rich.console import Console

from fairloop.report.cli import command, show_report
from fairloop.report.latex import latex_table
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions, verdict_in_words
from fairloop.report.recursion.tables import (
    NO_REST,
    change_table,
    decomposition_table,
    equilibrium_table,
    metric_tables,
    percent_change,
    seed_break_table,
)
from fairloop.report.table import number, with_interval
from fairloop.report.write import write_report
from fairloop.statistics.equilibrium import Trajectory
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.relative_change import relative_changes

NET = "rule/net_stereotype_rate"


def printed(runs_dir, width):
    stream = io.StringIO()
    show_report(runs_dir, console=Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize("width", [100, 120])
@pytest.mark.parametrize("grid", [{}, {"seeds": (0, 1, 2), "mitigations": ((), ("augment",)), "mitigated": True}])
def test_the_tables_fit_the_terminal_and_no_number_is_broken(tmp_path, width, grid):
    make_demo(tmp_path, **grid)
    tables = printed(tmp_path, width).split(str(tmp_path))[0]
    assert max(map(len, tables.splitlines())) <= width
    assert "…" not in tables
    rows = [line for line in tables.splitlines() if line.count("[") >= 3]
    assert rows
    assert all(line.count("[") == line.count("]") for line in tables.splitlines())
    for column in ("net rate B", "gendered share", "net among gendered", "WEAT d", "downstream bias", "yield"):
        assert column in tables


def test_the_equilibrium_and_its_factors_are_said_in_words(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2), generations=10)
    text = printed(tmp_path, 110)
    assert "equilibrium: it stays near" in text
    assert "undecided: the levels did not start on both sides of where they ended" in text
    found = conditions(read_runs(tmp_path).cells)[0].settling(NET)
    assert f"B* {found.equilibrium.line.level.value:.3f} [" in text
    assert verdict_in_words(found) in text


def test_few_generations_have_no_verdict_and_b_star_is_marked(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2))
    found = conditions(read_runs(tmp_path).cells)
    text = printed(tmp_path, 110)
    assert "undecided: 2 transitions among generated corpora; a verdict takes 4" in text
    assert "]‡  rho" in text
    table = equilibrium_table(found)
    assert table.rows[0][-1] == "undecided: 2 transitions among generated corpora; a verdict takes 4"
    assert NO_REST in table.rows[0][3]
    assert "No resting level" in table.note
    assert r"\textdaggerdbl{}" in latex_table(table, "x")


def test_the_seeds_step_stands_apart_from_the_dynamics(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2))
    (condition,) = conditions(read_runs(tmp_path).cells)
    table = seed_break_table([condition])
    cells = condition.at(0.6)
    steps = [cell.get(NET, 1).value - cell.get(NET, 0).value for cell in cells]
    shown = {(row[1], row[2]): row for row in table.rows}
    row = shown["net stereotype rate B", "0.6"]
    assert row[3].startswith(f"{np.mean(steps):+.3f} [")
    kept = np.polyfit([c.get(NET, 0).value for c in condition.cells], [c.get(NET, 1).value for c in condition.cells], 1)
    assert row[4].startswith(f"{kept[0]:.3f} [")


def test_groups_stand_beside_n_and_too_few_are_said(tmp_path):
    make_cell(tmp_path, sealed=False, prompt_group=16)
    (folder,) = (tmp_path / "recursion").iterdir()
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    units = {f"0,{NET}": 16, "1,rule/gendered_share": 3}
    lines = [f"{line},{units.get(','.join(line.split(',')[:2]), '')}" for line in lines]
    (folder / "metrics.csv").write_text("\n".join([f"{header},units", *lines, ""]))
    (condition,) = conditions(read_runs(tmp_path).cells)
    note = metric_tables(condition, single=True)[0].note
    assert "n = 256 in 16 groups; too few groups: an interval needs 4 independent ones or more, 49 sentences or" in note
    moved = decomposition_table([condition])
    assert "(too few cells)" in moved.rows[0][3]
    assert moved.below.endswith("Too few cells: an interval needs 3 or more.")
    assert "Too few cells: an interval needs 3 or more." in write_report(tmp_path).page.read_text()
    written = {(row["generation"], row["metric"]): row["units"] for row in rows(write_report(tmp_path).cells)}
    assert (written["0", NET], written["1", "rule/gendered_share"], written["1", NET]) == ("16", "3", "")


def test_a_change_from_what_may_be_zero_is_one_word(tmp_path):
    make_grid(tmp_path, strategies=("augment",), noise=0.0)
    trajectories = [
        Trajectory(0.1, (0.0, 0.1, 0.1)),
        Trajectory(0.1, (0.01, 0.1, 0.2)),
        Trajectory(0.1, (-0.01, 0, 0.1)),
    ]
    (change,) = relative_changes(trajectories)
    assert percent_change(change.change) == "undefined"
    (condition,) = conditions(read_runs(tmp_path).cells)
    settling = replace(condition.settlings[0], from_seed=(change,), from_first=())
    table = change_table([replace(condition, settlings=(settling,))])
    assert table.rows[0][4] == "undefined"
    assert "undefined: the start cannot be told from zero." in table.note
    assert "0.6 x 0.74 = 0.44" in table.note


def test_one_cell_is_too_little_and_said_so(tmp_path):
    make_cell(tmp_path)
    assert "undecided: 2 transitions among generated corpora" in " ".join(printed(tmp_path, 100).split())


def test_markup_in_names_is_printed_as_it_is(tmp_path):
    make_cell(tmp_path, model="[red]model[/red]")
    make_cell(tmp_path, level=0.1, state="failed", reason="[bold]no[/nonsense]")
    text = printed(tmp_path, 120)
    assert "[red]model[/red]" in text
    assert "[bold]no[/nonsense]" in text


def test_the_command_writes_every_file_and_prints_its_path(tmp_path, capsys):
    make_demo(tmp_path / "runs")
    assert command([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    files = sorted((tmp_path / "out").iterdir())
    assert {file.suffix for file in files} == {".csv", ".html", ".png", ".svg", ".tex"}
    assert len(files) == 13
    assert "corrected_for_label_errors.tex" in {file.name for file in files}
    assert all(str(file) in output for file in files)


def test_a_report_in_the_runs_folder_is_not_taken_for_cells(tmp_path):
    make_demo(tmp_path)
    first = write_report(tmp_path)
    before = {path: path.read_bytes() for path in first.existing()}
    assert write_report(tmp_path) == first
    assert {path: path.read_bytes() for path in first.existing()} == before
    assert not read_runs(tmp_path).unusable


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_mistakes_get_one_line_and_status_2(tmp_path, capsys, make):
    make(tmp_path / "runs")
    assert command([str(tmp_path / "runs")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("fairloop-report: runs_dir=")
    assert errors.count("\n") == 1


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path, capsys):
    make_cell(tmp_path / "runs")
    (tmp_path / "out").write_text("x")
    assert command([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_flags_are_status_2(capsys):
    assert command([]) == 2
    assert command(["runs", "--nonsense"]) == 2
    assert command(["--help"]) == 0


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_csv_tables_hold_what_the_store_holds(tmp_path):
    make_demo(tmp_path, seeds=(0, 1))
    paths = write_report(tmp_path)
    cells = {cell.name: cell for cell in read_runs(tmp_path).cells}
    metrics = rows(paths.cells)
    assert len(metrics) == sum(len(cell.measures) for cell in cells.values())
    for row in metrics[::7]:
        assert float(row["value"]) == cells[row["cell"]].get(row["metric"], int(row["generation"])).value
    trajectories = rows(paths.trajectories)
    assert len(trajectories) == 6 * 4
    assert float(trajectories[0][NET]) == 0.1
    equilibrium = {row["metric"]: row for row in rows(paths.equilibrium)}
    found = conditions(cells.values())[0].settling(NET).equilibrium
    assert float(equilibrium[NET]["level"]) == found.line.level.value
    assert float(equilibrium[NET]["trend"]) == found.trend.value
    assert float(equilibrium[NET]["kept_last:high"]) == found.kept_last.high
    assert float(equilibrium[NET]["seed_break@0.6"]) == found.breaks[-1].change.value
    assert (equilibrium[NET]["verdict"], equilibrium[NET]["reason"]) == (found.verdict, found.reason)
    assert [equilibrium[NET][key] for key in ("cells", "transitions", "fewest_transitions")] == ["6", "12", "2"]
    changes = [row for row in rows(paths.changes) if row["metric"] == NET and row["since"] == "0"]
    assert [row["level"] for row in changes] == ["0.1", "0.3", "0.6"]


def test_other_studies_and_missing_metrics_do_not_stop_the_report(tmp_path):
    make_cell(tmp_path, study="fair_gender")
    assert "Cells of other studies" in printed(tmp_path, 120)
    make_demo(tmp_path, drop=("rule/gendered_share", "downstream/bias", "generation/yield"))
    text = printed(tmp_path, 120)
    assert "downstream bias" not in text
    assert "net rate B" in text


def test_neither_torch_nor_pandas_is_imported(tmp_path):
    make_demo(tmp_path, texts=["The nurse said she was tired."])
    code = (
        "import sys; from fairloop.report.cli import command; status = command(sys.argv[1:]);"
        "bad = {'torch', 'transformers', 'datasets'} & set(sys.modules); sys.exit(status or (9 if bad else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_numbers_as_text():
    nan, inf = float("nan"), float("inf")
    assert number(nan) == "–"
    assert number(-0.0001) == "0.000"
    assert number(-inf) == "unbounded"
    assert with_interval(Estimate(0.12, nan, nan, 2), over="cells") == "0.120 (too few cells)"
    assert with_interval(Estimate(0.12, nan, nan, 3), over="cells") == "0.120 (no spread)"
    assert with_interval(Estimate(0.12, nan, nan, 500)) == "0.120"  # of no sample: nothing is lacking
    assert with_interval(Estimate(0.12, 0.1, 0.148, 9)) == "0.120 [0.10, 0.15]"
    assert with_interval(Estimate(0.12, -inf, inf, 9)) == "0.120 [unbounded]"
    assert with_interval(Estimate(0.12, 0.1, inf, 9)) == "0.120 [0.10, unbounded]"
    assert with_interval(Estimate(inf, 0.1, inf, 9)) == "unbounded"
    assert percent_change(Estimate(0.36, 0.2, 0.52, 3)) == "+36% [+20, +52]"
    assert percent_change(Estimate(nan, -inf, inf, 3)) == "undefined"
    assert percent_change(Estimate(-0.26, nan, nan, 1)) == "-26% (too few cells)"


def test_the_report_of_a_store_that_can_only_be_read_is_written_elsewhere(tmp_path, monkeypatch, capsys):
    store, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    make_grid(store)
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    # As of a store that was mounted to be read; permissions alone do not bind every user.
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith(str(store)))
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    assert command([str(store)]) == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    (folder,) = elsewhere.iterdir()
    assert (folder / "report.html").stat().st_size > 0
    said = capsys.readouterr()
    assert str(folder / "report.html") in said.out.replace("\n", "")
    assert "cannot be written: the report is in" in said.err
