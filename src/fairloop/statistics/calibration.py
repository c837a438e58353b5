"""How a metric follows a quantity that is known: its curve, slope, noise, and the smallest change that it detects.

A metric is taken of replicate corpora at several known levels of the quantity. Noise is what differs between
replicates of one level; no assumption is made that it is the same at all levels, nor that the curve is a line. Where
a formula needs either, it is used on a level and its neighbours only (`Curve.around`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy  # its parts are loaded when they are used: they take a second
from numpy.typing import ArrayLike, NDArray

from fairloop.statistics.estimate import TAILS, Estimate

Floats = NDArray[np.float64]

SIZE, POWER = 0.05, 0.8
"""The test behind `detectable_change`: two-sided at 5%, finding the change four times out of five."""

_ROUNDING = 1e-9
"""Noise below this share of the values is rounding."""

_QUANTILES = 4001
"""Points at which the chi-squared distribution is taken: the tails of 2.5% are right to four digits."""


@dataclass(frozen=True)
class Curve:
    """A metric's values in replicate corpora, by the level of the quantity.

    Attributes:
        levels: ascending, all different.
        values: for each level the values of its corpora, two or more, all finite.
    """

    levels: tuple[float, ...]
    values: tuple[Floats, ...]

    @classmethod
    def of(cls, levels: Sequence[float], values: Sequence[ArrayLike]) -> "Curve":
        """Make a curve of values that may be NaN; a level where fewer than two corpora define one is left out."""
        columns = [np.asarray(column, dtype=np.float64) for column in values]
        defined = [column[np.isfinite(column)] for column in columns]
        pairs = zip(levels, defined, strict=True)
        kept = sorted(((level, column) for level, column in pairs if len(column) > 1), key=lambda pair: pair[0])
        return cls(tuple(level for level, _ in kept), tuple(column for _, column in kept))

    @property
    def means(self) -> Floats:
        """The mean at each level."""
        return np.array([column.mean() for column in self.values])

    @property
    def corpora(self) -> int:
        """The number of corpora."""
        return sum(map(len, self.values))

    def around(self, level: float) -> "Curve":
        """Return the curve at a level and at its neighbours on both sides; empty if it has no such level."""
        if level not in self.levels:
            return Curve((), ())
        place = self.levels.index(level)
        window = slice(max(0, place - 1), place + 2)
        return Curve(self.levels[window], self.values[window])


def contrast(values: Sequence[Floats], weights: ArrayLike) -> Estimate:
    """Return Σ wᵢ · mean(valuesᵢ) of independent samples with the interval of Welch (1947) and Satterthwaite (1946).

    One sample with weight 1 gives its mean with Student's interval. No equal variances are assumed.

    Args:
        values: the samples, each of two or more values.
        weights: [samples].
    """
    weight = np.asarray(weights, dtype=np.float64)
    value = float(sum(w * column.mean() for w, column in zip(weight, values, strict=True)))
    parts = np.array([w**2 * column.var(ddof=1) / len(column) for w, column in zip(weight, values, strict=True)])
    n = sum(map(len, values))
    if not parts.sum() > 0:
        return Estimate(value, value, value, n)
    freedom = parts.sum() ** 2 / sum(part**2 / (len(column) - 1) for part, column in zip(parts, values, strict=True))
    half = float(scipy.stats.t.ppf(TAILS[1], freedom) * math.sqrt(parts.sum()))
    return Estimate(value, value - half, value + half, n)


def slope(curve: Curve) -> Estimate:
    """Return the slope of the least-squares line through the means, in units of the metric per unit of the level.

    The interval is over corpora at these levels: for a bent curve it is that of the line that fits these levels best.
    """
    if len(curve.levels) < 2:
        return Estimate.undefined()
    return contrast(curve.values, _slope_weights(curve.levels))


def linearity(curve: Curve) -> Estimate:
    """Return R² of the line through the means; undefined for fewer than three means, and for equal ones."""
    means = curve.means
    if len(means) < 3 or np.ptp(means) <= _ROUNDING * np.abs(means).max():
        return Estimate.undefined()
    correlation = float(np.corrcoef(curve.levels, means)[0, 1])
    return Estimate(correlation**2, math.nan, math.nan, curve.corpora)


def monotonicity(curve: Curve) -> Estimate:
    """Return Spearman's rank correlation of level and value over all corpora: ±1 if no two corpora are out of order.

    Corpora of one level share a rank, so that a metric which always rises comes close to 1 without reaching it.
    Undefined if all values are equal.
    """
    values = np.concatenate([np.empty(0), *curve.values])
    if len(curve.levels) < 2 or np.ptp(values) <= _ROUNDING * np.abs(values).max():
        return Estimate.undefined()
    levels = np.repeat(curve.levels, [len(column) for column in curve.values])
    return Estimate(float(scipy.stats.spearmanr(levels, values).statistic), math.nan, math.nan, len(values))


def noise(curve: Curve) -> Estimate:
    """Return the standard deviation between replicates, pooled over the levels, with its chi-squared interval."""
    freedom = curve.corpora - len(curve.levels)
    if freedom < 1:
        return Estimate.undefined()
    spread = math.sqrt(sum(float(((column - column.mean()) ** 2).sum()) for column in curve.values) / freedom)
    largest = max(float(np.abs(column).max()) for column in curve.values)
    if spread <= _ROUNDING * largest:
        return Estimate(0.0, 0.0, 0.0, curve.corpora)
    low, high = (spread * math.sqrt(freedom / scipy.stats.chi2.ppf(tail, freedom)) for tail in TAILS[::-1])
    return Estimate(spread, float(low), float(high), curve.corpora)


def detectable_change(curve: Curve) -> Estimate:
    """Return the smallest change of the level that the metric tells from none, between one corpus and another.

    MDE = (z₀.₉₇₅ + z₀.₈) · √2 · sd / |slope|: a change that a two-sided test at 5% of the difference between two
    corpora, whose noise is known, finds with a power of 80%. Give it the curve `around` the level in question: slope
    and noise are taken to be the same at all its levels.

    The interval is exact for normal noise: slope / (its standard error) has a noncentral t distribution, whose
    parameter is inversely proportional to the MDE (as for a standardised effect size, Hedges and Olkin 1985). It is
    unbounded (infinite) where the data do not exclude a slope of zero. The MDE itself is infinite for a slope of
    exactly zero, zero for a metric without noise, and undefined where there is neither.
    """
    steep, spread = slope(curve), noise(curve)
    if not steep.defined or not spread.defined:
        return Estimate.undefined()
    if spread.value == 0:
        flat = abs(steep.value) * np.ptp(curve.levels) <= _ROUNDING * np.abs(curve.means).max()
        return Estimate.undefined() if flat else Estimate(0.0, 0.0, 0.0, curve.corpora)
    weights = _slope_weights(curve.levels)
    counts = np.array([len(column) for column in curve.values])
    unit = math.sqrt(float((weights**2 / counts).sum()))  # the slope's standard error for noise of 1
    t, freedom = steep.value / (spread.value * unit), curve.corpora - len(curve.levels)
    low, high = noncentrality_interval(abs(t), freedom)
    factor = detection_factor() / unit
    return Estimate(
        factor / abs(t) if t else math.inf,
        factor / max(-low, high),
        factor / low if low > 0 else math.inf,
        curve.corpora,
    )


def detection_factor() -> float:
    """Return (z₀.₉₇₅ + z₀.₈) · √2 = 3.96: the detectable difference of two corpora in standard deviations of one."""
    return float((scipy.stats.norm.ppf(1 - SIZE / 2) + scipy.stats.norm.ppf(POWER)) * math.sqrt(2))


def sampling_floor(level: float, carrying: float, sentences: int) -> float:
    """Return the smallest change of a source's net rate that corpora of it can show, whatever the metric.

    A corpus of N sentences that are written independently, of which a share `carrying` is stereotypical or
    anti-stereotypical, has a net rate of its own, with variance (carrying - level²) / N around its source's.
    """
    return detection_factor() * math.sqrt(max(carrying - level**2, 0.0) / sentences)


def noncentrality_interval(t: float, freedom: int) -> tuple[float, float]:
    """Return the interval of the noncentrality δ of a t statistic, t ≥ 0, by inverting its distribution.

    P(T ≤ t; δ) is the mean of Φ(t·√(χ²/freedom) - δ) over χ², taken over its quantiles: scipy's own noncentral t is
    NaN for some of the arguments needed here.
    """
    limits = t * _chi_scale(freedom)

    def excess(noncentrality: float, tail: float) -> float:
        return float(scipy.special.ndtr(limits - noncentrality).mean()) - tail

    low, high = (scipy.optimize.brentq(excess, limits[0] - 8, limits[-1] + 8, args=(tail,)) for tail in TAILS[::-1])
    return float(low), float(high)


@cache
def _chi_scale(freedom: int) -> Floats:
    """Return √(χ²/freedom) at evenly spaced quantiles, ascending."""
    return np.asarray(np.sqrt(scipy.stats.chi2.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, freedom) / freedom))


def _slope_weights(levels: Sequence[float]) -> Floats:
    centred = np.asarray(levels, dtype=np.float64) - np.mean(levels)
    return np.asarray(centred / (centred @ centred))
