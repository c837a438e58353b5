"""Means and ratios of means of a few independent values, with intervals that hold for as few as they are."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.statistics.estimate import TAILS, Estimate
from fairloop.statistics.student import student_quantile

Floats = NDArray[np.float64]

FEWEST_FOR_SPREAD = 3
"""From this number of values on a mean has an interval: two say too little about their spread."""


def student_mean(values: ArrayLike) -> Estimate:
    """Return the mean of the finite `values` [n] with Student's interval.

    The interval is NaN for fewer than three values, and for equal ones: that three cells agree to the last digit is
    chance, and no certainty.
    """
    column = np.asarray(values, dtype=np.float64)
    column = column[np.isfinite(column)]
    n = len(column)
    if n == 0:
        return Estimate.undefined()
    mean = float(column.mean())
    if n < FEWEST_FOR_SPREAD or column.std() <= 1e-12 * abs(mean):
        return Estimate(mean, math.nan, math.nan, n)
    half = student_quantile(TAILS[1], n - 1) * float(column.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def student_p_value(values: ArrayLike) -> float:
    """Return the two-sided p-value of "the mean is zero", Student's t; NaN where `student_mean` has no interval."""
    from scipy.stats import ttest_1samp

    column = np.asarray(values, dtype=np.float64)
    column = column[np.isfinite(column)]
    return float(ttest_1samp(column, 0.0).pvalue) if math.isfinite(student_mean(column).low) else math.nan


def ratio_of_means(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return mean(second) / mean(first) of paired values [n] with Fieller's interval, Student's t over pairs.

    Undefined (NaN, n pairs) if the mean of `first` is zero; without an interval for fewer than three pairs, and where
    all pairs have one ratio: that they agree to the last digit is chance.
    """
    pairs = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    n = pairs.shape[1]
    if n == 0:
        return Estimate.undefined()
    below, above = (float(mean) for mean in pairs.mean(axis=1))
    if abs(below) < 1e-12:
        return Estimate(math.nan, math.nan, math.nan, n)
    apart = np.ptp(pairs[1] - above / below * pairs[0])
    if n < FEWEST_FOR_SPREAD or apart <= 1e-12 * (abs(below) + abs(above)):
        return Estimate(above / below, math.nan, math.nan, n)
    covariance = np.cov(pairs) / n
    quantile = student_quantile(TAILS[1], n - 1)
    return Estimate(above / below, *ratio_interval(below, above, covariance, quantile), n)


def ratio_interval(below: float, above: float, covariance: Floats, quantile: float) -> tuple[float, float]:
    """Return the ends of Fieller's interval of above / below (1954, J. R. Statist. Soc. B 16:175-185).

    `covariance` [2, 2] is that of the two estimates, the denominator first. The interval is infinite where the
    denominator cannot be told from zero: then nothing bounds the ratio.
    """
    spread = quantile**2 * covariance
    square = below**2 - spread[0, 0]
    if square <= 0:
        return -math.inf, math.inf
    half = below * above - spread[0, 1]
    root = math.sqrt(max(half**2 - square * (above**2 - spread[1, 1]), 0.0))
    return float((half - root) / square), float((half + root) / square)
