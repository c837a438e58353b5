"""docs/scale.md: its tables are what the arithmetic gives now, and the arithmetic is right."""

import csv
import math
from statistics import fmean

import pytest
from bench import scale


def test_the_page_is_what_is_computed():
    text = scale.PAGE.read_text(encoding="utf-8")
    assert scale.page(text) == text, "run: PYTHONPATH=tools python -m bench.scale"
    assert all(given.source for given in scale.GIVEN)


def test_the_usable_share_is_what_was_measured():
    with (scale.PAGE.parents[1] / "experiments" / "equilibrium_families" / "cells.csv").open(newline="") as file:
        yields = [
            float(row["value"])
            for row in csv.DictReader(file)
            if (row["model"], row["mitigation"], row["metric"]) == ("smollm2_135m_instruct", "none", "generation/yield")
        ]
    assert scale.YIELD.value == round(fmean(yields), 2)


def test_the_grid_is_recomputed_by_hand():
    one = scale.cost()
    asked = 100_000 / 0.78
    assert one.written == pytest.approx(asked * 11.6 * 1.2)
    # Weights of 5.22 GB, and for each of 64 texts 106,496 bytes a token over 273 tokens of prompt and 7 of text.
    assert one.limit == pytest.approx(64 * 3.35e12 / (5.22e9 + 64 * 106_496 * (273 + 6.96)), rel=1e-6)
    assert one.measuring == pytest.approx(110_000 * 0.036)
    hours = (one.written / (0.08 * one.limit) + one.reading + one.measuring / 4) / 3600
    for gpus, rounds in ((1, 45), (8, 6), (64, 1)):
        assert scale.wall_hours(gpus, 0) == pytest.approx(rounds * hours)
    assert math.isclose(scale.wall_hours(64, 1), scale.wall_hours(45, 1))
