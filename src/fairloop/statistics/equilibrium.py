"""Does a recursion settle, fall or rise? Its dynamics among generated corpora, the seed's break apart, and a verdict.

The step from the seed corpus to generation 1 is of another kind than all later ones: templates become a model's text,
and generation 1 hardly depends on the seed's level. A line through all transitions takes this one break for a slow
return to an equilibrium. So three things are kept apart:

- the **seed's break**, B[1] - B[0] of each initial level, and how much of the difference between levels generation 1
  keeps (`kept_first`);
- the **dynamics among generated corpora**, B[g+1] = c + rho B[g] for g >= 1 (`line`);
- the **trend** left in them, and whether the levels have come together (`kept_last`).

**Trend.** The mean change of B per generation in the later half of the generated corpora (at least the last five): a
least-squares slope for each cell, then the mean of the levels' means, with Student's t and the variance of cells within
their levels. Cells are independent, so that nothing is assumed of how generations hang together.

**Kept.** The slope of a generation's B on the seed's B over cells: 1, all of the difference between levels is there; 0,
none is. Its interval is that of least squares with heteroscedasticity-robust variance (HC3) and Student's t.

**Lack of fit.** If the recursion is the line, its residuals have no trend over generations: each cell's slope of
residuals on g, Student's t over cells. Where that fails, B* is a number of a line that the data are not on.

**Verdict.** No verdict if some cell has fewer than four transitions among generated corpora, or with fewer than three
cells.
*falling* or *rising*: the trend's 95% interval lies below or above zero. *equilibrium*: levels started on both sides of
where they ended, came together (the 90% interval of `kept_last` lies within +-`KEPT_MARGIN`), and no trend is left (its
90% interval lies within +-`TREND_MARGIN`: two one-sided tests at 5%, Schuirmann 1987), on a line that fits. Else
*undecided*, with the reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fairloop.statistics.estimate import CONFIDENCE, TAILS, Estimate
from fairloop.statistics.line import Line, fit_line
from fairloop.statistics.student import student_quantile
from fairloop.words import counted

Array = npt.NDArray[np.float64]
Verdict = Literal["equilibrium", "falling", "rising", "undecided"]

FEWEST_TRANSITIONS = 4
"""Transitions among generated corpora, in every cell, below which there is no verdict."""

FEWEST_TRENDS = 3
"""Cells below which a trend has no interval, and so there is no verdict."""

TREND_MARGIN = 0.01
"""A change of B per generation within +-this counts as none."""

MISFIT = 0.05
"""Below this p-value the line does not fit."""

KEPT_MARGIN = 0.25
"""Levels have come together if less than this share of their initial difference is left."""


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
class SeedBreak:
    """B[1] - B[0] of the cells that started at one level; `change.n` is their number."""

    level: float
    change: Estimate


@dataclass(frozen=True)
class Equilibrium:
    """What a recursion does among its generated corpora, and what that says.

    Attributes:
        line: B[g+1] = c + rho B[g] for g >= 1.
        breaks: the step from the seed, levels ascending.
        kept_first, kept_last: the share of the levels' difference that generation 1 and the last one keep.
        trend: the mean change of B per generation in the later half; `n` is the number of cells.
        misfit: p-value of "the line's residuals have no trend over generations"; NaN if that cannot be tested.
        transitions: transitions among generated corpora in the cell that has the fewest.
        verdict: see the module.
        reason: why it is undecided; empty otherwise.
    """

    line: Line
    breaks: tuple[SeedBreak, ...]
    kept_first: Estimate
    kept_last: Estimate
    trend: Estimate
    misfit: float
    transitions: int
    verdict: Verdict
    reason: str = ""


def estimate_equilibrium(
    trajectories: Sequence[Trajectory],
    *,
    possible: tuple[float, float] = (-1.0, 1.0),
    resamples: int = 1999,
) -> Equilibrium:
    """Say what B does among generated corpora.

    Args:
        trajectories: one per cell, the seed corpus first; what is missing (NaN) is left out.
        possible: the least and the greatest value that the metric can take; a bounded interval of B* ends there.
        resamples: of the line's sign patterns.
    """
    before, after, generation, cell = _transitions(trajectories)
    line = fit_line(before, after, cell, possible=possible, resamples=resamples)
    trend, certainly = _trend(trajectories), _trend(trajectories, 0.90)
    kept_first, kept_last = (_kept(trajectories, at) for at in (1, -1))
    transitions = int(np.bincount(cell, minlength=len(trajectories)).min()) if trajectories else 0
    misfit = _misfit(line, before, after, generation, cell)
    verdict, reason = _verdict(trajectories, line, trend, certainly, _kept(trajectories, -1, 0.90), misfit, transitions)
    breaks = tuple(_seed_break(trajectories, level) for level in sorted({one.level for one in trajectories}))
    return Equilibrium(line, breaks, kept_first, kept_last, trend, misfit, transitions, verdict, reason)


def _verdict(
    trajectories: Sequence[Trajectory],
    line: Line,
    trend: Estimate,
    certainly: Estimate,
    kept: Estimate,
    misfit: float,
    transitions: int,
) -> tuple[Verdict, str]:
    """Return the verdict, and the reason of one that is undecided; `certainly` and `kept` have 90% intervals."""
    if transitions < FEWEST_TRANSITIONS:
        return "undecided", (
            f"{counted(transitions, 'transition')} among generated corpora; a verdict takes {FEWEST_TRANSITIONS}"
        )
    if math.isnan(trend.low):
        if trend.n >= FEWEST_TRENDS and len({one.level for one in trajectories}) < trend.n:
            return "undecided", "the cells of each level changed alike, to the last digit"
        return "undecided", f"{counted(trend.n, 'cell')}; a verdict takes {FEWEST_TRENDS}, and two of one level"
    if trend.high < 0:
        return "falling", ""
    if trend.low > 0:
        return "rising", ""
    if not _inside(certainly, TREND_MARGIN):
        return "undecided", f"a trend of {TREND_MARGIN:g} a generation is not excluded"
    if not _from_both_sides(trajectories):
        return "undecided", "the levels did not start on both sides of where they ended"
    if not _inside(kept, KEPT_MARGIN):
        return "undecided", f"it is not shown that less than {KEPT_MARGIN:.0%} of the levels' difference is left"
    if misfit < MISFIT:
        return "undecided", "the line does not fit: its residuals have a trend over generations"
    return "equilibrium", ""


def _generated(trajectory: Trajectory) -> tuple[Array, Array]:
    """Return the generations g >= 1 that are there, and their values."""
    values = np.array(trajectory.values, dtype=float)
    at = np.flatnonzero(np.isfinite(values))
    at = at[at >= 1]
    return at.astype(float), values[at]


def _transitions(trajectories: Sequence[Trajectory]) -> tuple[Array, Array, Array, npt.NDArray[np.int64]]:
    """Return (B[g], B[g+1], g, cell) of all transitions among generated corpora."""
    rows = [
        (now, then, generation, index)
        for index, one in enumerate(trajectories)
        for generation, (now, then) in enumerate(pairwise(one.values))
        if generation >= 1 and math.isfinite(now) and math.isfinite(then)
    ]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int64)


def _trend(trajectories: Sequence[Trajectory], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean over levels of the mean slope of B on g; its variance is that of cells within levels."""
    slopes: dict[float, list[float]] = {}
    for one in trajectories:
        at, values = _generated(one)
        last = max(FEWEST_TRANSITIONS + 1, (len(at) + 1) // 2)
        at, values = at[-last:], values[-last:]
        if len(at) >= 2:
            slopes.setdefault(one.level, []).append(float(np.polyfit(at, values, 1)[0]))
    cells = sum(map(len, slopes.values()))
    if not cells:
        return Estimate.undefined()
    value = float(np.mean([np.mean(level) for level in slopes.values()]))
    freedom = cells - len(slopes)
    if cells < FEWEST_TRENDS or freedom < 1:
        return Estimate(value, math.nan, math.nan, cells)
    within = sum(float(np.var(level)) * len(level) for level in slopes.values()) / freedom
    error = math.sqrt(within * sum(1 / len(level) for level in slopes.values())) / len(slopes)
    if error <= 1e-12 * max(abs(value), 1e-300):  # that cells agree to the last digit is chance
        return Estimate(value, math.nan, math.nan, cells)
    margin = student_quantile((1 + confidence) / 2, freedom) * error
    return Estimate(value, value - margin, value + margin, cells)


def _kept(trajectories: Sequence[Trajectory], at: int, confidence: float = CONFIDENCE) -> Estimate:
    """Return the slope over cells of B in generation `at` (-1: each cell's last) on the seed's B."""
    pairs = []
    for one in trajectories:
        found, values = _generated(one)
        if len(one.values) and math.isfinite(one.values[0]) and len(found):
            if at == -1:
                pairs.append((one.values[0], float(values[-1])))
            elif found[0] == at:
                pairs.append((one.values[0], float(values[0])))
    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(x) < 2 or np.ptp(x) < 1e-12:
        return Estimate(math.nan, math.nan, math.nan, len(x))
    centred = x - x.mean()
    total = float(centred @ centred)
    slope = float(centred @ y) / total
    if len(x) < FEWEST_TRENDS:
        return Estimate(slope, math.nan, math.nan, len(x))
    residual = y - y.mean() - slope * centred
    leverage = 1 / len(x) + centred**2 / total
    if leverage.max() > 1 - 1e-9:
        return Estimate(slope, math.nan, math.nan, len(x))
    error = math.sqrt(float(np.sum((centred * residual / (1 - leverage)) ** 2))) / total
    if error <= 1e-12 * max(abs(slope), 1e-300):
        return Estimate(slope, math.nan, math.nan, len(x))
    margin = student_quantile((1 + confidence) / 2, len(x) - 2) * error
    return Estimate(slope, slope - margin, slope + margin, len(x))


def _seed_break(trajectories: Sequence[Trajectory], level: float) -> SeedBreak:
    changes = np.array(
        [one.values[1] - one.values[0] for one in trajectories if one.level == level and len(one.values) > 1]
    )
    changes = changes[np.isfinite(changes)]
    if not len(changes):
        return SeedBreak(level, Estimate.undefined())
    value, n = float(changes.mean()), len(changes)
    if n < FEWEST_TRENDS or np.ptp(changes) == 0:
        return SeedBreak(level, Estimate(value, math.nan, math.nan, n))
    margin = student_quantile(TAILS[1], n - 1) * float(changes.std(ddof=1)) / math.sqrt(n)
    return SeedBreak(level, Estimate(value, value - margin, value + margin, n))


def _misfit(line: Line, before: Array, after: Array, generation: Array, cell: npt.NDArray[np.int64]) -> float:
    """Return the p-value of "the residuals' mean slope on g over cells is zero" (Student's t)."""
    if math.isnan(line.slope.value):
        return math.nan
    residual = after - line.intercept.value - line.slope.value * before
    slopes = [
        np.polyfit(generation[cell == one], residual[cell == one], 1)[0]
        for one in np.unique(cell)
        if np.sum(cell == one) >= 2
    ]
    if len(slopes) < FEWEST_TRENDS or np.ptp(slopes) < 1e-12:
        return math.nan
    return float(stats.ttest_1samp(slopes, 0.0).pvalue)


def _from_both_sides(trajectories: Sequence[Trajectory]) -> bool:
    """Say whether some level's seeds lie below the mean of where all cells ended, and some level's above."""
    ends = [float(values[-1]) for one in trajectories for _, values in [_generated(one)] if len(values)]
    starts = [one.values[0] for one in trajectories if one.values and math.isfinite(one.values[0])]
    return min(starts) < float(np.mean(ends)) < max(starts)


def _inside(estimate: Estimate, margin: float) -> bool:
    return -margin < estimate.low and estimate.high < margin
