"""What the report says: cells grouped into conditions, and for each condition where its bias settles."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from fairloop.report.read import Cell, Measure
from fairloop.statistics.equilibrium import (
    Equilibrium,
    RelativeChange,
    Trajectory,
    estimate_equilibrium,
    relative_changes,
)

NET_RATE = "rule/net_stereotype_rate"
GENDERED_SHARE = "rule/gendered_share"
NET_RATE_AMONG_GENDERED = "rule/net_rate_among_gendered"
MITIGATED = "mitigated/"

FACTORS = {
    NET_RATE: "net stereotype rate B",
    GENDERED_SHARE: "gendered share",
    NET_RATE_AMONG_GENDERED: "net rate among gendered",
}
"""B and the two factors whose product it is."""

_POSSIBLE = {NET_RATE: (-1.0, 1.0), GENDERED_SHARE: (0.0, 1.0), NET_RATE_AMONG_GENDERED: (-1.0, 1.0)}

PAPER_RANGE = (0.11, 0.13)
"""Where the recursion of Gemma-2-2b-it settles according to arXiv 2511.10689."""

_NOT_A_CONDITION = {"seed", "initial_bias", "mitigation", "runs_dir", "tracking", "trainer", "experiment", "hydra"}
_LENGTH = "study.generations"


@dataclass(frozen=True)
class Settling:
    """Where one metric of one condition settles, and how far it moved from each initial level."""

    metric: str
    label: str
    equilibrium: Equilibrium
    trajectories: tuple[Trajectory, ...]
    from_seed: tuple[RelativeChange, ...]
    from_first: tuple[RelativeChange, ...]


@dataclass(frozen=True)
class Condition:
    """Cells that differ only in initial bias, seed and length: one recursion, started at several levels.

    `settings` are the further settings ("key=value") in which cells of this model and mitigation differ.
    """

    model: str
    mitigation: str
    settings: tuple[str, ...]
    cells: tuple[Cell, ...]
    settlings: tuple[Settling, ...]

    @property
    def label(self) -> str:
        """The condition in words, as tables and figures name it."""
        return ", ".join([f"{self.model}, mitigation {self.mitigation}", *self.settings])

    @property
    def levels(self) -> list[float]:
        """The initial levels, ascending."""
        return sorted({cell.level for cell in self.cells if math.isfinite(cell.level)})

    def at(self, level: float) -> list[Cell]:
        """Return the cells that started at a level."""
        return [cell for cell in self.cells if cell.level == level]

    def settling(self, metric: str) -> Settling | None:
        """Return what is known of a metric's equilibrium; None if no cell measured it."""
        return next((one for one in self.settlings if one.metric == metric), None)


def conditions(cells: Iterable[Cell]) -> list[Condition]:
    """Group the recursion cells into conditions and estimate each one's equilibrium."""
    alike: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.study == "recursion":
            alike[cell.model, cell.mitigation].append(cell)
    found = []
    for (model, mitigation), members in alike.items():
        for settings, group in _by_settings(members).items():
            settlings = tuple(filter(None, (_settling(group, metric) for metric in FACTORS)))
            found.append(Condition(model, mitigation, settings, tuple(group), settlings))
    return sorted(found, key=lambda one: (one.model, one.mitigation != "none", one.mitigation, one.settings))


def level_mean(cells: Sequence[Cell], metric: str, generation: int) -> Measure:
    """Return a metric's mean over the cells of one level, with its 95% interval.

    One cell: its own interval, over its sentences. Three and more: Student's t over cells. Two: no interval, for two
    values say too little about their spread.
    """
    measures = [cell.get(metric, generation) for cell in cells]
    present = [measure for measure in measures if math.isfinite(measure.value)]
    if len(present) == 1:
        return present[0]
    values = np.array([measure.value for measure in present])
    if not len(values):
        return Measure(generation, metric, math.nan, math.nan, math.nan, 0)
    half = math.nan
    if len(values) > 2:
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return Measure(generation, metric, mean, mean - half, mean + half, len(values))


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration as {"group.key": "value"}."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = "" if value is None else str(value)
    return flat


def verdict_in_words(settling: Settling) -> str:
    """Return the verdict as a sentence that a reader need not look up."""
    found = settling.equilibrium
    if found.resampled == "nothing":
        return f"undecided: {found.cells} cell(s) with {found.transitions} transition(s) are too few to fit a line"
    if found.verdict == "equilibrium":
        low, high = found.level.low, found.level.high
        return f"equilibrium: it settles near {found.level.value:.3f} ({low:.2f} to {high:.2f}), from below and above"
    if found.verdict == "amplification":
        return "amplification: each generation has more than the one before"
    if found.slope.low <= 1 <= found.slope.high:
        return "undecided: the data do not exclude that it keeps its level or grows (rho may be 1)"
    if found.slope.low <= -1:
        return "undecided: the data do not exclude that it swings ever wider (rho may be -1)"
    starts = [one.values[0] for one in settling.trajectories if math.isfinite(one.values[0])]
    near = f"it heads for {found.level.value:.3f}"
    if starts and min(starts) > found.level.high:
        return f"undecided: {near} from above only, no level started below"
    if starts and max(starts) < found.level.low:
        return f"undecided: {near} from below only, no level started above"
    return "undecided: the slope points to a resting level, but the levels do not close in on it from both sides"


def _by_settings(cells: Sequence[Cell]) -> dict[tuple[str, ...], list[Cell]]:
    flat = [
        {
            key: value
            for key, value in flatten(cell.config).items()
            if key.split(".")[0] not in _NOT_A_CONDITION and key != _LENGTH
        }
        | flatten({"mitigation": cell.config.get("mitigation") or {}})
        for cell in cells
    ]
    keys = sorted({key for one in flat for key in one})
    differing = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    groups: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell, settings in zip(cells, flat, strict=True):
        groups[tuple(f"{key}={settings.get(key, 'unset')}" for key in differing)].append(cell)
    return groups


def _settling(cells: Sequence[Cell], metric: str) -> Settling | None:
    trajectories = [Trajectory(cell.level, cell.values(metric)) for cell in cells if cell.values(metric)]
    if not any(math.isfinite(value) for one in trajectories for value in one.values):
        return None
    return Settling(
        metric=metric,
        label=FACTORS[metric],
        equilibrium=estimate_equilibrium(trajectories, possible=_POSSIBLE[metric]),
        trajectories=tuple(trajectories),
        from_seed=tuple(relative_changes(trajectories, since=0)),
        from_first=tuple(relative_changes(trajectories, since=1)),
    )
