import csv
import io
import math

import numpy as np
import pytest
from report_store import EMBEDDING_SHIFT, REMAINING, STRATEGIES, make_cell, make_grid
from rich.console import Console
from scipy import stats

from fairloop.errors import UserError
from fairloop.report import drawing
from fairloop.report.cli import command, show_report
from fairloop.report.export import cells_csv
from fairloop.report.read import find_cells, read_runs
from fairloop.report.recursion.conditions import NET_RATE, conditions, settle_or_disappear
from fairloop.report.recursion.strategies import DOWNSTREAM, EMBEDDING, comparisons
from fairloop.report.recursion.strategy_figures import strategy_figures
from fairloop.report.recursion.tables import correlation_table, reduction_table
from fairloop.report.terminal import print_report
from fairloop.statistics.corrections import holm

MITIGATIONS = STRATEGIES[1:]


def compared(runs_dir):
    (found,) = comparisons(conditions(read_runs(runs_dir).cells))
    return found


def reductions(comparison, metric=DOWNSTREAM, after=True, last=True, level=None):
    """Return the reductions of one kind by strategy."""
    return {
        one.condition.mitigation: one
        for one in comparison.reductions
        if (one.metric, one.after, one.last, one.level) == (metric, after, last, level)
    }


def printed(runs_dir, width=100):
    stream = io.StringIO()
    runs = read_runs(runs_dir)
    found = conditions(runs.cells)
    print_report(runs, found, comparisons(found), Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The 45 cells without noise: every figure is known."""
    runs_dir = tmp_path_factory.mktemp("grid")
    assert len(make_grid(runs_dir, tasks=True)) == 45
    return compared(runs_dir)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("level", [None, 0.1, 0.6])
def test_the_reduction_of_downstream_bias_is_the_known_one(grid, last, level):
    for after in (True, False):
        found = reductions(grid, after=after, last=last, level=level)
        assert set(found) == set(MITIGATIONS)
        for mitigation, one in found.items():
            power = 0.5 if mitigation in ("augment", "contrastive") and not after else 1
            known = 1 - REMAINING[mitigation] ** power
            assert one.reduction.value == pytest.approx(known)
            assert math.isnan(one.reduction.low)  # that pairs agree to the last digit is chance
            assert one.points == pytest.approx([known] * one.pairs)
            assert (one.pairs, one.possible) == ((9, 9) if level is None else (3, 3))
            # All pairs differ the same way: the least exact p-value. Three pairs cannot reach 0.05 and are not tested.
            assert one.by_construction == (after and mitigation in ("augment", "contrastive"))
            if level is None:
                assert one.p_value == 2 / 2**9
            else:
                assert math.isnan(one.p_value)
                assert one.note.endswith("3 pairs: sign flips cannot give p below 0.25")
        family = [
            one
            for one in grid.reductions
            if (one.after, one.last, one.level) == (after, last, level) and one.metric.startswith("downstream")
        ]
        assert len({one.metric for one in family}) > 1
        assert [one.adjusted for one in family] == pytest.approx(holm([one.p_value for one in family]), nan_ok=True)
    assert reductions(grid)["contrastive"].reduction.value == pytest.approx(0.91)


def test_the_reductions_of_the_other_measures_are_the_known_ones(grid):
    pronoun = reductions(grid, "downstream_pronoun/bias")
    assert pronoun["contrastive"].reduction.value == pytest.approx(1 - 0.3)
    bias = reductions(grid, NET_RATE)
    assert bias["augment"].reduction.value == 1
    assert bias["prompt"].reduction.value == pytest.approx(0)
    assert bias["prompt"].p_value == 1
    control = np.mean([0.4 + 0.05 * seed + 0.06 for seed in (0, 1, 2)])
    for mitigation, one in reductions(grid, EMBEDDING).items():
        assert one.reduction.value == pytest.approx(-EMBEDDING_SHIFT[mitigation] / control)


def test_a_control_without_bias_leaves_the_reduction_undefined_and_it_is_said(grid):
    found = reductions(grid, "downstream_hiring/bias")["prompt"]
    assert math.isnan(found.reduction.value)
    assert math.isnan(found.p_value)
    assert found.note == "undefined: the control has no bias"
    note = reduction_table(grid).note
    assert "– is undefined: the control has no bias (augment, downstream bias: hiring; contrastive," in note


def test_the_equilibrium_and_the_decomposition_are_the_known_ones(grid):
    for condition in grid.conditions:
        settling = condition.settling(NET_RATE).equilibrium
        assert settling.line.level.value == pytest.approx(0.08 / 0.6)
        assert settling.line.slope.value == pytest.approx(0.4)
        assert (settling.kept_first.value, settling.kept_last.value) == pytest.approx((0.4, 0.4**3))
        # Of the step from generation 1 to 2 a share of 0.4 is left for the next; the mean of both is the trend.
        steps = [(0.4 - 1) * (0.4 * level + 0.08 - 0.08 / 0.6) for level in (0.1, 0.3, 0.6)]
        assert settling.trend.value == pytest.approx(np.mean(steps) * (1 + 0.4) / 2)
        assert settling.breaks[-1].change.value == pytest.approx(0.08 + 0.4 * 0.6 - 0.6)
        assert settling.verdict == "undecided"
        assert settling.reason.startswith("2 transitions among")
        high = next(one for one in condition.decompositions if (one.level, one.since) == (0.6, 0))
        bias = 0.6
        for _ in range(3):
            bias = 0.08 + 0.4 * bias
        assert high.change.value == pytest.approx(bias - 0.6)
        assert high.by_share.value + high.by_net_rate.value == pytest.approx(bias - 0.6)
        # (s' - s)(r + r') / 2 does not depend on the seed's factor of s, which cancels.
        assert high.by_share.value == pytest.approx(-0.4 * (0.6 / 0.8 + bias / 0.4) / 2)
        assert settle_or_disappear(condition).startswith("gendered words disappear; stereotyping among")


def test_the_correlations_are_over_starts_and_of_the_known_sign(grid):
    found = {(one.of, one.condition and one.condition.mitigation): one for one in grid.correlations}
    whole = found["after the mitigation", None]
    assert (whole.estimate.n, whole.clusters) == (5 * 9 * 3, 9)
    cells = [cell for condition in grid.conditions for cell in condition.cells]
    points = [
        [cell.get(prefix + metric, generation).value for metric in (EMBEDDING, DOWNSTREAM)]
        for cell in cells
        for prefix in ["mitigated/" * (cell.mitigation in ("augment", "contrastive"))]
        for generation in (1, 2, 3)
    ]
    assert whole.estimate.value == pytest.approx(stats.spearmanr(np.array(points)).statistic)
    against = found["change against no mitigation", None].estimate
    assert against.value < 0
    assert against.high < 0
    assert found["as written", "none"].estimate.n == 27


def test_missing_cells_leave_fewer_pairs_and_the_tables_say_how_many(tmp_path):
    skip = {("none", 0.1, 0), ("contrastive", 0.1, 1), ("contrastive", 0.6, 2), ("augment", 0.3, 0)}
    make_grid(tmp_path, strategies=("none", "augment", "contrastive"), skip=skip)
    found = reductions(compared(tmp_path))
    assert {name: (one.pairs, one.possible) for name, one in found.items()} == {
        "augment": (7, 9),
        "contrastive": (6, 9),
    }
    assert found["contrastive"].reduction.value == pytest.approx(0.91)
    low = reductions(compared(tmp_path), level=0.1)["contrastive"]
    assert (low.pairs, low.note) == (1, "by construction; one pair: no interval")
    text = printed(tmp_path)
    assert "6 of 9" in text
    assert "1 of 3" in text


def test_a_strategy_without_any_pair_is_named(tmp_path):
    make_grid(tmp_path, strategies=("none", "prompt"), seeds=(0,))
    make_grid(tmp_path, strategies=("augment",), seeds=(1,))
    found = reductions(compared(tmp_path))["augment"]
    assert (found.pairs, found.possible) == (0, 6)
    assert "no pair: no control with this level and seed" in " ".join(printed(tmp_path).split())


def test_without_any_control_it_is_said_that_nothing_can_be_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "render", lambda figure: drawing.Drawing(b"", b""))
    make_grid(tmp_path, strategies=("prompt", "augment"), seeds=(0,))
    assert compared(tmp_path).reductions == ()
    assert "has no cell without mitigation to compare with" in printed(tmp_path)
    names = [figure.name for figure in strategy_figures(compared(tmp_path))]
    assert names == ["trajectories", "decomposition", "embedding_downstream"]


def test_a_single_seed_has_three_pairs_and_its_changes_the_interval_of_its_sentences(tmp_path):
    make_grid(tmp_path, strategies=("none", "contrastive"), seeds=(0,), noise=0.02)
    comparison = compared(tmp_path)
    assert reductions(comparison)["contrastive"].pairs == 3
    change = comparison.controls[0].settling(NET_RATE).from_seed[0]
    assert change.over == "sentences"
    assert change.change.low < change.change.value < change.change.high
    assert "over a single cell's sentences" in printed(tmp_path)


def test_a_classifier_that_learned_nothing_is_marked(tmp_path):
    make_grid(tmp_path, strategies=("none", "contrastive"), unlearned={("contrastive", 0.3, 1)})
    comparison = compared(tmp_path)
    found = reductions(comparison)["contrastive"]
    assert found.unlearned == 1
    assert reductions(comparison, level=0.1)["contrastive"].unlearned == 0
    table = reduction_table(comparison)
    (row,) = [row for row in table.rows if row[:3] == ("contrastive", "downstream bias", "after, by construction")]
    assert row[3].endswith("†")
    assert not row[6].endswith("†")
    assert "learned nothing" in table.note
    assert "†" in printed(tmp_path).split("Equilibrium")[0]


def test_only_cells_with_the_same_settings_are_paired_and_lengths_are_not_counted_twice(tmp_path):
    make_grid(tmp_path, strategies=("none", "prompt"), seeds=(0,))
    make_grid(tmp_path, strategies=("none",), seeds=(0,), generations=12)
    make_cell(tmp_path, level=0.1, mitigation=("prompt",), sentences=256)
    found = conditions(read_runs(tmp_path).cells)
    assert [one.label for one in found if one.mitigation == "none"] == [
        "gemma_3_270m, mitigation none, study.generations=12",
        "gemma_3_270m, mitigation none, study.generations=3",
    ]
    (comparison,) = comparisons(found)
    assert [condition.settings for condition in comparison.controls] == [("study.generations=3",)]
    assert len(comparison.strategies) == 1
    assert [one.settling(NET_RATE).equilibrium.line.transitions for one in found[:2]] == [33, 6]


def test_with_no_mitigation_at_all_there_is_no_comparison_and_no_empty_table(tmp_path):
    make_grid(tmp_path, strategies=("none",), seeds=(0,))
    assert comparisons(conditions(read_runs(tmp_path).cells)) == []
    text = printed(tmp_path)
    assert "Reduction" not in text
    assert "Spearman" not in text
    show_report(tmp_path, console=Console(file=io.StringIO()))
    assert not (tmp_path / "report" / "reductions.csv").exists()


@pytest.mark.parametrize("width", [100, 120])
def test_the_comparison_fits_the_terminal(tmp_path, width):
    make_grid(tmp_path, noise=0.03, seeds=(0, 1))
    text = printed(tmp_path, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "Bias and its factors" not in text
    assert correlation_table(compared(tmp_path)).rows[0][0] == "as written"


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_files_hold_the_known_figures_in_the_same_bytes_each_time(tmp_path):
    runs = tmp_path / "runs"
    make_grid(runs, strategies=("none", "contrastive"), noise=0.0)
    for out in ("first", "second"):
        assert command([str(runs), "--out", str(tmp_path / out)]) == 0
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    stems = ("decomposition", "embedding_downstream", "reductions", "trajectories")
    tables = ("cells", "correlations", "equilibrium", "relative_change", "trajectories", "decomposition", "reductions")
    expected = {f"{stem}.{end}" for stem in stems for end in ("png", "svg")} | {f"{table}.csv" for table in tables}
    assert {name for name in files if not name.endswith(".tex")} == expected | {"report.html"}
    assert "equilibrium.tex" in files
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    (row,) = [
        row
        for row in read(tmp_path / "first" / "reductions.csv")
        if [row[key] for key in ("metric", "measured", "generations", "level")]
        == [DOWNSTREAM, "after the mitigation", "last", "all"]
    ]
    assert float(row["reduction"]) == pytest.approx(0.91)
    assert float(row["p"]) == 2 / 2**9
    assert float(row["p_holm"]) >= 2 / 2**9
    assert (row["mitigation"], row["pairs"], row["possible_pairs"], row["note"]) == (
        "contrastive",
        "9",
        "9",
        "by construction",
    )
    cells = read(tmp_path / "first" / "cells.csv")
    assert len(cells) == sum(len(cell.measures) for cell in read_runs(runs).cells)
    assert len({tuple(row[key] for key in ("cell", "generation", "metric")) for row in cells}) == len(cells)
    assert {row["level"] for row in read(tmp_path / "first" / "decomposition.csv")} == {"all", "0.1", "0.3", "0.6"}
    assert b"<dc:date>" not in (tmp_path / "first" / "reductions.svg").read_bytes()


def test_the_lines_of_one_cell_are_the_same_from_another_run_store(tmp_path):
    make_grid(tmp_path / "whole", strategies=("none", "prompt"), seeds=(0,))
    (again,) = make_grid(
        tmp_path / "again", strategies=("prompt",), seeds=(0,), skip={("prompt", 0.3, 0), ("prompt", 0.6, 0)}
    )
    make_grid(tmp_path / "again", strategies=("none",), seeds=(1,))
    assert command([str(tmp_path / "again"), "--cell", again.name[:10], "--out", str(tmp_path / "b")]) == 0
    lines = cells_csv(read_runs(tmp_path / "whole").cells).splitlines(keepends=True)
    kept = "".join(line for line in lines if line.startswith("study,") or f",{again.name}," in line)
    assert (tmp_path / "b" / "cells.csv").read_text() == kept
    assert len(kept.splitlines()) > 10


def test_a_cell_that_is_not_there_or_not_one_is_a_mistake_of_one_line(tmp_path, capsys):
    make_grid(tmp_path, strategies=("none",), seeds=(0,))
    for name in ("", "zzz"):
        with pytest.raises(UserError, match="the name of one cell"):
            find_cells(tmp_path, [name])
    assert command([str(tmp_path), "--cell", "zzz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
