"""The recursion's numbers as tidy CSV: one thing per line, numbers in full."""

from collections.abc import Iterable

from fairloop.report.export import CELL, csv_field, csv_text, estimate_fields, identity_fields
from fairloop.report.read import MITIGATED
from fairloop.report.recursion.conditions import FACTORS, Condition, Settling
from fairloop.report.recursion.strategies import Comparison

_CONDITION = ["model", "mitigation", "settings"]


def trajectories_csv(conditions: Iterable[Condition]) -> str:
    """Return B and its factors by generation: one line per cell and generation, as written and mitigated."""
    metrics = [prefix + metric for prefix in ("", MITIGATED) for metric in FACTORS]
    header = [*CELL, *(f"{metric}{end}" for metric in metrics for end in ("", ":low", ":high"))]
    lines = (
        [
            *identity_fields(cell),
            str(generation),
            *(text for metric in metrics for text in estimate_fields(cell.get(metric, generation))),
        ]
        for condition in conditions
        for cell in condition.cells
        for generation in cell.generations
    )
    return csv_text(header, lines)


def equilibrium_csv(conditions: Iterable[Condition]) -> str:
    """Return the equilibrium estimates, one line per condition and measure."""
    parts = ("level", "slope", "intercept")
    header = [*_CONDITION, "metric", *(f"{part}{end}" for part in parts for end in ("", ":low", ":high"))]
    header += ["verdict", "cells", "transitions", "resampled"]
    return csv_text(header, (_equilibrium_line(one, settling) for one in conditions for settling in one.settlings))


def changes_csv(conditions: Iterable[Condition]) -> str:
    """Return the relative changes, one line per condition, measure, level and starting generation."""
    header = [*_CONDITION, "metric", "level", "since", "until", "change", "low", "high", "cells", "interval_over"]
    lines = (
        [
            *_names(condition),
            settling.metric,
            f"{one.level:g}",
            str(one.since),
            str(one.until),
            *estimate_fields(one.change),
            str(one.change.n),
            one.over,
        ]
        for condition in conditions
        for settling in condition.settlings
        for one in (*settling.from_seed, *settling.from_first)
    )
    return csv_text(header, lines)


def decomposition_csv(conditions: Iterable[Condition]) -> str:
    """Return what moved B, one line per condition, level (`all` for all of them) and starting generation."""
    parts = ("change", "by_share", "by_net_rate")
    header = [*_CONDITION, "level", "since", "until"]
    header += [f"{part}{end}" for part in parts for end in ("", ":low", ":high")] + ["cells"]
    lines = (
        [
            *_names(condition),
            _level(one.level),
            str(one.since),
            str(one.until),
            *(text for estimate in (one.change, one.by_share, one.by_net_rate) for text in estimate_fields(estimate)),
            str(one.change.n),
        ]
        for condition in conditions
        for one in condition.decompositions
    )
    return csv_text(header, lines)


def reductions_csv(comparisons: Iterable[Comparison]) -> str:
    """Return the reductions, one line per strategy, measure, variant, span of generations and level."""
    header = [*_CONDITION, "metric", "measured", "generations", "level", "treated", "control"]
    header += ["reduction", "low", "high", "bootstrap_low", "bootstrap_high", "p", "p_holm"]
    header += ["pairs", "possible_pairs", "pairs_learned_nothing", "note"]
    lines = (
        [
            *_names(one.condition),
            one.metric,
            "after the mitigation" if one.after else "as written",
            "last" if one.last else "from 1 on",
            _level(one.level),
            *map(csv_field, (one.treated, one.control)),
            *estimate_fields(one.reduction),
            *map(csv_field, (one.bootstrap.low, one.bootstrap.high, one.p_value, one.adjusted)),
            *map(str, (one.pairs, one.possible, one.unlearned)),
            one.note,
        ]
        for comparison in comparisons
        for one in comparison.reductions
    )
    return csv_text(header, lines)


def correlations_csv(comparisons: Iterable[Comparison]) -> str:
    """Return the rank correlations of embedding effect size and downstream bias, one line per set of points."""
    header = ["model", "points", "mitigation", "settings", "spearman", "low", "high", "n", "clusters"]
    lines = (
        [
            comparison.model,
            one.of,
            *(_names(one.condition)[1:] if one.condition else ("all", "")),
            *estimate_fields(one.estimate),
            str(one.estimate.n),
            str(one.clusters),
        ]
        for comparison in comparisons
        for one in comparison.correlations
    )
    return csv_text(header, lines)


def _names(condition: Condition) -> list[str]:
    return [condition.model, condition.mitigation, " ".join(condition.settings)]


def _equilibrium_line(condition: Condition, settling: Settling) -> list[str]:
    found = settling.equilibrium
    numbers = [text for one in (found.level, found.slope, found.intercept) for text in estimate_fields(one)]
    counts = [found.verdict, str(found.cells), str(found.transitions), found.resampled]
    return [*_names(condition), settling.metric, *numbers, *counts]


def _level(level: float | None) -> str:
    return "all" if level is None else f"{level:g}"
