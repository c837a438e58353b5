"""Differences of two estimates that are independent of each other, from their intervals or from their values."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairloop.statistics.estimate import Estimate

NORMAL_95 = 1.959964
"""The normal quantile of a two-sided 95% interval."""


def standard_error(low: float, high: float) -> float:
    """Return the standard error that a 95% interval stands for, by the normal distribution."""
    return (high - low) / (2 * NORMAL_95)


def independent_difference(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the interval of second - first from the two's (value, low, high), of independent estimates.

    MOVER, the method of variance estimates recovery (Zou and Donner 2008, Statistics in Medicine 27:1693-1702), which
    keeps intervals that are not symmetric.
    """
    (one, one_low, one_high), (other, other_low, other_high) = first, second
    below, above = math.hypot(other - other_low, one_high - one), math.hypot(other_high - other, one - one_low)
    return other - one - below, other - one + above


def normal_p_value(estimate: Estimate) -> float:
    """Return the p-value that the end of the interval nearer to zero stands for, by the normal distribution."""
    reach = estimate.value - estimate.low if estimate.value > 0 else estimate.high - estimate.value
    if reach <= 0:
        return 1.0 if estimate.value == 0 else math.nan
    return math.erfc(NORMAL_95 * abs(estimate.value) / reach / math.sqrt(2))


def welch_difference(first: ArrayLike, second: ArrayLike) -> tuple[Estimate, float]:
    """Return mean(second) - mean(first) with Welch's interval (1947), and the p-value of no difference.

    Undefined values are left out. Without an interval for a side of one value, or where no side varies.
    """
    from scipy.stats import ttest_ind

    one, other = (column[np.isfinite(column)] for column in (np.asarray(first), np.asarray(second)))
    if not len(one) or not len(other):
        return Estimate.undefined(), math.nan
    change, n = float(other.mean() - one.mean()), len(one) + len(other)
    if min(len(one), len(other)) < 2 or np.ptp(one) + np.ptp(other) == 0:
        return Estimate(change, math.nan, math.nan, n), math.nan
    test = ttest_ind(other, one, equal_var=False)
    interval = test.confidence_interval(0.95)
    return Estimate(change, float(interval.low), float(interval.high), n), float(test.pvalue)


def split_product(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return how much of the change of a product of two factors each of the factors made.

    For (s, r) and (s', r'):  s' r' - s r = (s' - s) (r + r') / 2 + (r' - r) (s + s') / 2  (Kitagawa 1955, Journal of
    the American Statistical Association 50:1168-1194).
    """
    (one, other), (later_one, later_other) = first, second
    return (later_one - one) * (other + later_other) / 2, (later_other - other) * (one + later_one) / 2
