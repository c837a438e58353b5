"""Rates counted from labels that err: corrected against counting by hand, intervals against simulated studies."""

import math

import numpy as np
import pytest

from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean, estimate_share
from fairloop.statistics.mislabelled import (
    LabelErrors,
    corrected_among,
    corrected_net_rate,
    corrected_share,
    corrected_share_change,
)

ERRORS = LabelErrors(gendered=200, right=161, flipped=9, others=100, false=4)
NONE = LabelErrors(gendered=10**9, right=10**9, flipped=0, others=10**9, false=0)


def point(value):
    return Estimate(value, math.nan, math.nan, 100)


def test_what_is_counted_by_hand_is_found_again():
    """Of 1000 sentences 600 gendered, 420 with and 180 against the stereotype; labels err as by hand."""
    right, flipped, false = 161 / 200, 9 / 200, 4 / 100
    with_ = 420 * right + 180 * flipped + 400 * false / 2
    against = 180 * right + 420 * flipped + 400 * false / 2
    share, rate = (with_ + against) / 1000, (with_ - against) / 1000
    assert corrected_share(point(share), ERRORS).value == pytest.approx(0.6)
    assert corrected_net_rate(point(rate), ERRORS).value == pytest.approx(0.24)
    assert corrected_among(point(rate / share), share, ERRORS).value == pytest.approx(0.4)
    moved = corrected_share_change(point(0.1 * (right + flipped - false)), ERRORS)
    assert moved.value == pytest.approx(0.1)
    assert math.isnan(moved.low)


def test_labels_without_errors_change_nothing():
    values = np.random.default_rng(0).normal(0.2, 0.3, 30)
    counted = estimate_mean(values)
    found = corrected_net_rate(counted, NONE)
    assert (found.value, found.n, found.units) == (pytest.approx(counted.value), 30, 30)
    assert (found.low, found.high) == pytest.approx((counted.low, counted.high), abs=0.006)


def test_no_error_among_few_sentences_is_not_taken_for_none_at_all():
    counted = Estimate(0.3, 0.299, 0.301, 500)
    found = corrected_net_rate(counted, LabelErrors(21, 21, 0, 66, 0))
    assert found.value == pytest.approx(0.3)
    assert found.high > 0.315


def test_undefined_and_unbounded_stay_so():
    assert not corrected_share(Estimate.undefined(), ERRORS).defined
    unbounded = corrected_net_rate(Estimate(0.1, -math.inf, math.inf, 9), ERRORS)
    assert (unbounded.low, unbounded.high) == (-math.inf, math.inf)


def test_intervals_carry_what_is_not_known_of_recall_and_swaps():
    """Recall 0.85, 5% of what is found swapped, both known from 60 sentences; plainly B is 23% too small."""
    draw, studies, held, plain = np.random.default_rng(3), 400, np.zeros(2), 0
    for _ in range(studies):
        gendered = draw.random(2000) < 0.6
        sigma = np.where(gendered, np.where(draw.random(2000) < 0.75, 1, -1), 0)
        found = draw.random(2000) < 0.85
        counted = np.where(found, sigma, 0) * np.where(draw.random(2000) < 0.05, -1, 1)
        seen = draw.binomial(60, 0.85)
        flipped = draw.binomial(seen, 0.05)
        errors = LabelErrors(60, seen - flipped, flipped, 60, 0)
        rate, share = estimate_mean(counted), estimate_share(counted != 0)
        one, other = corrected_net_rate(rate, errors), corrected_share(share, errors)
        held += [one.low <= 0.3 <= one.high, other.low <= 0.6 <= other.high]
        plain += rate.low <= 0.3 <= rate.high
    assert np.all(held / studies > 0.92)
    assert plain / studies < 0.2
