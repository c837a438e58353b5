"""The permutation test of the word and sentence embedding association tests (WEAT, SEAT)."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator

Floats = NDArray[np.float64]
_ROWS_AT_ONCE = 1 << 14
_NUMBERS_AT_ONCE = 1 << 19


def permutation_p_value(
    x: ArrayLike, y: ArrayLike, *, seed: int, partitions: int = 100_000, strict: bool = False
) -> float:
    """Return the one-sided p-value of the statistic s = sum(x) - sum(y) (Caliskan et al. 2017).

    It is the share of the partitions of x and y together into (X', Y'), X' as large as x, whose statistic is at
    least the observed one: May et al. (2019) count ties, as a conservative test does. `strict` counts only larger
    ones, as Caliskan et al. define it. For a given partition size, s grows with the sum over X' alone.
    x and y may differ in size; the statistic is then a difference of sums that ranks the partitions exactly as the
    difference of means does.

    All partitions are enumerated if they number at most `partitions`, and the seed plays no part. Otherwise
    `partitions` - 1 of them are sampled, and the observed partition is counted once beside them (also by `strict`),
    as the published implementation does: the p-value is never smaller than 1 / `partitions`.

    Sums that differ by no more than rounding are ties.

    Args:
        x: [n], associations of the first target set.
        y: [m], associations of the second.
        seed: decides the sampled partitions.
        partitions: the largest number of partitions to look at.
        strict: count partitions with s > observed instead of s >= observed.

    Returns:
        The p-value; NaN if x or y is empty.
    """
    first = np.asarray(x, dtype=np.float64)
    second = np.asarray(y, dtype=np.float64)
    if partitions < 1:
        raise ValueError(f"partitions={partitions}: at least 1")
    if len(first) == 0 or len(second) == 0:
        return math.nan
    pooled = np.concatenate([first, second])
    tie = 8 * np.finfo(np.float64).eps * float(np.abs(pooled).sum())
    # The mean moves every sum by the same constant; without it the sum over Y' is minus that over X'.
    pooled = pooled - pooled.mean()
    observed = float(pooled[: len(first)].sum())

    def reached(sums: Floats) -> int:
        return int(np.count_nonzero(sums > observed + tie if strict else sums >= observed - tie))

    if math.comb(len(pooled), len(first)) <= partitions:
        return _enumerated(pooled, len(first), reached)
    return _sampled(pooled, len(first), reached, seed, partitions)


def _enumerated(pooled: Floats, size: int, reached: Callable[[Floats], int]) -> float:
    # The smaller of the two sets has the same partitions and fewer members to add up.
    members, sign = (size, 1.0) if 2 * size <= len(pooled) else (len(pooled) - size, -1.0)
    subsets = itertools.combinations(range(len(pooled)), members)
    count = total = 0
    while rows := list(itertools.islice(subsets, _ROWS_AT_ONCE)):
        count += reached(sign * pooled[np.array(rows, dtype=np.intp)].sum(axis=1))
        total += len(rows)
    return count / total


def _sampled(pooled: Floats, size: int, reached: Callable[[Floats], int], seed: int, partitions: int) -> float:
    draw = random_generator(seed, "permutation")
    count = 1
    step = max(1, _NUMBERS_AT_ONCE // len(pooled))
    for start in range(0, partitions - 1, step):
        rows = min(step, partitions - 1 - start)
        shuffled = draw.permuted(np.broadcast_to(pooled, (rows, len(pooled))), axis=1)
        count += reached(shuffled[:, :size].sum(axis=1))
    return count / partitions
