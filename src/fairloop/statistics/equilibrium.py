"""The level at which a recursion settles: a fixed point, its interval and a verdict.

The bias of one generation follows from that of the generation before it,

    B[g+1] = c + rho * B[g] + noise,

over all transitions of all cells that share a generator and a mitigation. The recursion comes to rest at the
intrinsic level B* = c / (1 - rho).

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
successive generations is independent, which cells would not need; `Equilibrium.resampled` says which was done.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairloop.seeding import random_generator
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import ratio_interval, ratio_of_means

Array = npt.NDArray[np.float64]
Verdict = Literal["equilibrium", "amplification", "undecided"]

FEWEST_CELLS = 6
"""From this number on whole cells are resampled; below it, transitions."""

_RELATIVE_PRECISION = 5e-4
_FURTHEST = 2.0**24


@dataclass(frozen=True)
class Trajectory:
    """One cell's metric by generation: `values[g]` is generation g, nan where it is missing.

    `level` is the initial bias that the cell was configured with; it groups cells and need not equal `values[0]`.
    `errors[g]` is the standard error of `values[g]` over the cell's own sentences, where it is known.
    """

    level: float
    values: tuple[float, ...]
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Equilibrium:
    """The fitted recursion: its resting level B*, slope rho and intercept c, with intervals, and what they say.

    `n` of the estimates is the number of transitions. An interval from -inf to inf says that the data bound nothing;
    nan says that the value is undefined.
    """

    level: Estimate
    slope: Estimate
    intercept: Estimate
    verdict: Verdict
    cells: int
    transitions: int
    resampled: Literal["cells", "transitions", "nothing"]


@dataclass(frozen=True)
class RelativeChange:
    """(B at the last generation - B at `since`) / B at `since`, of the cells that started at one level.

    `change.n` is the number of cells. `over` says what the interval is taken over: the cells, for a single cell its
    sentences, or nothing (then it is nan).
    """

    level: float
    since: int
    until: int
    change: Estimate
    over: Literal["cells", "sentences", "nothing"] = "nothing"


def estimate_equilibrium(
    trajectories: Sequence[Trajectory],
    *,
    possible: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    resamples: int = 1999,
    confidence: float = 0.95,
) -> Equilibrium:
    """Fit B[g+1] = c + rho B[g] over all transitions and say whether the recursion settles.

    Args:
        trajectories: one per cell; transitions with a missing end are left out.
        possible: the least and the greatest value that the metric can take; a bounded interval of B* ends there.
        seed: decides the sign patterns where there are too many to enumerate.
        resamples: number of sign patterns in that case.
        confidence: of the intervals.

    Returns:
        The verdict is *equilibrium* if the interval of rho lies inside (-1, 1) and the levels from below and from
        above close in on B*; *amplification* if the interval of rho lies above 1; else *undecided*. With fewer than
        two cells, or without any spread in B, everything but the counts is undefined and the verdict undecided.
    """
    before, after, cell = _transitions(trajectories)
    cells, transitions = len(np.unique(cell)), len(before)
    if cells < 2 or transitions < 3 or np.ptp(before) < 1e-12:
        undefined = Estimate(math.nan, math.nan, math.nan, transitions)
        return Equilibrium(undefined, undefined, undefined, "undecided", cells, transitions, "nothing")
    whole_cells = cells >= FEWEST_CELLS
    cluster = np.unique(cell, return_inverse=True)[1] if whole_cells else np.arange(transitions)
    test = _WildTest(before, after, cluster, signs=_sign_patterns(int(cluster.max()) + 1, resamples, seed))
    rho, c = test.slope, test.intercept
    scale = max(float(np.std(after)), 1e-6)
    slope = _invert(test.slope_p_values, rho, scale / float(np.std(before)), 1 - confidence)
    intercept = _invert(test.intercept_p_values, c, scale, 1 - confidence)
    value = c / (1 - rho) if abs(1 - rho) > 1e-12 else math.nan
    bounded = not slope[0] <= 1 <= slope[1]
    level = _invert(test.level_p_values, value, scale, 1 - confidence) if bounded else (-math.inf, math.inf)
    if bounded and possible[0] <= value <= possible[1]:
        level = (max(level[0], possible[0]), min(level[1], possible[1]))
    fitted = Estimate(value, *level, transitions)
    verdict: Verdict = "undecided"
    if slope[0] > 1:
        verdict = "amplification"
    elif slope[0] > -1 and slope[1] < 1 and _closes_in(trajectories, fitted, test.noise):
        verdict = "equilibrium"
    return Equilibrium(
        level=fitted,
        slope=Estimate(rho, *slope, transitions),
        intercept=Estimate(c, *intercept, transitions),
        verdict=verdict,
        cells=cells,
        transitions=transitions,
        resampled="cells" if whole_cells else "transitions",
    )


def relative_changes(
    trajectories: Sequence[Trajectory], *, since: int = 0, confidence: float = 0.95
) -> list[RelativeChange]:
    """Return the relative change from generation `since` to the last one, per initial level, levels ascending.

    The change of a level is that of the mean over its cells. Its interval is Fieller's (1954, Journal of the Royal
    Statistical Society B 16:175-185) with Student's t over cells, which for a constant start (the seed corpus) is the
    ordinary t interval; it is unbounded where the start cannot be told from zero. A single cell has the interval that
    its sentences give: that of this recursion, without what another seed would have changed.
    """
    changes = []
    for level in sorted({trajectory.level for trajectory in trajectories}):
        members = [trajectory for trajectory in trajectories if trajectory.level == level]
        until = max(len(member.values) for member in members) - 1
        if until <= since:
            continue
        ends = [(one, (one.values[since], one.values[until])) for one in members if len(one.values) > until]
        ends = [(one, pair) for one, pair in ends if all(map(math.isfinite, pair))]
        if ends:
            changes.append(_relative_change(ends, level, since, until, confidence))
    return changes


def _relative_change(
    ends: Sequence[tuple[Trajectory, tuple[float, float]]], level: float, since: int, until: int, confidence: float
) -> RelativeChange:
    first, last = np.array([pair for _, pair in ends], dtype=float).T
    ratio = ratio_of_means(first, last, confidence)
    low, high = ratio.low, ratio.high
    over: Literal["cells", "sentences", "nothing"] = "cells" if len(ends) > 1 and ratio.defined else "nothing"
    errors = ends[0][0].errors
    if len(ends) == 1 and len(errors) > until and ratio.defined:
        # The seed corpus is what the recursion started from, and not a sample of anything.
        variances = [0.0 if since == 0 else errors[since] ** 2, errors[until] ** 2]
        if all(map(math.isfinite, variances)):
            quantile = float(stats.norm.ppf((1 + confidence) / 2))
            low, high = ratio_interval(float(first[0]), float(last[0]), np.diag(variances), quantile)
            over = "sentences"
    return RelativeChange(level, since, until, Estimate(ratio.value - 1, low - 1, high - 1, len(ends)), over)


def _transitions(trajectories: Sequence[Trajectory]) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    before, after, cell = [], [], []
    for index, trajectory in enumerate(trajectories):
        values = trajectory.values
        for now, then in pairwise(values):
            if math.isfinite(now) and math.isfinite(then):
                before.append(now)
                after.append(then)
                cell.append(index)
    return np.array(before, dtype=float), np.array(after, dtype=float), np.array(cell, dtype=np.int64)


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


def _closes_in(trajectories: Sequence[Trajectory], level: Estimate, noise: float) -> bool:
    """Say whether cells started on both sides of B*, and each side's mean came nearer to it.

    A start within the interval of B* may lie on either side. An end counts as near if its distance is what noise of
    this standard deviation makes of a side that rests at B*: a level that starts at B* cannot come nearer.
    """
    ends = []
    for trajectory in trajectories:
        seen = [value for value in trajectory.values if math.isfinite(value)]
        if len(seen) > 1:
            ends.append((seen[0], seen[-1]))
    first, last = np.array(ends).T
    at_rest = (level.low <= first) & (first <= level.high)
    for beyond in (first < level.value, first > level.value):
        side = beyond if beyond.any() else at_rest
        if not side.any():
            return False
        start, end = abs(first[side].mean() - level.value), abs(last[side].mean() - level.value)
        if end >= start and end > 1.96 * noise / math.sqrt(side.sum()):
            return False
    return True
