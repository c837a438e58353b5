"""`make coverage`: every setting runs, and a few of them hold the truth; the committed table is the committed CSV's."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from simulate.__main__ import all_settings
from simulate.page import in_page
from simulate.setting import Row, Setting, simulate

from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean

FOLDER = Path(__file__).parents[2] / "experiments" / "coverage"
SETTINGS = all_settings()


def test_every_setting_runs_and_says_the_same_again():
    for place, setting in enumerate(SETTINGS):
        rows = simulate(setting, 1)
        assert rows
        if place % 9 == 0:
            assert list(map(repr, rows)) == list(map(repr, simulate(setting, 1))), setting.name


def test_names_are_different():
    names = [(one.group, one.name, one.n) for one in SETTINGS]
    assert len(set(names)) == len(names)


def row(coverage, studies=500, shown=1.0):
    return Row("g", "s", "n", "q", studies, shown, coverage, 0.0, 0.0, 1.0, "")


@pytest.mark.parametrize(
    ("coverage", "verdict"), [(0.95, "holds"), (0.925, "holds"), (0.89, "short"), (0.995, "wide"), (math.nan, "none")]
)
def test_a_verdict_allows_for_two_standard_errors(coverage, verdict):
    assert row(coverage).verdict == verdict


def test_coverage_of_a_known_interval_is_found_again():
    """Student's interval of normal values holds 95%; half of it P(|t| < 2.26 / 2) with nine degrees of freedom, 71%."""

    def study(draw, number):
        whole = estimate_mean(draw.normal(size=10))
        half = Estimate(whole.value, (whole.value + whole.low) / 2, (whole.value + whole.high) / 2, 10)
        return {"whole": (whole, 0.0), "half": (half, 0.0)}

    whole, half = simulate(Setting("test", "normal", "10", study), 1500)
    assert whole.coverage == pytest.approx(0.95, abs=0.02)
    assert half.coverage == pytest.approx(0.713, abs=0.035)
    assert whole.coverage + whole.below + whole.above == pytest.approx(1)


def test_the_committed_page_is_that_of_the_committed_rows():
    with (FOLDER / "coverage.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert in_page(page, rows) == page
    known = {(one.group, one.name, one.n) for one in SETTINGS}
    assert {(one["group"], one["setting"], one["n"]) for one in rows} == known
    assert min(int(one["studies"]) for one in rows) >= 500
    short = {(one["group"], one["setting"]) for one in rows if one["verdict"] == "short"}
    assert all(one["note"] for one in rows if one["verdict"] in ("short", "wide")), short
    assert np.mean([one["verdict"] == "holds" for one in rows if one["verdict"] != "none"]) > 0.85
