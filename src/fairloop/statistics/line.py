"""The line through the transitions of a recursion, with intervals that hold for few cells.

    y = c + rho * x + noise,   x the measure of one generation, y that of the next,   B* = c / (1 - rho)

**Interval.** Cells are few (3 levels x 3 seeds are nine), and drawing nine cells with replacement is known to give
intervals that are too short. This module inverts the restricted wild cluster bootstrap-t of Cameron, Gelbach and
Miller (2008, Review of Economics and Statistics 90:414-427): for a candidate value the line is fitted under the
hypothesis that the candidate is true, the residuals of each *cell* keep or change their sign together, and the
t statistic with a cluster-robust standard error is computed anew. A candidate belongs to the interval if its t is
not among the most extreme 5% of these. Sign changes keep each cell's own noise level (the noise of a rate depends
on the rate, and on the number of sentences), and all sign patterns are enumerated where they are few.

For the ratio B* the hypothesis "B* = b" is the linear one that y - b = rho * (x - b) has no intercept. Inverting it
gives the bootstrap analogue of Fieller's set, which stays valid where the denominator 1 - rho is uncertain: if
rho = 1 cannot be excluded, nothing bounds B*, and the interval is the whole line (Dufour 1997, Econometrica
65:1365-1387, shows that an interval that is always bounded cannot have its level).

**Few cells.** The signs of fewer than six cells have fewer than 32 patterns that differ in |t|, so that 5% cannot be
reached. Below that number the signs are drawn for each transition instead (the subcluster wild bootstrap of
MacKinnon and Webb 2018, Econometrics Journal 21:114-135). That rests on the model's assumption that the noise of
successive generations is independent, which cells would not need; `Line.resampled` says which was done.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairloop.seeding import random_generator
from fairloop.statistics.estimate import CONFIDENCE, Estimate

Array = npt.NDArray[np.float64]

FEWEST_CELLS = 6
"""From this number on whole cells are resampled; below it, transitions."""

_RELATIVE_PRECISION = 5e-4
_FURTHEST = 2.0**24

FEWEST_FOR_LINE = 2
"""Cells below which there is no line."""


@dataclass(frozen=True)
class Line:
    """The fitted line: its resting level B*, slope rho and intercept c, with intervals.

    `n` of the estimates is the number of transitions. An interval from -inf to inf says that the data bound nothing;
    NaN says that the value is undefined.
    """

    level: Estimate
    slope: Estimate
    intercept: Estimate
    cells: int
    transitions: int
    resampled: Literal["cells", "transitions", "nothing"]


def fit_line(
    before: Array,
    after: Array,
    cell: npt.NDArray[np.int64],
    *,
    possible: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    resamples: int = 1999,
) -> Line:
    """Fit y = c + rho x by least squares over all transitions.

    Args:
        before, after: [transitions], the measure of one generation and of the next.
        cell: [transitions], the cell of each.
        possible: the least and the greatest value that the measure can take; a bounded interval of B* ends there.
        seed: decides the sign patterns where there are too many to enumerate.
        resamples: number of sign patterns in that case.

    Returns:
        With fewer than two cells or three transitions, or without any spread, everything but the counts is undefined.
    """
    cells, transitions = len(np.unique(cell)), len(before)
    if cells < FEWEST_FOR_LINE or transitions < 3 or np.ptp(before) < 1e-12:
        undefined = Estimate(math.nan, math.nan, math.nan, transitions)
        return Line(undefined, undefined, undefined, cells, transitions, "nothing")
    whole_cells = cells >= FEWEST_CELLS
    cluster = np.unique(cell, return_inverse=True)[1] if whole_cells else np.arange(transitions)
    test = _WildTest(before, after, cluster, signs=_sign_patterns(int(cluster.max()) + 1, resamples, seed))
    rho, c = test.slope, test.intercept
    scale = max(float(np.std(after)), 1e-6)
    slope = _invert(test.slope_p_values, rho, scale / float(np.std(before)), 1 - CONFIDENCE)
    intercept = _invert(test.intercept_p_values, c, scale, 1 - CONFIDENCE)
    value = c / (1 - rho) if abs(1 - rho) > 1e-12 else math.nan
    bounded = not slope[0] <= 1 <= slope[1]
    level = _invert(test.level_p_values, value, scale, 1 - CONFIDENCE) if bounded else (-math.inf, math.inf)
    if bounded and possible[0] <= value <= possible[1]:
        level = (max(level[0], possible[0]), min(level[1], possible[1]))
    return Line(
        level=Estimate(value, *level, transitions),
        slope=Estimate(rho, *slope, transitions),
        intercept=Estimate(c, *intercept, transitions),
        cells=cells,
        transitions=transitions,
        resampled="cells" if whole_cells else "transitions",
    )


@lru_cache(maxsize=8)
def _sign_patterns(clusters: int, resamples: int, seed: int) -> Array:
    """Return signs [patterns, clusters]; the first is the data as they are, and no pattern is another's opposite.

    |t| does not change when all signs do, so the first cluster's sign stays +1. All patterns are listed if they are
    at most `resamples`, else that many are drawn besides the first.
    """
    if clusters - 1 <= math.log2(resamples):
        codes = np.arange(2 ** (clusters - 1))[:, None]
        free = 1.0 - 2.0 * ((codes >> np.arange(clusters - 1)) & 1)
    else:
        drawn = random_generator(seed, "equilibrium", clusters).integers(0, 2, (resamples, clusters - 1))
        free = np.vstack([np.ones(clusters - 1), 1.0 - 2.0 * drawn])
    return np.hstack([np.ones((len(free), 1)), free])


class _WildTest:
    """Restricted wild bootstrap-t tests of hypotheses on the line through (before, after)."""

    def __init__(self, before: Array, after: Array, cluster: npt.NDArray[np.int64], signs: Array) -> None:
        self.x, self.y, self.signs = before, after, signs
        self.member = (cluster[None, :] == np.arange(cluster.max() + 1)[:, None]).astype(float)
        centred = before - before.mean()
        self.slope = float(centred @ after / (centred @ centred))
        self.intercept = float(after.mean() - self.slope * before.mean())
        residual = after - self.intercept - self.slope * before
        self.noise = math.sqrt(float(residual @ residual) / max(len(after) - 2, 1))

    def slope_p_values(self, rhos: Array) -> Array:
        """Test rho = r: y - r x on (1, x) has no slope."""
        response = self.y - rhos[:, None] * self.x
        return self._p_values(response, np.ones_like(response), np.broadcast_to(self.x, response.shape))

    def intercept_p_values(self, intercepts: Array) -> Array:
        """Test c = a: y - a on (x, 1) has no constant."""
        response = self.y - intercepts[:, None]
        return self._p_values(response, np.broadcast_to(self.x, response.shape), np.ones_like(response))

    def level_p_values(self, levels: Array) -> Array:
        """Test B* = b: y - b on (x - b, 1) has no constant."""
        response = self.y - levels[:, None]
        return self._p_values(response, self.x - levels[:, None], np.ones_like(response))

    def _p_values(self, response: Array, kept: Array, tested: Array) -> Array:
        """Return the p-value of "the coefficient of `tested` is zero" for each row; all arguments [rows, transitions].

        Let u be the residuals under the hypothesis, a `tested` without its part along `kept` k (both of unit length),
        and w a sign pattern. The statistic's numerator is the sum over clusters of w_c A_c with A_c = a_c'u_c, and the
        score of cluster c, which the standard error is made of, is

            w_c A_c - (a_c'k_c) sum_d w_d (k_d'u_d) - (a_c'a_c) sum_d w_d A_d.

        Because w_c squared is one, the sum of the squared scores needs only products [clusters] x [clusters, patterns].
        """
        kept = kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-300)
        residual = response - kept * (kept * response).sum(1, keepdims=True)
        freed = tested - kept * (kept * tested).sum(1, keepdims=True)
        freed = freed / np.maximum(np.linalg.norm(freed, axis=1, keepdims=True), 1e-300)
        products = np.stack([freed * residual, kept * residual, freed * kept, freed * freed])
        tested_sum, kept_sum, cross, square = products @ self.member.T
        sums = np.stack([tested_sum, kept_sum, tested_sum * cross, tested_sum * square])
        along_tested, along_kept, along_cross, along_square = sums @ self.signs.T
        bottom = (
            (tested_sum**2).sum(1, keepdims=True)
            - 2 * along_kept * along_cross
            - 2 * along_tested * along_square
            + along_kept**2 * (cross**2).sum(1, keepdims=True)
            + 2 * along_kept * along_tested * (cross * square).sum(1, keepdims=True)
            + along_tested**2 * (square**2).sum(1, keepdims=True)
        )
        top = along_tested**2
        # A line without noise leaves rounding errors in place of residuals: there only its own values are possible.
        floor = 1e-20 * max(float(np.square(self.y).sum()), 1e-12)
        squared_t = np.where(top <= floor, 0.0, top / np.maximum(bottom, floor))
        return np.asarray((squared_t >= squared_t[:, :1] * (1 - 1e-9)).mean(axis=1))


def _invert(p_values: Callable[[Array], Array], centre: float, scale: float, alpha: float) -> tuple[float, float]:
    """Return the ends of the values around `centre` whose p-value exceeds `alpha`, infinite where there is no end."""
    direction = np.array([-1.0, 1.0])
    inside, outside = np.zeros(2), np.full(2, 0.25 * scale)
    while True:
        accepted = p_values(centre + direction * outside) > alpha
        if not accepted.any():
            break
        if outside[accepted].min() > _FURTHEST * scale:
            outside[accepted] = math.inf
            break
        inside = np.where(accepted, outside, inside)
        outside = np.where(accepted, 2 * outside, outside)
    bounded = np.isfinite(outside)
    while np.any((outside - inside)[bounded] > _RELATIVE_PRECISION * scale + 1e-12 * abs(centre)):
        middle = np.where(bounded, (inside + np.where(bounded, outside, 0.0)) / 2, inside)
        accepted = p_values(centre + direction * middle) > alpha
        inside = np.where(accepted & bounded, middle, inside)
        outside = np.where(~accepted & bounded, middle, outside)
    low, high = centre + direction * outside
    return float(low), float(high)
