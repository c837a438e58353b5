"""Rates counted from labels that err: corrected against counting by hand, intervals against simulated studies."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean, estimate_share
from fairloop.statistics.mislabelled import (
    LabelErrors,
    corrected_among,
    corrected_male_share,
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
    draw, studies, held, plain = np.random.default_rng(3), 200, np.zeros(2), 0
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
    assert np.all(held / studies > 0.91)
    assert plain / studies < 0.2


MALES, FEMALES, OTHERS = (190, 2, 8), (6, 120, 74), (2, 1, 97)
"""Of males nearly all are found; of females six in ten, and three in a hundred are taken for male."""
APART = LabelErrors.apart(MALES, FEMALES, OTHERS)


def counted_of(male, female, rows=(MALES, FEMALES, OTHERS)):
    """Return the shares that are labelled male and female, by hand."""
    shares = [np.array(row) / sum(row) for row in rows]
    found = male * shares[0] + female * shares[1] + (1 - male - female) * shares[2]
    return found[0], found[1]


def test_the_simple_counts_are_those_of_both_genders_together():
    simple = LabelErrors(400, 310, 8, 100, 3)
    assert replace(APART, rows=None) == simple
    assert (simple.recall, APART.recall) == (318 / 400, 318 / 400)
    assert simple.kept == pytest.approx((310 - 8) / 400)
    assert not simple.by_gender
    assert APART.by_gender
    assert not LabelErrors.apart((9, 0, 0), FEMALES, OTHERS).by_gender
    few = LabelErrors.apart((9, 0, 0), FEMALES, OTHERS)
    assert few.matrix == pytest.approx(replace(few, rows=None).matrix)


def test_shares_come_back_by_inverting_the_matrix():
    male, female = counted_of(0.3, 0.3)
    share, men = male + female, male / (male + female)
    assert men > 0.6  # as counted the corpus is male, though it is not
    assert corrected_share(point(share), APART, men).value == pytest.approx(0.6)
    assert corrected_male_share(point(men), APART, share).value == pytest.approx(0.5)
    later = sum(counted_of(0.25, 0.25))
    moved = corrected_share_change(point(later - share), APART, men)
    assert moved.value == pytest.approx(-0.1, abs=0.002)
    pooled = replace(APART, rows=None)
    assert corrected_male_share(point(men), pooled, share).value > 0.6  # one recall for both cannot see it


def test_the_net_rate_comes_back_where_occupations_name_a_gender_as_often():
    """Half of the sentences are about occupations of men: there 40% male and 20% female, elsewhere the reverse."""
    of_men, of_women = counted_of(0.4, 0.2), counted_of(0.2, 0.4)
    counted = (of_men[0] - of_men[1]) / 2 + (of_women[1] - of_women[0]) / 2
    assert corrected_net_rate(point(counted), APART).value == pytest.approx(0.2)
    share = (sum(of_men) + sum(of_women)) / 2
    men = (of_men[0] + of_women[0]) / 2 / share
    assert corrected_among(point(counted / share), share, APART, men).value == pytest.approx(0.2 / 0.6)


def test_intervals_carry_what_is_not_known_of_either_genders_recall():
    """120 sentences by hand; males are found in 95%, females in 60%: all three truths, and pooled ones miss."""
    draw, studies = np.random.default_rng(4), 120
    rows = [np.array(row) / sum(row) for row in (MALES, FEMALES, OTHERS)]
    truth = np.array([0.3, 0.3, 0.4])
    held, pooled = np.zeros(3), 0
    for _ in range(studies):
        errors = LabelErrors.apart(*(tuple(draw.multinomial(60, row).tolist()) for row in rows))
        true = draw.choice(3, 1500, p=truth)
        of_men = draw.random(1500) < np.array([2 / 3, 1 / 3, 0.5])[true]
        said = (draw.random(1500)[:, None] > np.cumsum(np.array(rows)[true], axis=1)).sum(axis=1)
        sigma = np.where(said == 2, 0, np.where((said == 0) == of_men, 1, -1))
        rate, share = estimate_mean(sigma), estimate_share(said != 2)
        men = estimate_share((said == 0)[said != 2])
        found = [
            (corrected_net_rate(rate, errors), 0.2),
            (corrected_share(share, errors, men.value), 0.6),
            (corrected_male_share(men, errors, share.value), 0.5),
        ]
        held += [one.low <= value <= one.high for one, value in found]
        other = corrected_male_share(men, replace(errors, rows=None), share.value)
        pooled += other.low <= 0.5 <= other.high
    assert np.all(held / studies > 0.89), held / studies
    assert pooled / studies < 0.2
