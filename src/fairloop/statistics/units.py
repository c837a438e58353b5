"""Independent units: what observations hang together, their sums, and the jackknife that leaves out one at a time."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.statistics.estimate import CONFIDENCE

Floats = NDArray[np.float64]

Bounds = tuple[float, float]
"""The least and the greatest value possible; an interval ends there."""

UNBOUNDED: Bounds = (-math.inf, math.inf)


def cluster_numbers(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return the number of each observation's cluster [n], counted from 0 in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def unit_sums(table: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    """Return the column sums [units, k] of the rows [n, k] of each unit, in the order of first appearance."""
    if clusters is None:
        return table
    numbers = cluster_numbers(clusters)
    sums = np.zeros((int(numbers.max(initial=-1)) + 1, table.shape[1]))
    np.add.at(sums, numbers, table)
    return sums


def left_out(units: Floats, statistic: Callable[[Floats], Floats]) -> Floats:
    """Return the statistic [..., units] of the units [..., units, k] without each of them in turn."""
    return np.asarray(statistic(units.sum(axis=-2, keepdims=True) - units), dtype=np.float64)


def jackknife_error(values: ArrayLike) -> Floats:
    """Return the jackknife's standard error [...] from the values [..., units] with one unit left out each.

    NaN where the statistic is undefined without some unit, and for fewer than two units.
    """
    without = np.asarray(values, dtype=np.float64)
    units = without.shape[-1]
    if units < 2:
        return np.full(without.shape[:-1], math.nan)
    with np.errstate(invalid="ignore"):
        spread = without - without.mean(axis=-1, keepdims=True)
    return np.asarray(np.sqrt((units - 1) / units * (spread * spread).sum(axis=-1)))


def divide(numerators: Floats, denominators: Floats) -> Floats:
    """Return numerators / denominators, NaN where the denominator is zero."""
    quotients = np.full(np.shape(denominators), np.nan)
    np.divide(numerators, denominators, out=quotients, where=denominators != 0)
    return quotients


def quotient(sums: Floats) -> Floats:
    """Return the ratio [...] of the first two of the sums [..., k]; NaN where the second is zero."""
    return divide(sums[..., 0], sums[..., 1])


def check(observations: int, clusters: Sequence[Hashable] | None, confidence: float = CONFIDENCE) -> None:
    """Raise ValueError for clusters that do not fit the observations, or a confidence that is none."""
    if clusters is not None and len(clusters) != observations:
        raise ValueError(f"{len(clusters)} clusters for {observations} observations")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: between 0 and 1")
