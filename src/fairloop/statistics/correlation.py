"""Spearman's and Pearson's correlation with intervals over clusters of observations.

The interval is the jackknife's on Fisher's scale, atanh of the correlation, with Student's t: resamples of few points
repeat them, and the percentiles of what they give are too narrow (two points always correlate by +-1).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.statistics.bootstrap import RESAMPLES, bootstrap_sums
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import jackknife
from fairloop.statistics.units import cluster_numbers, divide

Floats = NDArray[np.float64]

FEWEST_CLUSTERS = 8
"""Below this number of clusters a correlation has no interval: simulated coverage falls to 64% with five."""

MANY_POINTS = 1000
"""From this many points on each keeps its rank when a cluster is left out."""

_NEARLY_ONE = 0.999


def spearman(x: ArrayLike, y: ArrayLike, *, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Return Spearman's rank correlation of x [n] and y [n], ties by mid-ranks, with its interval over clusters.

    Leaving a cluster out is a weight for each observation, and the mid-rank of a value is the weight below it plus half
    its own (and a half): all are ranked at once, without being listed.

    Returns:
        n is the number of observations. Undefined (NaN) if x or y does not vary; without an interval below
        `FEWEST_CLUSTERS` clusters, or if x or y does not vary without one of them.
    """
    columns = [np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)]
    n = len(columns[0])
    if len(columns[1]) != n or (clusters is not None and len(clusters) != n):
        raise ValueError(
            f"{n} values of x, {len(columns[1])} of y, {n if clusters is None else len(clusters)} clusters"
        )
    if n == 0:
        return Estimate.undefined()
    # One-hot ranks of so many points would fill the memory: 20 GB at 50,000.
    many = n >= MANY_POINTS
    value = float(
        correlation_of_sums(_rank_table(columns).sum(axis=0)) if many else _weighted(columns, np.ones((1, n)))[0]
    )
    numbers = np.arange(n) if clusters is None else cluster_numbers(clusters)
    units = int(numbers.max()) + 1
    if math.isnan(value) or units < FEWEST_CLUSTERS:
        return Estimate(value, math.nan, math.nan, n, units)
    left_out = _left_out_keeping_ranks(columns, numbers) if many else _left_out(columns, numbers, units)
    scaled = jackknife(float(_fisher(value)), _fisher(left_out), n)
    return Estimate(value, math.tanh(scaled.low), math.tanh(scaled.high), n, units)


def pearson(x: ArrayLike, y: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Return Pearson's correlation of x [n] and y [n] with the bootstrap-t interval on Fisher's scale.

    Returns:
        Undefined (NaN) if x or y does not vary; without an interval below `FEWEST_CLUSTERS` points.
    """
    columns = [np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)]
    if not len(columns[0]):
        return Estimate.undefined()
    # Shifts and scales do not change r; without them rounding would.
    centred = [column - column.mean() for column in columns]
    first, second = (column / (np.abs(column).max() or 1.0) for column in centred)
    table = np.column_stack([first, second, first * second, first**2, second**2, np.ones(len(first))])
    n, value = len(table), float(correlation_of_sums(table.sum(axis=0)))
    if math.isnan(value) or n < FEWEST_CLUSTERS:
        return Estimate(value, math.nan, math.nan, n, n)
    scaled = bootstrap_sums(table, lambda sums: _fisher(correlation_of_sums(sums)), seed=seed, resamples=resamples)
    return replace(scaled.mapped(math.tanh), value=value)


def _fisher(correlation: ArrayLike) -> Floats:
    """Return atanh; a perfect correlation, whose scale is infinite, counts as nearly one."""
    return np.asarray(np.arctanh(np.clip(correlation, -_NEARLY_ONE, _NEARLY_ONE)))


def _left_out(columns: Sequence[Floats], numbers: NDArray[np.int64], units: int) -> Floats:
    return _weighted(columns, (numbers[None, :] != np.arange(units)[:, None]).astype(np.float64))


def _left_out_keeping_ranks(columns: Sequence[Floats], numbers: NDArray[np.int64]) -> Floats:
    """Return Pearson's correlation of the ranks among all points, without each cluster in turn."""
    sums = np.stack([np.bincount(numbers, weights=column) for column in _rank_table(columns).T], axis=1)
    return correlation_of_sums(sums.sum(axis=0) - sums)


def _rank_table(columns: Sequence[Floats]) -> Floats:
    """Return what `correlation_of_sums` sums [n, 6], of the centred mid-ranks."""
    from scipy.stats import rankdata

    first, second = (rankdata(column) - (len(column) + 1) / 2 for column in columns)
    return np.column_stack([first, second, first * second, first**2, second**2, np.ones(len(first))])


def correlation_of_sums(sums: Floats) -> Floats:
    """Return Pearson's correlation from the sums [..., 6] of x, y, xy, x², y² and 1; NaN where one does not vary."""
    x, y, xy, xx, yy, n = (sums[..., column] for column in range(6))
    spread = np.maximum(n * xx - x**2, 0) * np.maximum(n * yy - y**2, 0)
    return divide(n * xy - x * y, np.sqrt(spread))


def _weighted(columns: Sequence[Floats], weights: Floats) -> Floats:
    """Return the correlation of the weighted mid-ranks for each row of `weights` [rows, n]."""
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
