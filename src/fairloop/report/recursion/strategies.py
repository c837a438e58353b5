"""What a mitigation buys: every strategy against no mitigation, in pairs of cells with the same level and seed."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairloop.catalogue import catalogue
from fairloop.report.read import MITIGATED, Cell
from fairloop.report.recursion.conditions import Condition
from fairloop.statistics.corrections import holm
from fairloop.statistics.correlation import spearman
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.large import flip_p_value
from fairloop.statistics.paired import FEWEST_FOR_FLIPS, paired_reduction
from fairloop.words import counted

Floats = NDArray[np.float64]

DOWNSTREAM = "downstream/bias"
EMBEDDING = "embedding/effect_size"
PAPER_REDUCTIONS = {False: 0.91, True: 0.988}
"""Reduction of downstream bias in arXiv 2511.10689 by contrastive augmentation: on average, at the low level (True)."""
PAPER_READINGS = ("contrastive", "contrastive_augment")
"""The two readings of what that strategy is: with training of the encoder, or the variants alone."""

AGAINST_CONTROL = "change against no mitigation"

MANY_COMPARISONS = 20
"""Of more comparisons than this each is brief: the last generation, all levels and the lowest one, few resamples."""

UNLEARNED = "†"
"""Marks a bias figure of a classifier that learned nothing."""


@dataclass(frozen=True)
class Pair:
    """Two cells that differ in their mitigation only."""

    treated: Cell
    control: Cell

    @property
    def level(self) -> float:
        """The initial level of both."""
        return self.treated.level

    @property
    def last(self) -> int:
        """The last generation that both cells have."""
        return min((cell.generations[-1] if cell.generations else 0) for cell in (self.treated, self.control))


@dataclass(frozen=True)
class Strategy:
    """A mitigation's cells, and those of them that have a control."""

    condition: Condition
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Reduction:
    """1 - mean|with| / mean|without| of a measure, over pairs.

    Attributes:
        condition: the mitigation's cells.
        metric: the measure, by its name as written.
        after: whether the mitigation's cells are measured after its change of the corpus; the control never is.
        last: whether the last generation alone counts, or the mean of each cell's absolute values from generation 1 on.
        level: the initial level; None for all.
        treated: mean|with|.
        control: mean|without|.
        reduction: with Fieller's interval; undefined without pairs or without any bias in the control.
        p_value: of the exact sign-flip test of |with| - |without| over pairs; NaN for so few that it cannot reach 0.05.
        adjusted: the same after Holm over the question's family: all strategies and all downstream tasks (or all other
            measures) of the same variant, span and level.
        pairs: the number of pairs.
        possible: the number of pairs in a full grid.
        unlearned: the number of pairs in which a classifier learned nothing.
        points: each pair's own reduction, NaN where its control has no bias.
    """

    condition: Condition
    metric: str
    after: bool
    last: bool
    level: float | None
    treated: float
    control: float
    reduction: Estimate
    p_value: float
    adjusted: float
    pairs: int
    possible: int
    unlearned: int
    points: tuple[float, ...]

    @property
    def by_construction(self) -> bool:
        """Whether the bias is that of a corpus, or an encoder, that the mitigation itself has just balanced."""
        return self.after and any(cell.has_mitigated for cell in self.condition.cells)

    @property
    def note(self) -> str:
        """Why the figure is undefined, unbounded or untested, or that it follows from how it is measured."""
        return "; ".join(filter(None, ("by construction" if self.by_construction else "", self.lack)))

    @property
    def lack(self) -> str:
        """Why there is no value, no bounded interval or no p-value; empty where all is known."""
        if self.pairs == 0:
            return "no pair: no control with this level and seed has the measure"
        if math.isnan(self.reduction.value):
            return "undefined: the control has no bias"
        if self.pairs == 1:
            return "one pair: no interval"
        if math.isinf(self.reduction.low):
            return "unbounded: these pairs cannot tell the control's bias from zero"
        few = self.pairs < FEWEST_FOR_FLIPS
        return f"{counted(self.pairs, 'pair')}: sign flips cannot give p below {2 / 2**self.pairs:.2g}" if few else ""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of embedding effect size and downstream bias over cells and generations from 1 on.

    `of` names the points: "as written", "after the mitigation", or "change against no mitigation" (after the
    mitigation, minus the control's at the same generation). `condition` is None for all strategies together.
    `clusters` is the number of starts (level and seed) that the interval is taken over.
    """

    of: str
    condition: Condition | None
    estimate: Estimate
    clusters: int


@dataclass(frozen=True)
class Comparison:
    """The strategies of one model under the same settings, and the cells without mitigation beside them."""

    model: str
    controls: tuple[Condition, ...]
    strategies: tuple[Strategy, ...]
    reductions: tuple[Reduction, ...]
    correlations: tuple[Correlation, ...]

    @property
    def conditions(self) -> list[Condition]:
        """All conditions, the controls first."""
        return [*self.controls, *(strategy.condition for strategy in self.strategies)]

    @property
    def lowest(self) -> float:
        """The lowest initial level of the strategies' cells."""
        return min(cell.level for strategy in self.strategies for cell in strategy.condition.cells)

    def names(self) -> dict[int, str]:
        """Return a short name for each condition (by its id), unambiguous among them."""
        mitigations = [one.mitigation for one in self.conditions]
        return {
            id(one): ", ".join([one.mitigation, *(one.settings if mitigations.count(one.mitigation) > 1 else ())])
            for one in self.conditions
        }


def comparisons(conditions: Sequence[Condition]) -> list[Comparison]:
    """Return the comparison of each model's strategies under the same settings; none where nothing is compared."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Condition]] = defaultdict(list)
    for condition in conditions:
        groups[condition.model, condition.under].append(condition)
    several = [
        (model, members)
        for (model, _), members in groups.items()
        if len(members) > 1 and any(one.mitigation != "none" for one in members)
    ]
    return [_compare(model, members, brief=len(several) > MANY_COMPARISONS) for model, members in several]


def changed(metric: str, cell: Cell) -> str:
    """Return the name of a measure after the mitigation's change; as written if the mitigation changes no corpus."""
    return MITIGATED + metric if cell.has_mitigated else metric


def learned_nothing(metric: str, cell: Cell, generation: int) -> bool:
    """Whether a downstream bias is that of a classifier that learned nothing (`<task>/learned` is 0)."""
    task, _, what = metric.rpartition("/")
    return what == "bias" and cell.get(f"{task}/learned", generation).value == 0


def _compare(model: str, members: Sequence[Condition], *, brief: bool) -> Comparison:
    controls, treated = (
        [one for one in members if (one.mitigation == "none") == untreated] for untreated in (True, False)
    )
    cells = [cell for condition in controls for cell in condition.cells]
    strategies = [Strategy(condition, tuple(_pairs(condition.cells, cells))) for condition in treated]
    used = {id(pair.control) for strategy in strategies for pair in strategy.pairs}
    controls = [one for one in controls if any(id(cell) in used for cell in one.cells)]
    starts = {(cell.level, cell.seed) for one in (*controls, *treated) for cell in one.cells}
    reductions = tuple(_reductions(strategies, starts, brief=brief))
    correlations = tuple(_correlations(controls, strategies, brief=brief))
    return Comparison(model, tuple(controls), tuple(strategies), reductions, correlations)


def _pairs(treated: Iterable[Cell], controls: Sequence[Cell]) -> Iterator[Pair]:
    """Pair each cell with the control of its level and seed; of several, with the one whose length is nearest."""
    starts: dict[tuple[float, str], list[Cell]] = defaultdict(list)
    for control in controls:
        starts[control.level, control.seed].append(control)
    for cell in treated:
        alike = starts.get((cell.level, cell.seed))
        if alike:
            yield Pair(cell, min(alike, key=lambda one: abs(len(one.generations) - len(cell.generations))))


def _reductions(strategies: Sequence[Strategy], starts: set[tuple[float, str]], *, brief: bool) -> Iterator[Reduction]:
    """Yield every reduction, adjusted over the family of its question: does any strategy lower any downstream bias?

    `brief`: at the last generation alone, over all levels and at the lowest one.
    """
    present = {metric for one in strategies for pair in one.pairs for metric, _ in pair.treated.measures}
    levels = sorted({level for level, _ in starts})[: 1 if brief else None]
    found = []
    for metric in _reduced(present):
        for after in (False, True):
            for last in (True,) if brief else (True, False):
                measured = [(one, list(_measured(one, metric, after, last))) for one in strategies]
                for level in (None, *levels):
                    possible = sum(level in (None, start) for start, _ in starts)
                    chosen = (metric, after, last, level)
                    found += [_reduction(one, chosen, ends, possible) for one, ends in measured]
    families: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, one in enumerate(found):
        families[_is_downstream(one.metric), one.after, one.last, one.level].append(place)
    for places in families.values():
        for place, p in zip(places, holm([found[place].p_value for place in places]), strict=True):
            found[place] = replace(found[place], adjusted=float(p))
    yield from found


def _is_downstream(metric: str) -> bool:
    return metric.startswith(DOWNSTREAM.partition("/")[0])


def _reduced(present: Iterable[str]) -> list[str]:
    """Return the headline measures of bias, of which a reduction is reported: those of downstream tasks first."""
    names = {metric.removeprefix(MITIGATED) for metric in present}
    bias = catalogue().chosen(names, lambda row: row.subject == "corpus" and row.headline and row.is_bias)
    families = list(dict.fromkeys(metric.partition("/")[0] for metric in bias))
    families.sort(key=lambda family: not _is_downstream(family))
    return sorted(bias, key=lambda metric: families.index(metric.partition("/")[0]))


def _measured(strategy: Strategy, metric: str, after: bool, last: bool) -> Iterator["_Ends"]:
    """Yield, for each pair that both sides measured: its level, |with|, |without|, and whether one learned nothing."""
    for pair in strategy.pairs:
        with_, without = _absolute(pair, metric, after, last)
        if math.isfinite(with_) and math.isfinite(without):
            yield pair.level, with_, without, _unlearned(pair, metric, after, last)


_Ends = tuple[float, float, float, bool]


def _reduction(
    strategy: Strategy,
    chosen: tuple[str, bool, bool, float | None],
    measured: Sequence[_Ends],
    possible: int,
) -> Reduction:
    metric, after, last, level = chosen
    ends = [one for one in measured if level in (None, one[0])]
    treated, control = (np.array([one[place] for one in ends], dtype=float) for place in (1, 2))
    return Reduction(
        condition=strategy.condition,
        metric=metric,
        after=after,
        last=last,
        level=level,
        treated=float(treated.mean()) if len(treated) else math.nan,
        control=float(control.mean()) if len(control) else math.nan,
        reduction=paired_reduction(treated, control),
        p_value=flip_p_value(treated - control) if control.any() and len(ends) >= FEWEST_FOR_FLIPS else math.nan,
        adjusted=math.nan,
        pairs=len(ends),
        possible=possible,
        unlearned=sum(unlearned for *_, unlearned in ends),
        points=tuple(1 - with_ / without if without else math.nan for _, with_, without, _ in ends),
    )


def _span(pair: Pair, last: bool) -> range:
    return range(pair.last if last else 1, pair.last + 1) if pair.last else range(0)


def _absolute(pair: Pair, metric: str, after: bool, last: bool) -> tuple[float, float]:
    """Return |with| and |without| of a pair, means over the generations in which both are defined."""
    name = changed(metric, pair.treated) if after else metric
    ends = [(pair.treated.get(name, one).value, pair.control.get(metric, one).value) for one in _span(pair, last)]
    defined = [(abs(with_), abs(without)) for with_, without in ends if math.isfinite(with_) and math.isfinite(without)]
    if len(defined) == 1:
        return defined[0]
    if not defined:
        return math.nan, math.nan
    with_, without = np.array(defined).mean(axis=0)
    return float(with_), float(without)


def _unlearned(pair: Pair, metric: str, after: bool, last: bool) -> bool:
    name = changed(metric, pair.treated) if after else metric
    return any(
        learned_nothing(name, pair.treated, one) or learned_nothing(metric, pair.control, one)
        for one in _span(pair, last)
    )


Point = tuple[tuple[float, str], float, float]


def points(cells: Iterable[Cell], *, after: bool) -> list[Point]:
    """Return (start, embedding effect size, downstream bias) of every cell and generation from 1 on."""
    found = []
    for cell in cells:
        names = [changed(metric, cell) if after else metric for metric in (EMBEDDING, DOWNSTREAM)]
        for generation in cell.generations:
            x, y = (cell.get(name, generation).value for name in names)
            if generation and math.isfinite(x) and math.isfinite(y):
                found.append(((cell.level, cell.seed), x, y))
    return found


def changes(pairs: Iterable[Pair]) -> list[Point]:
    """Return (start, change of the effect size, change of downstream bias) of every pair and generation from 1 on."""
    found = []
    for pair in pairs:
        for generation in _span(pair, last=False):
            x, y = (
                pair.treated.get(changed(metric, pair.treated), generation).value
                - pair.control.get(metric, generation).value
                for metric in (EMBEDDING, DOWNSTREAM)
            )
            if math.isfinite(x) and math.isfinite(y):
                found.append(((pair.level, pair.treated.seed), x, y))
    return found


def _correlations(
    controls: Sequence[Condition], strategies: Sequence[Strategy], *, brief: bool
) -> Iterator[Correlation]:
    """Yield the correlations; `brief`: over all strategies together alone."""
    conditions = [*controls, *(one.condition for one in strategies)]
    for of, after in (("as written", False), ("after the mitigation", True)):
        yield from _correlate(of, [(one, points(one.cells, after=after)) for one in conditions], brief)
    yield from _correlate(AGAINST_CONTROL, [(one.condition, changes(one.pairs)) for one in strategies], brief)


def _correlate(of: str, each: Sequence[tuple[Condition, list[Point]]], brief: bool) -> Iterator[Correlation]:
    """Yield the correlation over all points, then unless `brief` over those of each condition."""
    groups: list[tuple[Condition | None, list[Point]]] = [
        (None, [point for _, found in each for point in found]),
        *(() if brief else each),
    ]
    for condition, found in groups:
        starts = [start for start, _, _ in found]
        estimate = spearman([x for _, x, _ in found], [y for _, _, y in found], clusters=starts)
        yield Correlation(of, condition, estimate, len(set(starts)))
