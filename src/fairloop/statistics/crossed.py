"""The mean of a table, seeds by items: would other seeds and other items show it too?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairloop.statistics.estimate import TAILS, Estimate
from fairloop.statistics.units import UNBOUNDED, Bounds


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error and Satterthwaite's degrees of freedom; NaN where nothing is known of them."""

    mean: float
    error: float
    degrees: float

    def estimate(self, n: int, units: int | None, bounds: Bounds = UNBOUNDED) -> Estimate:
        """Return the mean with Student's interval, which ends at `bounds`."""
        from scipy.stats import t as student

        if math.isnan(self.error):
            return Estimate(self.mean, math.nan, math.nan, n, units)
        half = float(student.ppf(TAILS[1], self.degrees)) * self.error
        return Estimate(self.mean, max(bounds[0], self.mean - half), min(bounds[1], self.mean + half), n, units)

    @property
    def p_value(self) -> float:
        """Of "the mean is zero", two-sided; NaN where nothing is known of the error."""
        from scipy.stats import t as student

        return 2 * float(student.sf(abs(self.mean) / self.error, self.degrees))


def crossed_spread(table: ArrayLike) -> Spread:
    """Return the mean of a table [seeds, items] with its error, both effects random.

    The balanced crossed model d = m + seed + item + rest, by its analysis of variance: the variance of the mean is
    (MS_seed + MS_item - MS_rest) / (seeds · items), but no less than either of the first two alone gives, with
    Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2:110-114). Nothing is known for fewer than two seeds
    or two items, or of a table that does not vary.
    """
    values = np.asarray(table, dtype=np.float64)
    seeds, items = values.shape
    mean = float(values.mean())
    if min(seeds, items) < 2:
        return Spread(mean, math.nan, math.nan)
    by_seed, by_item = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_item + mean
    seed, item = items * float(by_seed.var(ddof=1)), seeds * float(by_item.var(ddof=1))
    freedom = (seeds - 1, items - 1, (seeds - 1) * (items - 1))
    noise = float((rest**2).sum()) / freedom[2]
    total = max(seed + item - noise, seed, item)
    if total <= 1e-24 * mean**2 or total == 0:
        return Spread(mean, math.nan, math.nan)
    degrees = total**2 / sum(part**2 / one for part, one in zip((seed, item, noise), freedom, strict=True))
    return Spread(mean, math.sqrt(total / values.size), degrees)


def crossed_mean(table: ArrayLike) -> tuple[Estimate, float]:
    """Return the mean of differences [seeds, items] with its interval and p-value, both effects random.

    `crossed_spread` says how. In simulated studies of no effect a test at 5% rejects 1 to 7.5% with three seeds (most
    with 150 items that vary three times as much as seeds), 1 to 6% with five; it is conservative where neither seeds
    nor items vary. Where nothing is known of the error there is neither interval nor p-value.
    """
    values = np.asarray(table, dtype=np.float64)
    found = crossed_spread(values)
    return found.estimate(values.size, len(values)), found.p_value


def mean_of_independent(parts: Sequence[Spread]) -> Spread:
    """Return the mean of independent means; nothing is known of its error where it is not of one of them."""
    variances = np.array([one.error**2 for one in parts])
    degrees = variances.sum() ** 2 / (variances**2 / np.array([one.degrees for one in parts])).sum()
    mean = float(np.mean([one.mean for one in parts]))
    return Spread(mean, float(np.sqrt(variances.sum())) / len(parts), float(degrees))
