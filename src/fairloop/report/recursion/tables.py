"""The recursion's tables: measures by generation, equilibria, relative changes, and what mitigations buy."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from fairloop.catalogue import catalogue
from fairloop.measures.remarks import is_short
from fairloop.report.read import MITIGATED, Cell, level_mean
from fairloop.report.recursion.conditions import (
    FACTORS,
    MALE_SHARE,
    NET_RATE,
    PAPER_CHANGES,
    Condition,
    Corrected,
    Settling,
)
from fairloop.report.recursion.strategies import (
    DOWNSTREAM,
    UNLEARNED,
    Comparison,
    Reduction,
    learned_nothing,
)
from fairloop.report.table import Table, measured, note_below, number, p_value_text, percent, signed, with_interval
from fairloop.statistics.correlation import FEWEST_CLUSTERS
from fairloop.statistics.equilibrium import MISFIT
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import FEWEST_UNITS
from fairloop.statistics.line import FEWEST_FOR_LINE
from fairloop.statistics.mislabelled import LabelErrors
from fairloop.statistics.paired import FEWEST_FOR_FLIPS
from fairloop.words import counted

UNDEFINED = "undefined"
"""A change relative to what may be zero."""

FEW_CELLS, FEW_TRANSITIONS = "too few cells", "too few transitions"
"""Why a trend, or the line among generated corpora, has no interval."""

LINE = ("equilibrium/level", "equilibrium/slope")
"""What the measures of the line among generated corpora are called in the file of intervals that are too short."""

LEAST_KEPT = 0.9
"""Labels that keep less than this of a net rate err so much that what was counted needs its correction."""

NO_REST = "‡"
"""Marks a B* at which nothing rests."""

_LEARNED_NOTHING = "a classifier learned nothing: its bias says nothing about the corpus"
_MARKED = f"{UNLEARNED} In some of these pairs {_LEARNED_NOTHING}."


def percent_change(change: Estimate) -> str:
    """Return `+36% [+20, +52]`, or in a word why there is no interval, or no change: the start may be zero."""
    return percent(change, over="cells", sign="+") if change.defined else UNDEFINED


def percent_reduction(reduction: Reduction) -> str:
    """Return `91% [80, 97]`, marked if a classifier learned nothing, or in a word why there is no interval."""
    return percent(reduction.reduction, over="pairs", mark=UNLEARNED if reduction.unlearned else "")


def metric_tables(condition: Condition, *, single: bool, in_full: bool = False) -> list[Table]:
    """Return the condition's measures by level, seed and generation: the rule-based ones, then the others.

    `single`: a row for each cell and generation; otherwise the means over the cells of a level. `in_full`: with the
    further downstream tasks, and with the intervals of secondary measures, for which a terminal is too narrow.
    """
    groups = [(cell.level, cell.seed, [cell]) for cell in condition.cells]
    if not single:
        groups = [(level, counted(len(condition.at(level)), "seed"), condition.at(level)) for level in condition.levels]
    tables = []
    for name, metrics in _headlines(condition, in_full=in_full).items():
        shown = {metric: catalogue().label(metric) for metric in metrics}
        brief = () if in_full else [metric for metric in shown if _is_secondary(metric)]
        rows = tuple(_metric_rows(groups, metrics, brief))
        if shown and rows:
            title = f"{name}: {condition.label}"
            note = _interval_note(single, condition.cells, shown)
            if any(row[2].endswith("after") for row in rows):
                note += "; after: with the mitigation's change to the corpus"
            if any(UNLEARNED in text for row in rows for text in row):
                note += f"; {UNLEARNED} {_LEARNED_NOTHING}"
            note += note_below(rows, shown)
            tables.append(Table(title, ("level", "seed", "gen", *shown.values()), rows, 3, note))
    return tables


def _headlines(condition: Condition, *, in_full: bool) -> dict[str, list[str]]:
    """Return the headline measures that the condition's cells have, by the table that they stand in."""
    names = {metric.removeprefix(MITIGATED) for cell in condition.cells for metric in cell.metrics}
    tables: dict[str, list[str]] = {"Bias and its factors": [], "Further measures": [], "Further downstream tasks": []}
    bias, others, tasks = tables.values()
    for metric in catalogue().chosen(names, lambda row: row.subject == "corpus" and row.headline):
        family, first = metric.partition("/")[0], DOWNSTREAM.partition("/")[0]
        is_task = family.startswith(first) and family != first
        (bias if family == NET_RATE.partition("/")[0] else tasks if is_task else others).append(metric)
    return tables if in_full else {name: found for name, found in tables.items() if found is not tasks}


def _is_secondary(metric: str) -> bool:
    """Whether a measure has no interval where there is little room: not bias, a factor of B or the share of men."""
    return metric not in (*FACTORS, MALE_SHARE) and not catalogue().of(metric).is_bias


def equilibrium_table(conditions: Sequence[Condition]) -> Table | None:
    """Return what each measure does among generated corpora, and the verdict."""
    rows = tuple(
        (
            condition.label,
            settling.label,
            *trend_and_line(condition, settling),
            with_interval(found.kept_last, few=FEW_CELLS if math.isnan(found.kept_last.low) else ""),
            f"{len(settling.trajectories)} / {found.transitions}",
            f"undecided: {found.reason}" if found.verdict == "undecided" else found.verdict,
        )
        for condition in conditions
        for settling in condition.settlings
        for found in [settling.equilibrium]
    )
    if not rows:
        return None
    note = (
        "Among generated corpora (generation 1 on): the mean change a generation in the later half; the line B of the "
        "next generation = c + rho x B, with B* = c / (1 - rho); the share of the levels' difference that is left at "
        "the end. 95% intervals over cells. Transitions: those of the shortest cell. Paper (Gemma-2-2b-it): "
        "0.11 to 0.13."
    )
    note += note_below(rows, LINE, *(word for condition in conditions for word in circumstances(condition)))
    if any(NO_REST in row[3] for row in rows):
        note += f" {NO_REST} No resting level: the verdict is not equilibrium, or the line does not fit."
    columns = (
        "condition", "measure", "change a generation", "B* of the line", "slope rho", "difference left",
        "cells / transitions", "verdict",
    )  # fmt: skip
    caption = (
        "What the net stereotype rate B and its two factors do among generated corpora, and whether they come to rest."
    )
    about = tuple(_about(condition) for condition in conditions for _ in condition.settlings)
    return Table("Equilibrium", columns, rows, 2, note, caption, about)


def trend_and_line(condition: Condition, settling: Settling) -> tuple[str, str, str]:
    """Return the change a generation, B* of the line, marked where nothing rests there, and the line's slope rho."""
    found = settling.equilibrium
    level, slope = found.line.level, found.line.slope
    few = FEW_CELLS if 0 < found.line.cells < FEWEST_FOR_LINE else FEW_TRANSITIONS
    rests_there = found.verdict == "equilibrium" and level.bounded and not found.misfit < MISFIT
    shown = [
        with_interval(one, short=is_short(name, one, *circumstances(condition))) if one.defined else few
        for name, one in zip(LINE, (level, slope), strict=True)
    ]
    trend = signed(found.trend, few=FEW_CELLS) if found.trend.defined else FEW_TRANSITIONS
    return trend, shown[0] + NO_REST * (level.defined and not rests_there), shown[1]


def circumstances(condition: Condition) -> tuple[str, ...]:
    """Return what is known to make the intervals of a condition's line too short, in the words of its data file."""
    return ("labels err",) if condition.errors is not None and condition.errors.kept < LEAST_KEPT else ()


def corrected_table(conditions: Sequence[Condition]) -> Table | None:
    """Return B and its factors with the labels' errors taken out, beside what was counted; None where none is known."""
    rows: list[tuple[str, ...]] = []
    for condition in conditions:
        for settling in condition.settlings:
            if condition.errors and (one := settling.corrected):
                trends = [signed(trend, few=FEW_CELLS) for trend in (settling.equilibrium.trend, one.trend)]
                level = with_interval(one.level) if one.level.defined else FEW_TRANSITIONS
                about = (settling.label, *_ends(one), *trends, level)
                rows.append((condition.label, *about, _errors_in_words(condition.errors)))
        if condition.errors and condition.male_share:
            about = (catalogue().title(MALE_SHARE), *_ends(condition.male_share), "–", "–", "–")
            rows.append((condition.label, *about, _errors_in_words(condition.errors)))
    columns = (
        "condition", "measure", "last generation", "corrected", "change a generation", "corrected", "B* corrected",
        "labels, by hand",
    )  # fmt: skip
    note = (
        "Corrected for sentences whose gender the labels miss, swap or make up, as often as they do on sentences of "
        "this family labelled by hand; intervals carry what so few sentences say about it. The seed corpus, whose "
        "labels are exact, and rho are as they were."
    )
    if any(condition.errors and condition.errors.by_gender for condition in conditions):
        note += (
            " Males and females apart: the shares by inverting the matrix of labels, B as if sentences about "
            "occupations of men and of women named a gender as often."
        )
    return Table("Corrected for label errors", columns, tuple(rows), 2, note) if rows else None


def _ends(one: Corrected) -> tuple[str, str]:
    """Return the last generation as counted, and corrected."""
    over = "" if one.counted.units else "cells"
    return with_interval(one.counted, over=over), with_interval(one.last, over=over)


def _errors_in_words(errors: LabelErrors) -> str:
    found = f"{errors.right} of {errors.gendered} right, {errors.flipped} swapped"
    if errors.by_gender and errors.rows:
        found = "; ".join(
            f"{gender} {row[place]} of {sum(row)} right, {row[1 - place]} swapped"
            for place, (gender, row) in enumerate(zip(("male", "female"), errors.rows, strict=False))
        )
    return f"{found}; {errors.false} of {errors.others} made up"


def seed_break_table(conditions: Sequence[Condition]) -> Table | None:
    """Return the step from the seed corpus to generation 1 of each initial level, apart from all later ones."""
    rows = tuple(
        (
            condition.label,
            settling.label,
            f"{one.level:g}",
            signed(one.change, over="cells"),
            with_interval(kept, few=FEW_CELLS),
            str(one.change.n),
        )
        for condition in conditions
        for settling in condition.settlings
        for kept in [settling.equilibrium.kept_first]
        for one in settling.equilibrium.breaks
        if one.change.defined
    )
    columns = ("condition", "measure", "level", "generation 1 minus seed", "difference left, all levels", "cells")
    note = (
        "The seed corpus is of templates, generation 1 a model's text: this step is of another kind than all later "
        "ones. Difference left: the share of the levels' difference that generation 1 keeps. 95% intervals over cells."
    )
    caption = "The step from the seed corpus to the first generated corpus, by initial bias."
    about = tuple(
        _about(condition, one.level)
        for condition in conditions
        for settling in condition.settlings
        for one in settling.equilibrium.breaks
        if one.change.defined
    )
    return Table("The step from the seed corpus", columns, rows, 3, note, caption, about) if rows else None


def change_table(conditions: Sequence[Condition]) -> Table | None:
    """Return the relative changes from the seed and from generation 1, per initial level."""
    rows, about = [], []
    for condition in conditions:
        for settling in condition.settlings:
            later = {change.level: change for change in settling.from_first}
            for change in settling.from_seed:
                first = later.get(change.level)
                about.append(_about(condition, change.level))
                rows.append(
                    (
                        condition.label,
                        settling.label,
                        f"{change.level:g}",
                        str(change.until),
                        percent_change(change.change),
                        percent_change(first.change) if first else "–",
                        str(change.change.n),
                    )
                )
    if not rows:
        return None
    columns = ("condition", "measure", "level", "last gen", "since the seed", "since gen 1", "cells")
    over = {change.over for one in conditions for settling in one.settlings for change in settling.from_seed}
    spans = [name for key, name in (("cells", "seeds"), ("sentences", "a single cell's sentences")) if key in over]
    note = f"95% intervals over {' or '.join(spans)}. " if spans else ""
    if any(UNDEFINED in row for row in rows):
        note += f"{UNDEFINED}: the start cannot be told from zero. "
    caption = "Relative change of bias and its factors until the last generation, by initial bias."
    return Table("Relative change", columns, tuple(rows), 2, f"{note}{PAPER_CHANGES}", caption, tuple(about))


def decomposition_table(conditions: Sequence[Condition]) -> Table | None:
    """Return what moved B since the seed and since generation 1: the gendered share or the net rate among gendered."""
    rows = tuple(
        (
            condition.label,
            "all" if one.level is None else f"{one.level:g}",
            f"{one.since} to {one.until}",
            *(with_interval(part, over="cells") for part in (one.change, one.by_share, one.by_net_rate)),
            str(one.change.n),
        )
        for condition in conditions
        for one in condition.decompositions
    )
    columns = ("condition", "level", "generations", "change of B", "by gendered share", "by net rate among", "cells")
    note = "The parts add up to the change of B. Means over cells, 95% intervals over cells (from three)."
    caption = (
        "What changed the net stereotype rate B: the share of gendered sentences, or the net rate among them. The two "
        "parts add up to the change."
    )
    about = tuple(_about(condition, one.level) for condition in conditions for one in condition.decompositions)
    title = "Does bias settle, or do gendered words disappear?"
    return Table(title, columns, rows, 3, note, caption, about) if rows else None


def _about(condition: Condition, level: float | None = None) -> dict[str, str]:
    """Return what a row is about, by the names of the page's filters."""
    about = {"study": "recursion", "model": condition.model, "choice": condition.mitigation}
    return about | ({} if level is None else {"level": f"{level:g}"})


def reduction_table(comparison: Comparison, *, in_full: bool = False) -> Table | None:
    """Return each strategy's reduction of every measure, over all levels and at the lowest one alone.

    At the last generation, as written and where the mitigation changes the corpus after it; `in_full` also over all
    generations from 1 on.
    """
    names, lowest = comparison.names(), comparison.lowest
    whole = [one for one in comparison.reductions if one.level is None]
    if not in_full:
        whole = [one for one in whole if one.last and (one.by_construction or not one.after)]
    at_lowest = {_variant(one): one for one in comparison.reductions if one.level == lowest}
    rows = []
    for one in whole:
        low = at_lowest[_variant(one)]
        measured = "after, by construction" if one.by_construction else "after" if one.after else "as written"
        variant = (measured, *(("last" if one.last else "from 1 on",) if in_full else ()))
        numbers = (percent_reduction(one), p_value_text(one.adjusted), f"{one.pairs} of {one.possible}")
        more = (p_value_text(low.adjusted),) if in_full else ()
        at = (percent_reduction(low), *more, f"{low.pairs} of {low.possible}")
        rows.append((names[id(one.condition)], catalogue().title(one.metric), *variant, *numbers, *at))
    if not rows:
        return None
    variant = ("measured", *(("generations",) if in_full else ()))
    more = ("p",) if in_full else ()
    columns = ("mitigation", "measure", *variant, "all levels", "p", "pairs", f"level {lowest:g}", *more, "pairs")
    marked = any(UNLEARNED in text for row in rows for text in row)
    shown = [low for one in whole for low in (one, at_lowest[_variant(one)])]
    note = " ".join(filter(None, [_reduction_note(in_full), _undefined(shown, names), _MARKED if marked else ""]))
    caption = (
        f"Reduction of bias against no mitigation, over pairs of the same initial bias and seed: {comparison.model}."
    )
    title = f"Reduction against no mitigation: {comparison.model}"
    about = tuple(_about(one.condition) for one in whole)
    return Table(title, columns, tuple(rows), len(variant) + 2, note, caption, about)


def correlation_table(comparison: Comparison, *, in_full: bool = False) -> Table | None:
    """Return the rank correlations of embedding effect size and downstream bias; `in_full` also per strategy."""
    names = comparison.names()
    rows = tuple(
        (
            one.of,
            names[id(one.condition)] if one.condition else "all",
            with_interval(one.estimate, over="starts"),
            str(one.estimate.n),
            str(one.clusters),
        )
        for one in comparison.correlations
        if one.estimate.n and (in_full or one.condition is None)
    )
    columns = ("points", "mitigation", "Spearman's rho", "n", "starts")
    note = (
        "Points: cells and generations from 1 on; 95% intervals over starts (level and seed), from "
        f"{FEWEST_CLUSTERS} starts on. Paper: the strategy with the lowest downstream bias has the higher embedding "
        "score."
    )
    title = f"Embedding effect size and downstream bias: {comparison.model}"
    caption = f"Rank correlation of the embedding effect size with downstream bias: {comparison.model}."
    return Table(title, columns, rows, 2, note, caption) if rows else None


def _metric_rows(
    groups: Iterable[tuple[float, str, list[Cell]]], metrics: Sequence[str], brief: Collection[str]
) -> Iterator[tuple[str, ...]]:
    for level, seed, cells in groups:
        generations = sorted({generation for cell in cells for generation in cell.generations})
        for generation in generations:
            for prefix, mark in (("", ""), (MITIGATED, " after")):
                measures = [level_mean(cells, prefix + metric, generation) for metric in metrics]
                if prefix and all(math.isnan(measure.value) for measure in measures):
                    continue
                texts = (
                    _shown(prefix + metric, measure, len(cells), metric not in brief)
                    + UNLEARNED * any(learned_nothing(prefix + metric, cell, generation) for cell in cells)
                    for measure, metric in zip(measures, metrics, strict=True)
                )
                yield (f"{level:g}", seed, f"{generation}{mark}", *texts)


def _variant(one: Reduction) -> tuple[int, str, bool, bool]:
    return id(one.condition), one.metric, one.after, one.last


def _reduction_note(in_full: bool) -> str:
    span = "" if in_full else " At the last generation."
    return (
        "1 - |with| / |without| over pairs of the same level and seed; 95% intervals (Fieller, t over pairs)."
        f"{span} By construction: measured on a corpus that the mitigation has just balanced; what it does to what is "
        f"written next stands beside it. p: exact sign-flip test, from {FEWEST_FOR_FLIPS} pairs on (fewer cannot reach "
        "0.05), Holm over strategies and downstream tasks together, and over strategies and other measures. "
        "Paper: contrastive augmentation (contrastive and contrastive_augment are two readings of it) reduces "
        "downstream bias by 91% on average, by 98.8% at 0.1."
    )


def _undefined(shown: Iterable[Reduction], names: dict[int, str]) -> str:
    """Return a sentence for each reason why some of these reductions are undefined."""
    where: dict[str, list[str]] = {}
    for one in shown:
        if math.isnan(one.reduction.value):
            rows = where.setdefault(one.lack, [])
            row = f"{names[id(one.condition)]}, {catalogue().title(one.metric)}"
            rows += [] if row in rows else [row]
    return " ".join(f"– is {note} ({'; '.join(rows)})." for note, rows in where.items())


def _shown(metric: str, measure: Estimate, cells: int, in_full: bool) -> str:
    if not in_full:
        return number(measure.value, 2)
    return measured(metric, measure) if cells == 1 else with_interval(measure, over="cells")


def _interval_note(single: bool, cells: Sequence[Cell], metrics: Collection[str]) -> str:
    """Return what the intervals are over, how many independent groups there are, and why some are missing."""
    if not single:
        return "means over cells, 95% intervals over cells (from three)"
    note = "95% intervals over sentences (by groups that share a prompt's examples)"
    grouped = [
        (metric, one.n, one.units)
        for cell in cells
        for (metric, _), one in cell.measures.items()
        if metric in metrics and one.defined and one.units is not None and one.units < one.n
    ]
    counts = sorted({(n, units) for metric, n, units in grouped if metric == NET_RATE})
    if counts:
        note += "; " + ", ".join(f"n = {n} in {counted(units, 'group')}" for n, units in counts)
    if any(units < FEWEST_UNITS for _, _, units in grouped):
        note += f"; too few groups: an interval needs {FEWEST_UNITS} independent ones or more"
        (size, *others) = {cell.chosen("study", "prompt_group") for cell in cells}
        if isinstance(size, int) and not others:
            note += f", {(FEWEST_UNITS - 1) * size + 1} sentences or more"
    return note
