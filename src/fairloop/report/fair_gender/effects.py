"""What a debias method buys and what it costs: each against the untouched PLM, and what each component adds.

A method is measured on the same PLM before and after, with the same seed and the same items; so is the ablation of a
component, against the full method. Differences are paired by seed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairloop.catalogue import catalogue
from fairloop.measures.catalogue import Declared
from fairloop.pairs.sentence_files import KEY as SENTENCES
from fairloop.report.items import Side, changes_of_items, item_difference
from fairloop.report.read import Cell, Chosen, decided, flatten, level_mean
from fairloop.statistics.corrections import holm
from fairloop.statistics.crossed import crossed_mean
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import ratio_of_means, student_mean, student_p_value

STUDY = "fair_gender"
BEFORE = "before/"
UNTOUCHED = "none"

MOST_FOR_ITEMS = 20
"""Of more pairs of seeds than this the per-item tables are not read: the seeds themselves say enough."""

Floats = NDArray[np.float64]


CHANGES_IN_WORDS = {
    ("source", "template"): "pairs from templates",
    ("source", "swap"): "swapped pairs",
    ("source", "llm"): "pairs by the LLM",
    ("screen.enabled", "False"): "no screening",
    ("screen.toxicity", "none"): "no toxicity screen",
    ("screen.fluency", "none"): "no fluency screen",
    ("alignment.enabled", "False"): "no alignment",
    ("causal", "none"): "no filter by effect",
    ("causal", "knn"): "filter by knn",
    ("causal", "influence"): "filter by influence",
    ("causal", "random"): "random filter",
    ("regularizer", "False"): "no regulariser",
    ("predicted", "target"): "the target's question alone",
    ("text_weight", "0.0"): "without the sentences' own loss",
    ("neighbours", "1"): "no causal estimate in L_b (K = 1)",
    ("early_stopping.enabled", "False"): "no early stopping",
    ("weights", "lora"): "LoRA",
}
_MEASURED_BY = {"study.benchmarks", "study.resamples"}
"""What decides which scores there are and how exact their intervals, and not what a score is of."""


@dataclass(frozen=True)
class Variant:
    """A method under one set of settings; `changes` are those ("key", "value") that differ from the method's reference.

    The reference has, of every setting in which the method's cells differ, the value that most variants share, and of
    several such values the method's default: in an ablation that is the full method.
    """

    method: str
    changes: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The variant in words."""
        return ", ".join([self.method, *(change_in_words(*change) for change in self.changes)])


@dataclass(frozen=True)
class Effect:
    """What a variant does to one score.

    Attributes:
        variant: whose cells.
        score: the measure.
        value: its mean over seeds; for one seed, or seeds that are all alike, with its interval over items.
        change: the paired difference of the amount of bias, or of the skill, against the control.
        relative: the same as a share of the control's mean, with Fieller's interval.
        p_value: of no change, by the analysis that the interval of `change` is of.
        adjusted: the same after Holm over all variants and all scores of bias, or all of language skill.
        pairs: how many pairs of seeds.
        over: what interval and p-value are over: "seeds and items", "seeds", "items" or "" where there are none.
    """

    variant: Variant
    score: Declared
    value: Estimate
    change: Estimate
    relative: Estimate
    p_value: float
    adjusted: float
    pairs: int
    over: str


@dataclass(frozen=True)
class Debiasing:
    """All variants of one PLM: against the untouched PLM, and the ablations of each method against its full form.

    `plm` says which half of the items, or what other choice of the benchmarks, where a report has several.
    """

    plm: str
    untouched: tuple[Cell, ...]
    variants: tuple[Variant, ...]
    effects: tuple[Effect, ...]
    ablations: tuple["Ablation", ...]

    @property
    def scores(self) -> list[Declared]:
        """The scores that some variant has, in their order."""
        return list(dict.fromkeys(one.score for one in self.effects))


@dataclass(frozen=True)
class Ablation:
    """A method's full form, and its variants against it: what is lost without a component."""

    full: Variant
    headline: Declared
    without: float
    level: float
    effects: tuple[Effect, ...]

    def of(self, score: Declared) -> list[Effect]:
        """Return the changes of one score."""
        return [one for one in self.effects if one.score == score]


def debiasings(cells: Sequence[Cell]) -> list[Debiasing]:
    """Group the cells of the study by PLM and by the items that they were measured on, and compare them."""
    groups: list[_Group] = []
    for cell, settings in decided([cell for cell in cells if cell.study == STUDY]):
        plm = {key: value for key, value in settings.items() if key.startswith("plm.")}
        items = _items(cell, settings)
        for group in groups:
            if (group.name, group.plm) == (cell.plm, plm) and group.agrees(items):
                break
        else:
            group = _Group(cell.plm, plm, {}, [])
            groups.append(group)
        group.items.update(items)
        group.members.append((cell, settings))
    return [_compare(name, group.members) for name, group in zip(_names(groups), groups, strict=True)]


Items = dict[str, dict[str, str]]
"""The settings of each benchmark that a cell was measured on, such as the half of its items."""


@dataclass(frozen=True)
class _Group:
    """Cells whose scores compare: of one PLM, on the same items of each benchmark that they share."""

    name: str
    plm: dict[str, str]
    items: Items
    members: list[Chosen]

    def agrees(self, items: Items) -> bool:
        return all(self.items[name] == chosen for name, chosen in items.items() if name in self.items)


def _items(cell: Cell, settings: dict[str, str]) -> Items:
    measured = {metric.removeprefix(BEFORE).partition("/")[0] for metric, _ in cell.measures}
    found: Items = {}
    for name in measured:
        start = f"benchmarks.{name}."
        found[name] = {key.removeprefix(start): value for key, value in settings.items() if key.startswith(start)}
    return found


def _names(groups: Sequence[_Group]) -> list[str]:
    """Return each group's PLM, with its path and the benchmarks' settings where several are of that name."""
    names = []
    for place, group in enumerate(groups):
        alike = [one for one in groups if one.name == group.name]
        path = group.plm.get("plm.path", str(place))
        shown = f"{group.name} ({path})" if any(one.plm != group.plm for one in alike) else group.name
        settings = [{f"{key}={value}" for one in each.items.values() for key, value in one.items()} for each in alike]
        own = [one for one in settings[alike.index(group)] if any(one not in each for each in settings)]
        names.append(", ".join([shown, *sorted(own)]))
    return names


def change_in_words(key: str, value: str) -> str:
    """Return a setting of a variant as a short name."""
    short = key.removeprefix("debias.")
    if short == "pairs":
        return f"{value} pairs"
    return CHANGES_IN_WORDS.get((short, value), f"{short}={value or 'null'}")


def method_of(cell: Cell) -> str:
    """Return the name of a cell's debias method."""
    return str(cell.chosen("debias", "name") or UNTOUCHED)


def _compare(plm: str, chosen: Sequence[Chosen]) -> Debiasing:
    cells = [cell for cell, _ in chosen]
    untouched = tuple(cell for cell in cells if method_of(cell) == UNTOUCHED)
    methods: dict[str, list[Chosen]] = defaultdict(list)
    for cell, settings in chosen:
        methods[method_of(cell)].append((cell, settings))
    order = sorted(methods, key=lambda name: (name != UNTOUCHED, name != STUDY, name))
    variants = [variant for name in order for variant in _variants(name, methods[name])]
    controls = {cell.seed: cell for cell in untouched}
    present = [metric for cell in cells for metric in cell.metrics]
    chosen_scores = catalogue().chosen(present, lambda row: row.subject == "plm" and row.compares_methods)
    scores = [catalogue().named(metric) for metric in chosen_scores]
    effects: list[Effect] = []
    for score in scores:
        family = [_effect(one, score, list(_against_untouched(_once(one.cells, score), controls))) for one in variants]
        effects += family
    effects = adjusted(effects)
    ablations = [found for name in order if (found := _ablation(_of(variants, name), scores, controls))]
    return Debiasing(plm, untouched, tuple(variants), tuple(effects), tuple(ablations))


def _of(variants: Iterable[Variant], method: str) -> list[Variant]:
    return [one for one in variants if one.method == method]


def _variants(method: str, chosen: Sequence[Chosen]) -> list[Variant]:
    """Return the variants of one method, the reference first, then those with the fewest changes."""
    cells = [cell for cell, _ in chosen]
    if method == UNTOUCHED:  # what it is configured with besides does nothing
        return [Variant(method, (), tuple(cells))]
    flat = _one_file_a_seed(cells, [_of_the_method(settings) for _, settings in chosen])
    # A group that a cell never used (the generator, for pairs from templates) is no change that its name should tell.
    keys = sorted({key for one in flat for key in one})
    rows = [
        {key: one.get(key, "" if key.partition(".")[0] in cell.deciding else None) for key in keys}
        for cell, one in zip(cells, flat, strict=True)
    ]
    varying = [key for key in keys if len({row[key] for row in rows}) > 1]
    groups: dict[tuple[str | None, ...], list[Cell]] = defaultdict(list)
    for cell, row in zip(cells, rows, strict=True):
        groups[tuple(row[key] for key in varying)].append(cell)
    defaults = _defaults(method) if varying else {}
    usual = [_reference([values[place] for values in groups], defaults.get(key)) for place, key in enumerate(varying)]
    found = [
        Variant(
            method,
            tuple(
                (key, value)
                for key, value, reference in zip(varying, values, usual, strict=True)
                if value not in (reference, None)
            ),
            tuple(members),
        )
        for values, members in groups.items()
    ]
    return sorted(found, key=lambda one: (len(one.changes), one.changes))


def _one_file_a_seed(cells: Sequence[Cell], flat: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return settings without the file of sentences where each seed has its own: one variant, not one for each file."""
    alike: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for place, one in enumerate(flat):
        alike[tuple(sorted((key, value) for key, value in one.items() if key != SENTENCES))].append(place)
    found = [dict(one) for one in flat]
    for places in alike.values():
        files = {(cells[place].seed, flat[place].get(SENTENCES, "")) for place in places}
        if len({seed for seed, _ in files}) == len(files):
            for place in places:
                found[place].pop(SENTENCES, None)
    return found


def _reference(values: Sequence[str | None], default: str | None) -> str:
    counts = Counter(value for value in values if value is not None)
    usual = [value for value in counts if counts[value] == max(counts.values())]
    return default if default in usual else usual[0]


def _of_the_method(settings: dict[str, str]) -> dict[str, str]:
    """Return what decides the debiased PLM, beside the PLM itself and the seed."""
    return {
        key: value
        for key, value in settings.items()
        if key != "seed" and key not in _MEASURED_BY and not key.startswith(("plm.", "benchmarks."))
    }


def _defaults(method: str) -> dict[str, str]:
    """Return a method's default settings; nothing for a method that this version does not know."""
    from fairloop.debias.registry import settings_of
    from fairloop.errors import UserError

    try:
        return flatten({"debias": settings_of({"name": method}).model_dump(mode="json")})
    except UserError:
        return {}


Pairs = list[tuple[Side, Side]]


def _against_untouched(cells: Iterable[Cell], controls: dict[str, Cell]) -> Iterator[tuple[Side, Side]]:
    """Pair each cell with the untouched PLM: as the cell itself measured it, or the cell of its seed that did."""
    for cell in cells:
        if any(metric.startswith(BEFORE) for metric, _ in cell.measures):
            yield Side(cell), Side(cell, before=True)
        elif cell.seed in controls and controls[cell.seed] is not cell:
            yield Side(cell), Side(controls[cell.seed])


def _against(cells: Iterable[Cell], controls: Sequence[Cell]) -> Iterator[tuple[Side, Side]]:
    by_seed = {cell.seed: cell for cell in controls}
    return ((Side(cell), Side(by_seed[cell.seed])) for cell in cells if cell.seed in by_seed)


def adjusted(effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects with Holm's p-values: all that ask for bias are one family, all that ask for skill another."""
    found = list(effects)
    for bias in (True, False):
        places = [place for place, one in enumerate(found) if one.score.is_bias == bias]
        for place, p in zip(places, holm([found[place].p_value for place in places]), strict=True):
            found[place] = replace(found[place], adjusted=float(p))
    return found


def _once(cells: Iterable[Cell], score: Declared) -> list[Cell]:
    """Return one cell of each seed that has a score: cells that differ in their benchmarks only count once."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if math.isfinite(cell.get(score.pattern, None).value):
            found.setdefault(cell.seed, cell)
    return list(found.values())


def _effect(variant: Variant, score: Declared, pairs: Pairs) -> Effect:
    pairs = [
        pair
        for pair in pairs
        if all(math.isfinite(side.value(score.pattern)) for side in pair) and variant.method != UNTOUCHED
    ]
    cells, count = _once(variant.cells, score), len(pairs)
    # Seeds of what draws nothing at random are one measurement repeated: their spread of zero would be no interval.
    if _alike([cell.get(score.pattern, None).value for cell in cells]):
        cells = cells[:1]
    if all(_alike([pair[place].value(score.pattern) for pair in pairs]) for place in (0, 1)):
        pairs = pairs[:1]
    treated, control = (
        np.array([score.amount(pair[place].value(score.pattern)) for pair in pairs]) for place in (0, 1)
    )
    change, p_value = student_mean(treated - control), student_p_value(treated - control)
    ratio = ratio_of_means(control, treated)
    relative = Estimate(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.n)
    over = "seeds" if len(pairs) > 2 else ""
    if len(pairs) == 1 and (over_items := _over_items(*pairs[0], score)):
        (change, p_value), over = over_items, "items"
    elif 1 < len(pairs) <= MOST_FOR_ITEMS and (crossed := _over_both(pairs, score)):
        (change, p_value), over = crossed, "seeds and items"
    value = level_mean(cells, score.pattern, None)
    return Effect(variant, score, value, change, relative, p_value, math.nan, count, over)


def _alike(values: Sequence[float]) -> bool:
    return len(values) > 1 and bool(np.allclose(values, values[0], rtol=1e-9, atol=0.0))


def _side(pair: tuple[Side, Side], score: Declared) -> float:
    """Return 1 or -1 where both ends of a pair lie above or below no bias; 0 where they lie on different sides."""
    after, before = (side.value(score.pattern) - (score.ideal or 0.0) for side in pair)
    return math.copysign(1, after) if after * before > 0 else 0.0


def _over_items(second: Side, first: Side, score: Declared) -> tuple[Estimate, float] | None:
    """Return the change with its interval over items, and p; None where the two lie on different sides of no bias."""
    sign = _side((second, first), score)
    found = item_difference(second, first, score.pattern) if sign else None
    return (found[0].scaled(sign), found[1]) if found else None


def _over_both(pairs: Pairs, score: Declared) -> tuple[Estimate, float] | None:
    """Return the change with its interval over seeds and items, and p; None without items, or across no bias."""
    signs = np.array([_side(pair, score) for pair in pairs])
    table = changes_of_items(pairs, score.pattern) if signs.all() else None
    found = crossed_mean(table * signs[:, None]) if table is not None else None
    return found if found and found[0].bounded else None


def _ablation(variants: Sequence[Variant], scores: Sequence[Declared], controls: dict[str, Cell]) -> Ablation | None:
    """Return the variants of a method against its full form; None without any, or without the full form."""
    full = next((one for one in variants if not one.changes), None)
    others = [one for one in variants if one.changes]
    headline = next((one for one in scores if one.is_bias and full and _once(full.cells, one)), None)
    if full is None or headline is None or not others:
        return None
    effects: list[Effect] = []
    for score in scores:
        family = [
            _effect(one, score, list(_against(_once(one.cells, score), _once(full.cells, score)))) for one in others
        ]
        effects += family
    effects = adjusted(effects)
    untouched = [
        headline.amount(first.value(headline.pattern))
        for _, first in _against_untouched(_once(full.cells, headline), controls)
    ]
    level = [headline.amount(cell.get(headline.pattern, None).value) for cell in _once(full.cells, headline)]
    return Ablation(full, headline, _mean(untouched), _mean(level), tuple(effects))


def _mean(values: Sequence[float]) -> float:
    return student_mean(values).value
