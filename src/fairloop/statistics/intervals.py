"""Confidence intervals that hold for few independent units: Student's t on the jackknife, and Wilson's for shares.

A unit is what is independent of the others: a sentence, or all sentences whose prompts share examples, or all items
about one term. The percentile bootstrap over few units is too short (it covers 48% with two units, 81% with four and
91.5% with sixteen where 95% is meant), because it takes the units' spread for known. Here the standard error is that
of the delete-one-unit jackknife, and Student's t with units − 1 degrees of freedom stands for what so few units say
about it (Bell and McCaffrey 2002, Survey Methodology 28:169-181, for linear statistics). `make coverage` simulates it.

A share near 0 or 1 has no symmetric interval: Wilson's (1927) is taken, with the effective number of observations that
the jackknife's standard error stands for (Korn and Graubard 1998, Survey Methodology 24:193-201; Dean and Pagano 2015,
Journal of Survey Statistics and Methodology 3:484-503) and Student's t in place of the normal quantile.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.statistics.estimate import TAILS, Estimate
from fairloop.statistics.student import student_quantile
from fairloop.statistics.units import UNBOUNDED, Bounds, check, jackknife_error, left_out, quotient, unit_sums

Floats = NDArray[np.float64]

FEWEST_UNITS = 4
"""Below this number of independent units there is no interval: with three, simulated coverage depends on the data."""


def estimate_mean(
    values: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> Estimate:
    """Return the mean of `values` [n] with Student's interval over units; `undefined` for no values.

    `clusters` and `bounds` are those of `estimate_sums`. With one observation a unit this is the ordinary t interval.
    """
    column = np.asarray(values, dtype=np.float64)
    return estimate_ratio(column, np.ones_like(column), clusters=clusters, bounds=bounds)


def estimate_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> Estimate:
    """Return sum(numerators) / sum(denominators) with Student's interval over units.

    n is the number of observations with a denominator other than zero. `undefined` if the denominators sum to zero.
    """
    columns = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    estimate = estimate_sums(columns, quotient, clusters=clusters, bounds=bounds)
    return estimate.counting(int(np.count_nonzero(columns[:, 1])))


def estimate_share(
    hits: ArrayLike,
    trials: ArrayLike | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> Estimate:
    """Return sum(hits) / sum(trials) with Wilson's interval over units; for hits between 0 and their trials.

    Args:
        hits: [n], how often what is counted occurred.
        trials: [n], how often it could have; None for once each.
        clusters: [n], the unit of each observation; None if every observation stands for itself.

    Returns:
        n is the sum of the trials. `undefined` if that is zero; without an interval below `FEWEST_UNITS`.
    """
    top = np.asarray(hits, dtype=np.float64)
    below = np.ones_like(top) if trials is None else np.asarray(trials, dtype=np.float64)
    if np.any(top < 0) or np.any(top > below):
        raise ValueError("a share's hits lie between 0 and their trials")
    total = float(below.sum()) if len(below) else 0.0
    if total == 0:
        return Estimate.undefined()
    units = unit_sums(np.stack([top, below], axis=1), clusters)
    value, n = float(top.sum() / total), round(total)
    units = units[units[:, 1] > 0]
    if len(units) < FEWEST_UNITS:
        return Estimate(value, math.nan, math.nan, n, len(units))
    error = float(jackknife_error(left_out(units, quotient)))
    variance = value * (1 - value)
    # Hits in every unit alike, or in none: the units show no spread, and the trials count as independent.
    effective = variance / error**2 if error > 0 and variance > 0 else total
    quantile = student_quantile(TAILS[1], len(units) - 1)
    square = quantile**2 / effective
    centre = (value + square / 2) / (1 + square)
    half = math.sqrt(square * variance + square**2 / 4) / (1 + square)
    return Estimate(value, max(0.0, centre - half), min(1.0, centre + half), n, len(units))


def estimate_sums(
    columns: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> Estimate:
    """Return a smooth statistic of column sums with Student's interval from the delete-one-unit jackknife.

    Means, ratios, variances and effect sizes are functions of a few sums over the observations, and so the statistic
    without each unit is evaluated for all units at once.

    Args:
        columns: [n, k], what is summed, one row per observation.
        statistic: maps sums [..., k] to values [...]; NaN where the sums do not define it.
        clusters: [n], the unit of each observation; None if every observation stands for itself.
        bounds: the least and the greatest value possible; the interval ends there.

    Returns:
        `undefined` if the sums of all do not define it. Without an interval below `FEWEST_UNITS` units, where a unit
        alone decides whether the statistic is defined, and where nothing varies: that units agree to the last digit
        says nothing about their spread.
    """
    table = np.asarray(columns, dtype=np.float64)
    check(len(table), clusters)
    value = float(statistic(table.sum(axis=0))) if len(table) else math.nan
    if math.isnan(value):
        return Estimate.undefined()
    units = unit_sums(table, clusters)
    if len(units) < FEWEST_UNITS:
        return Estimate(value, math.nan, math.nan, len(table), len(units))
    return jackknife(value, left_out(units, statistic), len(table), bounds)


def estimate_dyadic_mean(
    values: ArrayLike, pairs: Sequence[tuple[Hashable, Hashable]], *, bounds: Bounds = UNBOUNDED
) -> Estimate:
    """Return the mean of `values` [n], each of a pair of things, with Student's interval over the things.

    Values that share a thing hang together, also if the other thing differs. The variance is the sum of all products of
    deviations of values that share one: over things, less those that share both, which that counts twice (Aronow, Samii
    and Assenova 2015, Political Analysis 23:564-577), and no less than that of pairs alone.

    Returns:
        The units are the things; without an interval below `FEWEST_UNITS`, or where nothing varies.
    """
    column = np.asarray(values, dtype=np.float64)
    if not len(column):
        return Estimate.undefined()
    n, mean = len(column), float(column.mean())
    things = {thing: place for place, thing in enumerate(dict.fromkeys(one for pair in pairs for one in pair))}
    by_thing, by_pair = np.zeros(len(things)), dict[frozenset[Hashable], float]()
    for pair, apart in zip(pairs, column - mean, strict=True):
        both = frozenset(pair)
        by_pair[both] = by_pair.get(both, 0.0) + float(apart)
        for thing in both:
            by_thing[things[thing]] += apart
    units, of_pairs = len(things), float(np.square(list(by_pair.values())).sum())
    if units < FEWEST_UNITS or of_pairs <= 1e-24 * n * max(mean**2, 1e-300):
        return Estimate(mean, math.nan, math.nan, n, units)
    variance = max(float(by_thing @ by_thing) - of_pairs, of_pairs) * units / (units - 1)
    margin = student_quantile(TAILS[1], units - 1) * math.sqrt(variance) / n
    return Estimate(mean, max(bounds[0], mean - margin), min(bounds[1], mean + margin), n, units)


def jackknife(value: float, without: ArrayLike, n: int, bounds: Bounds = UNBOUNDED) -> Estimate:
    """Return `value` with Student's interval from the jackknife's standard error.

    Its variance is on average too large rather than too small (Efron and Stein 1981), so that the interval errs on the
    safe side. Counts of distinct things need it: a resample repeats about a third of the observations and so always
    holds fewer distinct things than the sample.

    Args:
        value: the statistic of all observations.
        without: [units], the statistic with each independent unit left out in turn; NaN where that is undefined.
        n: the number of observations to report.
        bounds: the least and the greatest value possible; the interval ends there.
    """
    if math.isnan(value):
        return Estimate.undefined()
    values = np.asarray(without, dtype=np.float64)
    error = float(jackknife_error(values)) if len(values) >= FEWEST_UNITS else math.nan
    if not error > 1e-12 * max(abs(value), 1e-300):
        return Estimate(value, math.nan, math.nan, n, len(values))
    margin = student_quantile(TAILS[1], len(values) - 1) * error
    return Estimate(value, max(bounds[0], value - margin), min(bounds[1], value + margin), n, len(values))
