"""Calibration of made-up metrics whose slope, noise and response are known; names that are read back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.metrics.calibration import Place, Reading, calibrate

LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@given(
    metric=st.sampled_from(["rule/net_stereotype_rate", "downstream_pronoun/bias", "a/n5/b"]),
    sentences=st.integers(1, 10**6),
    what=st.sampled_from(["mean", "shift", "local_slope", "mde_source"]),
    rate=st.sampled_from([0.0, 0.5, 1.0, 1e-5]),
    level=st.one_of(st.none(), st.sampled_from([-1.0, -0.25, 0.0, 1e-5])),
)
def test_a_name_says_what_it_is_about(metric, sentences, what, rate, level):
    place = Place(metric, sentences, what, rate, level)
    assert Place.read(place.name) == place


def test_other_names_are_no_calibration():
    for name in ("rule/net_stereotype_rate", "calibration/rule/x/slope", "generation/yield"):
        assert Place.read(name) is None


def readings(metrics, sizes=(100,), replicates=40):
    """One reading for each level, size and replicate, as written and augmented at rate 1."""
    return [
        Reading(level, level, size, replicate, rate, {name: metric(level, rate) for name, metric in metrics.items()})
        for size in sizes
        for level in LEVELS
        for replicate in range(replicates)
        for rate in (0.0, 1.0)
    ]


def test_known_metrics_get_their_slope_noise_sensitivity_and_response():
    draw = np.random.default_rng(0)
    metrics = {
        "follows/b": lambda level, rate: 3 * level * (1 - rate) + 0.2 * draw.standard_normal(),
        "ignores/b": lambda level, rate: 0.5 + 0.1 * rate + 0.2 * draw.standard_normal(),
        "exact/b": lambda level, rate: level * (1 - rate),
        "constant/b": lambda level, rate: 0.25,
        "undefined/b": lambda level, rate: math.nan,
    }
    found = {one.metric: one for one in calibrate(readings(metrics, replicates=100), reference=0.5, neutral_share=0.5)}

    def get(metric, what, rate=0.0, level=None):
        return found[Place(metric, 100, what, rate, level).name]

    for what in ("slope", "local_slope"):
        assert get("follows/b", what).low < 3 < get("follows/b", what).high
        assert get("follows/b", what).value == pytest.approx(3, abs=0.1)
    assert get("follows/b", "mean", level=0.5).value == pytest.approx(1.5, abs=0.1)
    assert get("follows/b", "noise").value == pytest.approx(0.2, rel=0.15)
    assert get("follows/b", "mde").value == pytest.approx(3.962 * 0.2 / 3, rel=0.15)
    assert get("follows/b", "shift", 1.0, -1.0).value == pytest.approx(3, abs=0.1)
    assert get("follows/b", "slope", 1.0).low < 0 < get("follows/b", "slope", 1.0).high
    assert get("follows/b", "spearman").value > 0.95
    assert get("follows/b", "linearity").value > 0.99

    assert get("ignores/b", "slope").low < 0 < get("ignores/b", "slope").high
    assert get("ignores/b", "shift", 1.0, 0.0).value == pytest.approx(0.1, abs=0.1)
    assert get("ignores/b", "mde").value > 1.0

    # The source's own sampling is all that limits an exact metric: 3/4 of the sentences carry σ at level 1/2.
    assert get("exact/b", "mde").value == 0.0
    assert get("exact/b", "mde_source").value == pytest.approx(3.962 * math.sqrt((0.75 - 0.25) / 100), rel=1e-3)
    assert get("follows/b", "mde_source").value == pytest.approx(
        math.hypot(get("follows/b", "mde").value, get("exact/b", "mde_source").value)
    )
    assert get("exact/b", "slope").value == pytest.approx(1.0)

    for metric in ("constant/b", "undefined/b"):
        assert not get(metric, "mde").defined
    assert get("constant/b", "slope").value == pytest.approx(0.0, abs=1e-12)
    assert not get("undefined/b", "mean", level=0.0).defined


def test_shifts_are_paired_over_corpora():
    """Corpora that differ widely, each moved by exactly 0.1: an unpaired interval would be wide."""
    base = np.random.default_rng(1).normal(0, 5, (len(LEVELS), 6))
    pairs = [
        Reading(level, level, 50, replicate, rate, {"m/x": base[place, replicate] + 0.1 * rate})
        for place, level in enumerate(LEVELS)
        for replicate in range(6)
        for rate in (1.0, 0.0)
    ]
    found = {one.metric: one for one in calibrate(pairs, reference=0.0, neutral_share=0.5)}
    shift = found["calibration/m/x/n50/augmented_1/shift_at_-0.5"]
    assert (shift.value, shift.low, shift.high) == pytest.approx((0.1, 0.1, 0.1))
    assert shift.n == 6


def test_each_size_has_its_own_noise():
    draw = np.random.default_rng(2)
    noisy = [
        Reading(level, level, size, replicate, 0.0, {"m/x": level + draw.standard_normal() / math.sqrt(size)})
        for size in (100, 400)
        for level in LEVELS
        for replicate in range(200)
    ]
    found = {one.metric: one.value for one in calibrate(noisy, reference=0.0, neutral_share=0.5)}
    assert found["calibration/m/x/n100/mde"] / found["calibration/m/x/n400/mde"] == pytest.approx(2, rel=0.12)
