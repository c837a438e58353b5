"""What stands beside a value: known shortness of its interval is that of the simulations, and why it has none."""

import csv
import math
from pathlib import Path

import pytest

from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.measures.remarks import MARK, is_short, lack, remark, short_intervals, short_note
from fairloop.statistics.estimate import Estimate
from fairloop.tracking.wandb_values import interval_rows, last_intervals

COVERAGE = Path(__file__).parents[2] / "experiments" / "coverage" / "coverage.csv"
SEAT = "seat/weat6/effect_size"


def test_every_setting_that_covers_less_than_93_per_cent_is_marked_with_what_was_simulated():
    with COVERAGE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["coverage"] != "nan"]
    short = {
        tuple(row[name] for name in ("group", "setting", "n", "quantity")): float(row["coverage"])
        for row in rows
        if float(row["coverage"]) < 0.93
    }
    assert short
    assert {(one.group, one.setting, one.n, one.quantity): one.coverage for one in short_intervals()} == short


def test_seats_effect_near_its_end_is_marked_where_words_are_few():
    assert is_short(SEAT, Estimate(-1.5, -1.8, -1.1, 112, 16))
    assert not is_short(SEAT, Estimate(0.9, 0.1, 1.6, 112, 16))
    assert not is_short(SEAT, Estimate(1.5, 1.3, 1.7, 256, 32))
    assert not is_short(SEAT, Estimate(1.5, math.nan, math.nan, 112, 16))
    assert not is_short("embedding/effect_size", Estimate(1.5, 1.1, 1.8, 112, 16))
    assert is_short(f"before/{SEAT}", Estimate(1.5, 1.1, 1.8, 112, 16))
    assert remark(SEAT, Estimate(1.5, 1.1, 1.8, 112, 16)) == MARK
    assert short_note([SEAT]) == (
        "§ a 95% interval that held the truth less often in simulations: effect size d 93% "
        "(SEAT: d = 1.5, strong words, 112 / 16 words)."
    )
    assert short_note(["crows_pairs/overall/score"]) == ""


def test_the_line_of_labels_that_err_is_marked():
    level = Estimate(0.12, 0.1, 0.14, 45)
    assert is_short("equilibrium/level", level, "labels err")
    assert not is_short("equilibrium/level", level)
    assert "B* of the line 24%" in short_note(["equilibrium/level"], "labels err")


@pytest.mark.parametrize(
    ("n", "units", "over", "word"),
    [
        (256, 3, "", "too few groups"),
        (5, 5, "", "too few items"),
        (256, 16, "", "no spread"),
        (256, None, "", ""),
        (2, None, "cells", "too few cells"),
        (3, None, "pairs", "no spread"),
        (27, 7, "starts", "too few starts"),
    ],
)
def test_why_there_is_no_interval(n, units, over, word):
    assert lack(Estimate(0.1, math.nan, math.nan, n, units), over) == word
    assert lack(Estimate(0.1, 0.0, 0.2, n, units), over) == ""


def test_weights_and_biases_has_the_same_remarks():
    rows = interval_rows(
        [Measurement(SEAT, 1.5, 1.1, 1.8, 112, 16), Measurement("rule/net_stereotype_rate", 0.2, None, None, 24, 2)], 1
    )
    assert [row["note"] for row in rows] == [short_note([SEAT]), "too few groups"]
    assert last_intervals(rows, catalogue())["rule/net_stereotype_rate/note"] == "too few groups"
