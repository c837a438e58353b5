"""The recursion's numbers as tidy CSV: one thing per line, numbers in full."""

from collections.abc import Iterable

from fairloop.report.export import CELL, csv_field, csv_text, estimate_fields, identity_fields
from fairloop.report.read import MITIGATED
from fairloop.report.recursion.conditions import FACTORS, Condition, Settling
from fairloop.report.recursion.strategies import Comparison
from fairloop.statistics.equilibrium import SeedBreak
from fairloop.statistics.estimate import Estimate

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
    """Return verdicts and what they rest on, one line per condition and measure.

    `level`, `slope` and `intercept` are those of the line among generated corpora; `seed_break@b` is the step from the
    seed corpus to generation 1 of the cells that started at level b. `transitions` counts all, `fewest_transitions`
    those of the shortest cell. `corrected_…` have the labels' errors taken out, empty where these are not known:
    `labels_right` and `labels_swapped` of `labels_gendered` sentences, `labels_made_up` of `labels_others`.
    """
    conditions = list(conditions)
    levels = sorted({one.level for condition in conditions for each in condition.settlings for one in _breaks(each)})
    parts = ["trend", "level", "slope", "intercept", "kept_first", "kept_last"]
    parts += [f"seed_break@{level:g}" for level in levels]
    header = [*_CONDITION, "metric", "verdict", "reason"]
    header += [f"{part}{end}" for part in parts for end in ("", ":low", ":high")]
    header += ["misfit_p", "cells", "transitions", "fewest_transitions", "resampled"]
    header += [f"corrected_{part}{end}" for part in ("last", "trend", "level") for end in ("", ":low", ":high")]
    header += [f"labels_{part}" for part in ("gendered", "right", "swapped", "others", "made_up")]
    lines = (_equilibrium_line(one, settling, levels) for one in conditions for settling in one.settlings)
    return csv_text(header, lines)


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
    header += ["reduction", "low", "high", "p", "p_holm"]
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
            *map(csv_field, (one.p_value, one.adjusted)),
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


def _equilibrium_line(condition: Condition, settling: Settling, levels: Iterable[float]) -> list[str]:
    found, line = settling.equilibrium, settling.equilibrium.line
    breaks = {one.level: one.change for one in _breaks(settling)}
    estimates = [found.trend, line.level, line.slope, line.intercept, found.kept_first, found.kept_last]
    estimates += [breaks.get(level, Estimate.undefined()) for level in levels]
    numbers = [text for one in estimates for text in estimate_fields(one)]
    counts = [csv_field(found.misfit), str(len(settling.trajectories)), str(line.transitions), str(found.transitions)]
    corrected, errors = settling.corrected, condition.errors
    parts = [corrected.last, corrected.trend, corrected.level] if corrected else [Estimate.undefined()] * 3
    more = [text for one in parts for text in estimate_fields(one)]
    sums = (errors.gendered, errors.right, errors.flipped, errors.others, errors.false) if errors else [""] * 5
    more += map(str, sums)
    return [*_names(condition), settling.metric, found.verdict, found.reason, *numbers, *counts, line.resampled, *more]


def _breaks(settling: Settling) -> tuple[SeedBreak, ...]:
    return settling.equilibrium.breaks


def _level(level: float | None) -> str:
    return "all" if level is None else f"{level:g}"
