"""How far a measure moved from a given generation to the last one, relative to where it was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from fairloop.statistics.equilibrium import Trajectory
from fairloop.statistics.estimate import TAILS, Estimate
from fairloop.statistics.means import ratio_interval, ratio_of_means


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


def relative_changes(trajectories: Sequence[Trajectory], *, since: int = 0) -> list[RelativeChange]:
    """Return the relative change from generation `since` to the last one, per initial level, levels ascending.

    The change of a level is that of the mean over its cells. Its interval is Fieller's (1954, Journal of the Royal
    Statistical Society B 16:175-185) with Student's t over cells, which for a constant start (the seed corpus) is the
    ordinary t interval. Where the start cannot be told from zero the change is undefined (NaN), its interval unbounded;
    equal cells have none, for that they agree to the last digit is chance. A single cell has the interval that
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
            changes.append(_relative_change(ends, level, since, until))
    return changes


def _relative_change(
    ends: Sequence[tuple[Trajectory, tuple[float, float]]], level: float, since: int, until: int
) -> RelativeChange:
    first, last = np.array([pair for _, pair in ends], dtype=float).T
    ratio = ratio_of_means(first, last)
    low, high = ratio.low, ratio.high
    over: Literal["cells", "sentences", "nothing"] = "cells" if len(ends) > 1 and ratio.defined else "nothing"
    errors = ends[0][0].errors
    if len(ends) == 1 and len(errors) > until and ratio.defined:
        # The seed corpus is what the recursion started from, and not a sample of anything.
        variances = [0.0 if since == 0 else errors[since] ** 2, errors[until] ** 2]
        if all(map(math.isfinite, variances)):
            quantile = float(stats.norm.ppf(TAILS[1]))
            low, high = ratio_interval(float(first[0]), float(last[0]), np.diag(variances), quantile)
            over = "sentences"
    # A start that may be zero bounds nothing: what the division gives is no change that could be reported.
    value = math.nan if math.isinf(low) else ratio.value - 1
    return RelativeChange(level, since, until, Estimate(value, low - 1, high - 1, len(ends)), over)
