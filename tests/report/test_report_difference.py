"""Two cells or two sweeps against each other."""

import csv
import io
import math

import numpy as np
import pytest
from fair_gender_store import FULL, HEADLINE, make_grid, make_method
from report_store import make_cell, make_demo, write_cell
from rich.console import Console
from scipy import stats

from fairloop.errors import UserError
from fairloop.report.cli import command, show_difference
from fairloop.report.difference.changes import compare, select

NET = "rule/net_stereotype_rate"
SHIFT = 0.05


def make_sweep(runs_dir, shift=0.0, seeds=(0, 1, 2), temperature=0.8, levels=(0.1, 0.3, 0.6), noise=0.0):
    """Write cells whose last net rate is level / 3 + shift; other measures move by noise alone."""
    for level in levels:
        for seed in seeds:
            draw = np.random.default_rng([seed, int(100 * level), int(1000 * temperature)])
            value = level / 3 + shift + noise * draw.standard_normal()
            rows = [(0, NET, level, level - 0.02, level + 0.02, 500), (2, NET, value, value - 0.02, value + 0.02, 500)]
            rows.append((2, "embedding/effect_size", draw.normal(0.5, 0.1), 0.1, 0.9, 500))
            rows.append((2, "rule/other", 0.25, 0.2, 0.3, 500))
            config = {
                "study": {"name": "recursion", "generations": 2},
                "model": {"name": "gemma", "temperature": temperature},
                "initial_bias": {"level": level},
                "mitigation": {},
                "seed": seed,
                "runs_dir": str(runs_dir),
            }
            write_cell(
                runs_dir / "recursion" / f"{round(100 * level):02d}{seed}{round(10 * temperature):02d}cell",
                config,
                rows,
            )
    return runs_dir


def between(first, second):
    return compare(select(str(first), str(second)), select(str(second), str(first)))


def change(found, metric):
    return next(one for one in (*found.headline, *found.further) if one.metric == metric)


def test_sweeps_are_paired_by_level_and_seed(tmp_path):
    found = between(make_sweep(tmp_path / "a"), make_sweep(tmp_path / "b", SHIFT, temperature=1.1))
    assert found.settings == (("model.temperature", "0.8", "1.1"),)
    assert (found.pairs, found.left_out) == (9, (0, 0))
    assert set(found.matched_on) == {"initial_bias.level", "seed"}
    moved = change(found, NET)
    assert moved.change.value == pytest.approx(SHIFT)
    # Nine pairs that agree to the last digit say nothing of their spread.
    assert math.isnan(moved.change.low)
    assert math.isnan(moved.change.high)
    assert moved.generation == 2
    assert moved.p_value == 2 / 2**9
    assert moved.adjusted == 2 * 2 / 2**9  # two headline measures
    assert moved.moved
    other = change(found, "embedding/effect_size")
    assert other.p_value > moved.p_value
    assert other.adjusted == pytest.approx(max(other.p_value, moved.adjusted))
    assert change(found, "rule/other").p_value == 1.0


def test_what_has_no_match_is_left_out_and_counted(tmp_path):
    found = between(make_sweep(tmp_path / "a"), make_sweep(tmp_path / "b", SHIFT, seeds=(1, 2, 3, 4), temperature=1.1))
    assert (found.pairs, found.left_out) == (6, (3, 6))
    assert ("seed", "0, 1, 2", "1, 2, 3, 4") in found.settings


def test_pairs_have_students_interval(tmp_path):
    seeds = tuple(range(20))
    found = between(
        make_sweep(tmp_path / "a", seeds=seeds, noise=0.02),
        make_sweep(tmp_path / "b", SHIFT, seeds=seeds, noise=0.02, temperature=1.1),
    )
    moved = change(found, NET)
    assert moved.how == "pairs, Student's t"
    # Two independent noises of 0.02 in each of 60 pairs.
    assert moved.change.high - moved.change.low == pytest.approx(2 * 1.96 * 0.02 * math.sqrt(2 / 60), rel=0.25)
    assert moved.change.low < SHIFT < moved.change.high


def test_sweeps_without_a_common_choice_are_compared_by_their_means(tmp_path):
    first = make_sweep(tmp_path / "a", seeds=(0, 1, 2), levels=(0.1,), noise=0.02)
    second = make_sweep(tmp_path / "b", SHIFT, seeds=(2, 3, 4), levels=(0.3,), temperature=1.1, noise=0.02)
    # Seed 2 is in both, and so it is what pairs them.
    assert between(first, second).pairs == 1
    third = make_sweep(tmp_path / "c", SHIFT, seeds=(5, 6, 7, 8), levels=(0.3,), temperature=1.1, noise=0.02)
    found = between(first, third)
    assert found.pairs == 0
    ends = [[cell.get(NET, 2).value for cell in side.cells] for side in (found.first, found.second)]
    moved = change(found, NET)
    assert moved.how == "cells, Welch's t"
    assert moved.change.value == pytest.approx(np.mean(ends[1]) - np.mean(ends[0]))
    # Welch 1947: the error and its degrees of freedom.
    parts = [np.var(values, ddof=1) / len(values) for values in ends]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, ends, strict=True))
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert moved.change.high - moved.change.value == pytest.approx(half)
    assert moved.p_value == pytest.approx(2 * stats.t.sf(abs(moved.change.value) / math.sqrt(sum(parts)), freedom))


def test_two_cells_have_their_difference_from_both_intervals(tmp_path):
    make_sweep(tmp_path, levels=(0.1, 0.3), seeds=(0,))
    found = between(tmp_path / "recursion" / "10008cell", tmp_path / "recursion" / "30008cell")
    assert found.settings == (("initial_bias.level", "0.1", "0.3"),)
    moved = change(found, NET)
    assert moved.change.value == pytest.approx(0.2 / 3)
    assert moved.change.high - moved.change.value == pytest.approx(0.02 * math.sqrt(2))
    z = (0.2 / 3) / (0.02 * math.sqrt(2) / 1.959964)
    assert moved.p_value == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert moved.how == "both intervals"
    assert [(one.metric, one.generation) for one in found.earlier] == [(NET, 0)]


def test_two_cells_with_the_same_items_are_compared_over_them(tmp_path):
    first = make_method(tmp_path, "cda", 0, 0.6, items=True)
    second = make_method(tmp_path, "fair_gender", 0, FULL, items=True)
    moved = change(between(first, second), HEADLINE)
    assert moved.how == "items of both"
    assert moved.change.value == pytest.approx((FULL - 0.6) * 1.2)
    assert moved.change.high < 0
    assert moved.p_value == 2 / 2**12
    (second / "stages").rename(second / "gone")
    assert change(between(first, second), HEADLINE).how == "both intervals"


def test_items_that_do_not_give_the_reported_score_are_not_used(tmp_path):
    first = make_method(tmp_path, "cda", 0, 0.6, items=True)
    second = make_method(tmp_path, "fair_gender", 0, FULL, items=True)
    path = next(second.glob("stages/*-after-heldout_templates/items.csv"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], lines[5].rpartition(",")[0] + ",7.0", *lines[6:]]))
    assert change(between(first, second), HEADLINE).how == "both intervals"


def test_cells_are_found_by_folder_key_and_beginning(tmp_path, monkeypatch):
    make_sweep(tmp_path / "runs", levels=(0.1, 0.3), seeds=(0,))
    folder = tmp_path / "runs" / "recursion" / "10008cell"
    for named in (str(folder), str(folder)[:-4]):
        assert select(named).cells[0].folder == folder
    assert select("300", str(folder)).cells[0].level == 0.3
    assert select("300", str(tmp_path / "runs")).cells[0].level == 0.3
    assert len(select(str(tmp_path / "runs" / "recursion")).cells) == 2
    monkeypatch.chdir(tmp_path)
    assert select("10008").single
    with pytest.raises(UserError, match="compare=nothing"):
        select("nothing", str(folder))


def test_a_mistake_is_one_line(tmp_path, capsys):
    make_cell(tmp_path / "runs")
    for arguments in (["nowhere", str(tmp_path / "runs")], [str(tmp_path / "runs"), "also", "--cell", "x"]):
        assert command(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("fairloop-report: ")
        assert error.count("\n") == 1


def test_terminal_page_and_files_say_the_same(tmp_path):
    first, second = make_sweep(tmp_path / "a"), make_sweep(tmp_path / "b", SHIFT, temperature=1.1)
    stream = io.StringIO()
    show_difference(str(first), str(second), tmp_path / "out", Console(file=stream, width=130, highlight=False))
    text = stream.getvalue()
    assert "9 pairs of cells that agree in initial_bias.level, seed." in text
    assert "Of 2 headline measures 1 moved beyond chance (Holm, 5%): rule/net_stereotype_rate." in text
    assert "+0.050 (no spread) *" in text
    page = (tmp_path / "out" / "comparison_a_b.html").read_text()
    assert "model.temperature" in page
    assert "+0.050 (no spread) *" in page
    with (tmp_path / "out" / "comparison_a_b.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows[NET]["p_holm"]) == 4 / 2**9
    assert r"rule/net\_stereotype\_rate" in (tmp_path / "out" / "comparison_a_b.tex").read_text()


def test_a_sweep_against_itself_moves_nothing(tmp_path):
    make_demo(tmp_path / "a")
    found = between(tmp_path / "a", tmp_path / "a")
    assert found.settings == ()
    assert {one.change.value for one in found.headline} == {0.0}
    assert not any(one.moved for one in found.headline)


def test_the_ablation_grid_against_another_store(tmp_path):
    make_grid(tmp_path / "a", seeds=(0, 1))
    make_grid(tmp_path / "b", seeds=(0, 1))
    found = between(tmp_path / "a", tmp_path / "b")
    assert found.pairs == len(found.first.cells) == 14
