"""Spearman's rank correlation with a bootstrap interval over clusters of observations."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator
from fairloop.statistics.bootstrap import cluster_numbers, divide
from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]


def spearman(
    x: ArrayLike,
    y: ArrayLike,
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return Spearman's rank correlation of x [n] and y [n], ties by mid-ranks, with its percentile interval.

    Whole clusters are drawn with replacement. A resample is a weight for each observation, and the mid-rank of a value
    is the weight below it plus half its own (and a half): all resamples are ranked at once, without being listed.

    Returns:
        n is the number of observations. Undefined (NaN) if x or y does not vary; without an interval for a single
        cluster. Resamples in which x or y does not vary are left out.
    """
    columns = [np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)]
    n = len(columns[0])
    if len(columns[1]) != n or (clusters is not None and len(clusters) != n):
        raise ValueError(
            f"{n} values of x, {len(columns[1])} of y, {n if clusters is None else len(clusters)} clusters"
        )
    if n == 0:
        return Estimate.undefined()
    value = float(_weighted(columns, np.ones((1, n)))[0])
    numbers = np.arange(n) if clusters is None else cluster_numbers(clusters)
    units = int(numbers.max()) + 1
    if math.isnan(value) or units < 2:
        return Estimate(value, math.nan, math.nan, n)
    drawn = random_generator(seed, "spearman").multinomial(units, np.full(units, 1 / units), size=resamples)
    replicates = _weighted(columns, drawn[:, numbers].astype(np.float64))
    replicates = replicates[np.isfinite(replicates)]
    if len(replicates) == 0:
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high), n)


def correlation_of_sums(sums: Floats) -> Floats:
    """Return Pearson's correlation from the sums [..., 6] of x, y, xy, x², y² and 1; NaN where one does not vary."""
    x, y, xy, xx, yy, n = (sums[..., column] for column in range(6))
    spread = np.maximum(n * xx - x**2, 0) * np.maximum(n * yy - y**2, 0)
    return divide(n * xy - x * y, np.sqrt(spread))


def _weighted(columns: Sequence[Floats], weights: Floats) -> Floats:
    """Return the correlation of the weighted mid-ranks for each row of `weights` [resamples, n]."""
    total = weights.sum(axis=1, keepdims=True)
    first, second = (_mid_ranks(column, weights) - (total + 1) / 2 for column in columns)
    spread = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
    # What rounding leaves of the spread of a constant is not a spread.
    spread[spread < 1e-9 * total[:, 0] ** 2] = 0
    return divide((weights * first * second).sum(axis=1), np.sqrt(spread))


def _mid_ranks(column: Floats, weights: Floats) -> Floats:
    places = np.unique(column, return_inverse=True)[1]
    same = (places[:, None] == np.arange(int(places.max()) + 1)[None, :]).astype(np.float64)
    own = weights @ same
    return np.asarray((np.cumsum(own, axis=1) - own / 2 + 0.5)[:, places])
