"""Every table of stores that are too small for intervals: no cell is an empty interval, infinite or nan."""

import re

import pytest
from fair_gender_store import make_method
from report_store import make_demo, write_cell

from fairloop.measures.measurement import Measurement
from fairloop.metrics.calibration import Place
from fairloop.report.calibration.tables import Calibration, summary_table
from fairloop.report.difference.changes import Selection, compare
from fairloop.report.difference.page import change_table
from fairloop.report.fair_gender.effects import debiasings
from fairloop.report.page import report_sections
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.report.recursion.strategies import comparisons
from fairloop.report.recursion.tables import metric_tables
from fairloop.report.table import with_interval
from fairloop.report.write import write_report
from fairloop.statistics.calibration import Curve, contrast, detectable_change, noise, slope
from fairloop.statistics.estimate import Estimate

NO_ESTIMATE = re.compile(
    r"p|pairs|seeds|cells|n|starts|gen|last gen|A|B|N|cells / transitions|verdict|interval from|published|results"
    r"|Spearman|labels, by hand|level|distinct-2|accuracy|yield"
)
"""Columns of counts, p-values, words, and of values that no interval belongs to."""

SAID = re.compile(r"\[.*\]|too few|no spread|undefined|unbounded|^–$|^$")


def tables_of(folder):
    runs = read_runs(folder)
    found = conditions(runs.cells)
    sections = report_sections(runs, found, comparisons(found), (), debiasings(runs.cells))
    tables = [table for section in sections for table in section.tables]
    for condition in found:
        tables += metric_tables(condition, single=True, in_full=True) + metric_tables(condition, single=False)
    if len(runs.cells) > 1:
        half = len(runs.cells) // 2
        sides = Selection("a", runs.cells[:half], half == 1), Selection("b", runs.cells[half:], half == 1)
        difference = compare(*sides)
        tables.append(change_table("Change", difference.headline, difference))
    return tables


def check(tables):
    assert tables
    for table in tables:
        for row in table.rows:
            for column, text in zip(table.columns[table.labels :], row[table.labels :], strict=True):
                assert not re.search(r"\bnan\b|\binf\b|∞", text, re.IGNORECASE), (table.title, column, text)
                said = NO_ESTIMATE.fullmatch(column) or SAID.search(text)
                assert said, (table.title, column, text)


def tiny(folder, seeds):
    """Cells whose corpora have two groups: nothing has an interval of its own."""
    rows = []
    for generation, share in enumerate((0.5, 0.25)):
        for metric in ("rule/net_stereotype_rate", "rule/gendered_share", "rule/net_rate_among_gendered"):
            rows.append((generation, metric, share, None, None, 24, 2))
        rows += [(generation, "embedding/effect_size", 1.2, None, None, 24, 2)]
        rows += [(generation, "downstream/bias", 0.0, None, None, 24, 2)]
    for mitigation in ({}, {"augment": {}}):
        for seed in seeds:
            config = {
                "study": {"name": "recursion", "generations": 1, "sentences": 24},
                "model": {"name": "smollm2_135m_instruct"},
                "initial_bias": {"level": 0.5},
                "mitigation": mitigation,
                "seed": seed,
            }
            write_cell(folder / "recursion" / f"cell{seed}{''.join(mitigation)}", config, rows, units=True)


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)], ids=("one cell", "two", "three alike"))
def test_recursion(tmp_path, seeds):
    tiny(tmp_path, seeds=seeds)
    tables = tables_of(tmp_path)
    check(tables)
    words = " ".join(text for table in tables for row in table.rows for text in row)
    assert "too few" in words
    assert ("no spread" in words) == (len(seeds) > 2)
    assert "too few transitions" in words


def test_recursion_of_cells_that_have_intervals(tmp_path):
    make_demo(tmp_path, mitigations=((), ("augment",)), generations=2)
    check(tables_of(tmp_path))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_debias_methods(tmp_path, seeds):
    for seed in seeds:
        make_method(tmp_path, "none", seed)
        make_method(tmp_path, "fair_gender", seed, 0.3)
        make_method(tmp_path, "fair_gender", seed, 0.4, settings={"causal": "none"})
        make_method(tmp_path, "cda", seed, 0.6)
    tables = tables_of(tmp_path)
    check(tables)
    assert any("too few seeds" in text for table in tables for row in table.rows for text in row)


def test_benchmarks(tmp_path):
    rows = [
        ("", "stereoset/overall/ss", 60.0, None, None, 78, 3),
        ("", "stereoset/overall/lms", 80.0, None, None, 78, 3),
        ("", "seat/weat6/effect_size", 1.5, 1.1, 1.8, 112, 16),
        ("", "seat/mean_abs_effect_size", 1.5, 1.1, 1.8, 112, 16),
        ("", "winobias/overall/gap", 5.0, None, None, 5, 5),
    ]
    config = {
        "study": {"name": "evaluate"},
        "plm": {"name": "minilm", "path": "embedded:minilm"},
        "benchmark": {"name": "stereoset"},
        "seed": 0,
    }
    write_cell(tmp_path / "evaluate" / "cell", config, rows, units=True)
    (table,) = tables_of(tmp_path)
    check([table])
    shown = {row[1]: row[2] for row in table.rows}
    assert shown["stereoset/overall/ss"] == "60.00 (too few groups)"
    assert shown["winobias/overall/gap"] == "5.00 (too few items)"


def test_an_interval_that_is_known_to_be_too_short_is_marked_everywhere(tmp_path):
    rows = [("", "seat/weat6/effect_size", 1.5, 1.1, 1.8, 112, 16)]
    plm = {"name": "minilm", "path": "embedded:minilm"}
    config = {"study": {"name": "evaluate"}, "plm": plm, "benchmark": {"name": "seat"}, "seed": 0}
    write_cell(tmp_path / "evaluate" / "cell", config, rows, units=True)
    paths = write_report(tmp_path)
    (table,) = tables_of(tmp_path)
    assert table.rows[0][2] == "1.50 [1.1, 1.8]§"
    assert "§ a 95% interval that held the truth less often" in table.note
    assert paths.cells.read_text().endswith(",112,16,§\n")
    assert r"[1.1, 1.8]\S{}" in (tmp_path / "report" / "benchmarks.tex").read_text()
    assert r'"remarks":["","\u00a7"],"note":"\u00a7 a 95% interval' in paths.page.read_text()


def test_metric_calibration():
    """Two corpora at each of two levels, of a metric that hardly moves: what it detects is unbounded."""
    curve = Curve.of([0.0, 0.5], [[0.1, 0.3], [0.2, 0.21]])
    name = "embedding/effect_size"
    found = {
        Place(name, 50, what, 0.0, None): one
        for what, one in (("slope", slope(curve)), ("mde", detectable_change(curve)), ("noise", noise(curve)))
    }
    found[Place(name, 50, "mean", 0.0, 0.0)] = contrast(curve.values[:1], [1.0])
    rows = [Measurement.of(place.name, one) for place, one in found.items()]
    (row,) = summary_table(Calibration.of(rows, "abc", "0", 0.0)).rows
    check([summary_table(Calibration.of(rows, "abc", "0", 0.0))])
    assert "unbounded" in row[-1]


def test_a_bare_value_is_found():
    """The check itself can fail."""
    assert not SAID.search(with_interval(Estimate(0.1, float("nan"), float("nan"), 500)))
