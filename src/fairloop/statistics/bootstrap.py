"""Confidence intervals by resampling: the percentile bootstrap, for many independent units (else `intervals`).

Observations that depend on each other (sentences whose prompts share examples) are resampled together: give
their cluster, and clusters instead of observations are drawn (Davison and Hinkley 1997, section 3.8).
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator
from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]
_DRAWS_AT_ONCE = 1 << 21


def bootstrap_mean(
    values: ArrayLike,
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of `values` [n] with its percentile interval; `undefined` for no values."""
    column = np.asarray(values, dtype=np.float64)
    return bootstrap_ratio(
        column, np.ones_like(column), seed=seed, resamples=resamples, clusters=clusters, confidence=confidence
    )


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return sum(numerators) / sum(denominators) with its percentile interval; both sums are resampled together.

    A rate within a subset is such a ratio: the size of the subset is as random as what is counted in it.
    n is the number of observations with a denominator other than zero. `undefined` if the denominators sum to zero.
    """
    columns = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    estimate = bootstrap_sums(
        columns,
        lambda sums: divide(sums[..., 0], sums[..., 1]),
        seed=seed,
        resamples=resamples,
        clusters=clusters,
        confidence=confidence,
    )
    if not estimate.defined:
        return estimate
    return Estimate(estimate.value, estimate.low, estimate.high, int(np.count_nonzero(columns[:, 1])))


def bootstrap_sums(
    columns: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return a statistic of column sums with its percentile interval.

    Means, ratios, variances and effect sizes are functions of a few sums over the observations, and so all
    resamples are evaluated at once.

    Args:
        columns: [n, k], what is summed, one row per observation.
        statistic: maps sums [..., k] to values [...]; NaN where the sums do not define it. Resamples that do
            not define it are left out of the interval.
        seed: decides the resamples: equal seeds and cluster counts give the same resamples, so that statistics
            of the same observations are resampled jointly.
        resamples: the number of resamples.
        clusters: [n], the cluster of each observation; None if every observation stands for itself.
        confidence: the coverage of the interval, between 0 and 1.
    """
    table = np.asarray(columns, dtype=np.float64)
    _check(len(table), clusters, resamples, confidence)
    if len(table) == 0:
        return Estimate.undefined()
    value = float(statistic(table.sum(axis=0)))
    if math.isnan(value):
        return Estimate.undefined()
    sums = resample_sums(table, seed=seed, resamples=resamples, clusters=clusters)
    if sums is None:
        return Estimate(value, math.nan, math.nan, len(table))
    return Estimate(value, *percentile_interval(statistic(sums), confidence), len(table))


def resample_sums(
    table: Floats, *, seed: int, resamples: int, clusters: Sequence[Hashable] | None = None
) -> Floats | None:
    """Return the column sums [resamples, k] of resamples of the rows [n, k]; None with fewer than two clusters."""
    units = _cluster_sums(table, clusters)
    return None if len(units) < 2 else _resampled_sums(units, seed, resamples)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    observations: int,
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return any statistic with its percentile interval, evaluated resample by resample.

    `statistic` gets the indices of the observations in a resample (with repetitions) and returns a number, or
    NaN where the resample does not define it. `bootstrap_sums` is much faster where the statistic allows it.
    """
    _check(observations, clusters, resamples, confidence)
    if observations == 0:
        return Estimate.undefined()
    value = float(statistic(np.arange(observations)))
    if math.isnan(value):
        return Estimate.undefined()
    members = _members(observations, clusters)
    if len(members) < 2:
        return Estimate(value, math.nan, math.nan, observations)
    draw = random_generator(seed, "bootstrap")
    replicates = np.empty(resamples)
    for index in range(resamples):
        drawn = draw.integers(0, len(members), len(members))
        replicates[index] = statistic(np.concatenate([members[unit] for unit in drawn]))
    return Estimate(value, *percentile_interval(replicates, confidence), observations)


def divide(numerators: Floats, denominators: Floats) -> Floats:
    """Return numerators / denominators, NaN where the denominator is zero."""
    quotients = np.full(np.shape(denominators), np.nan)
    np.divide(numerators, denominators, out=quotients, where=denominators != 0)
    return quotients


def cluster_numbers(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return the number of each observation's cluster [n], counted from 0 in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def _check(observations: int, clusters: Sequence[Hashable] | None, resamples: int, confidence: float) -> None:
    if clusters is not None and len(clusters) != observations:
        raise ValueError(f"{len(clusters)} clusters for {observations} observations")
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: between 0 and 1")


def _cluster_sums(table: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    if clusters is None:
        return table
    numbers = cluster_numbers(clusters)
    sums = np.zeros((int(numbers.max()) + 1, table.shape[1]))
    np.add.at(sums, numbers, table)
    return sums


def _members(observations: int, clusters: Sequence[Hashable] | None) -> list[NDArray[np.int64]]:
    numbers = np.arange(observations) if clusters is None else cluster_numbers(clusters)
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _resampled_sums(units: Floats, seed: int, resamples: int) -> Floats:
    """Return the sums [resamples, k] over as many units as there are, drawn with replacement."""
    draw = random_generator(seed, "bootstrap")
    sums = np.empty((resamples, units.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // len(units))
    for start in range(0, resamples, step):
        drawn = draw.integers(0, len(units), (min(step, resamples - start), len(units)))
        for column in range(units.shape[1]):
            sums[start : start + step, column] = units[:, column][drawn].sum(axis=1)
    return sums


def percentile_interval(replicates: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentiles that hold `confidence` of the replicates; those that are not finite are left out."""
    defined = replicates[np.isfinite(replicates)]
    if len(defined) == 0:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
