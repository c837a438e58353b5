"""What the page's script draws: which panels each interactive figure has, and the numbers that it cannot work out.

Courses over generations are drawn from the cells that the page holds, so that a filter changes their means. What rests
on more than the cells' own numbers (reductions, paired changes) comes from here, and a filter leaves some of it out.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fairloop.catalogue import catalogue
from fairloop.report.calibration.tables import STUDY, Calibration, calibrations
from fairloop.report.fair_gender.effects import UNTOUCHED, Debiasing, Effect
from fairloop.report.read import Cell
from fairloop.report.recursion.conditions import Condition
from fairloop.report.recursion.strategies import DOWNSTREAM, EMBEDDING, Comparison
from fairloop.statistics.estimate import Estimate

MOST_ROWS = 400
"""A figure of more rows is left out of the page: nobody could read it, and the tables and CSV files have all."""

MOST_PANELS = 60
"""Conditions beyond these have no panel in the page; a filter narrows what is shown further."""


@dataclass(frozen=True)
class Row:
    """A value of a figure, with its interval: its label, its series, and what it is about by the filters' names.

    `at` is its place on the x axis of `lines`.
    """

    label: str
    series: str
    value: float
    low: float
    high: float
    n: int
    about: Mapping[str, str]
    at: float = math.nan


@dataclass(frozen=True)
class Chart:
    """An interactive figure.

    Attributes:
        id: of the element that it is drawn in.
        section: the section of the page that it stands in.
        kind: `courses`, `cloud`, `forest` or `lines`: which function of the script draws it.
        title, caption: in words.
        panels: of `courses` and `cloud`: the cells of each condition; of `forest` and `lines`: rows.
        unit: `%` or nothing.
        axes: the measures of a `cloud`, x and y; what the x axis of `lines` is.
        from_zero: whether the axis of a `forest` holds zero, for what is a change.
    """

    id: str
    section: str
    kind: str
    title: str
    caption: str
    panels: tuple[dict[str, Any], ...]
    unit: str = ""
    axes: tuple[str, ...] = field(default=())
    from_zero: bool = True

    def data(self, shown: Callable[[str], str]) -> dict[str, Any]:
        """Return it as plain data, every text as `shown`, undefined numbers as None."""
        return {key: _plain(value, shown) for key, value in asdict(self).items()}


def charts(
    cells: Sequence[Cell],
    conditions: Sequence[Condition],
    comparisons: Sequence[Comparison],
    debiased: Sequence[Debiasing],
) -> list[Chart]:
    """Return the interactive figures of a report, in the order of the page; none that would be empty."""
    places = {cell.folder: place for place, cell in enumerate(cells)}
    labels = _labels(conditions)
    panels = tuple(
        {"label": labels[id(one)], "cells": [places[cell.folder] for cell in one.cells]}
        for one in conditions[:MOST_PANELS]
    )
    found = [
        Chart(
            "chart-courses", "trajectories", "courses", "By generation",
            "Means over the cells of a level that the filters leave. Bands: 95% intervals, of a single cell its "
            "own, of three and more cells Student's t over cells; of two cells there is none. Thin lines: cells.",
            panels,
        ),
        Chart(
            "chart-decomposition", "trajectories", "forest", "What changed B since the seed",
            "The change of the net stereotype rate B until the last generation, and its two parts, which add up to it. "
            "Means over cells; 95% intervals over cells from three on.",
            tuple(_decomposed(conditions)),
        ),
        *(
            Chart(
                f"chart-reductions-{place}", "mitigations", "forest", f"Reduction of bias: {one.model}",
                "Reduction against no mitigation at the last generation, over pairs of the same initial bias and seed; "
                "95% intervals (Fieller) where there are two pairs or more. After the mitigation: measured on the "
                "corpus that it has changed.",
                tuple(_reduced(one)), unit="%",
            )
            for place, one in enumerate(comparisons)
        ),
        Chart(
            "chart-cloud", "embedding", "cloud", "Embedding effect size and downstream bias",
            "Every cell and generation from 1 on.", panels if _has_both(cells) else (), axes=(EMBEDDING, DOWNSTREAM),
        ),
        *(chart for place, one in enumerate(debiased) for chart in _debiased(one, place)),
        Chart(
            "chart-benchmarks", "benchmarks", "forest", "Benchmarks",
            "Scores of evaluated models; 95% intervals over items where a score has one.", tuple(_benchmarks(cells)),
            from_zero=False,
        ),
        *(_calibrated(one, place) for place, one in enumerate(calibrations(cells))),
    ]  # fmt: skip
    return [one for one in found if one.panels and _rows(one) <= MOST_ROWS]


def _labels(conditions: Sequence[Condition]) -> dict[int, str]:
    """Return each condition in words, by its id, without the model where all have the same."""
    if len({one.model for one in conditions}) > 1:
        return {id(one): one.label for one in conditions}
    return {id(one): ", ".join([one.mitigation, *one.settings]) for one in conditions}


def changes_chart(panels: Iterable[tuple[str, Iterable[tuple[str, Estimate]]]]) -> Chart | None:
    """Return the figure of a comparison of two sides: B - A of each measure, a panel for each, as scales differ."""
    filled = _filled(_panel(title, (_row(label, "B − A", one, {}) for label, one in rows)) for title, rows in panels)[
        :MOST_PANELS
    ]
    title, caption = "Change from A to B", "B − A of the headline measures, each on a scale of its own; 95% intervals."
    return Chart("chart-changes", "headline", "forest", title, caption, tuple(filled)) if filled else None


def _rows(chart: Chart) -> int:
    return sum(len(panel.get("rows", ())) for panel in chart.panels)


def _has_both(cells: Iterable[Cell]) -> bool:
    return any(DOWNSTREAM in cell.metrics and EMBEDDING in cell.metrics for cell in cells)


def _panel(title: str, rows: Iterable[Row]) -> dict[str, Any]:
    return {"title": title, "rows": [asdict(row) for row in rows if math.isfinite(row.value)]}


def _row(label: str, series: str, one: Estimate, about: Mapping[str, str], factor: float = 1.0) -> Row:
    return Row(label, series, factor * one.value, factor * one.low, factor * one.high, one.n, about)


def _filled(panels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [panel for panel in panels if panel["rows"]]


def _decomposed(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    labels = _labels(conditions)
    parts = (("change of B", "change"), ("by gendered share", "by_share"), ("by net rate among", "by_net_rate"))
    found = []
    for title, part in parts:
        rows = []
        for condition in conditions:
            for one in condition.decompositions:
                if one.since or one.level is None:
                    continue
                about = {"study": "recursion", "model": condition.model, "choice": condition.mitigation}
                about["level"] = f"{one.level:g}"
                rows.append(_row(labels[id(condition)], f"initial bias {one.level:g}", getattr(one, part), about))
        found.append(_panel(title, rows))
    return _filled(found)


def _reduced(comparison: Comparison) -> list[dict[str, Any]]:
    names = comparison.names()
    shown = [one for one in comparison.reductions if one.last and one.level is None]
    found = []
    for metric in dict.fromkeys(one.metric for one in shown):
        rows = []
        for one in shown:
            if one.metric == metric and (one.by_construction or not one.after):
                about = {"study": "recursion", "model": comparison.model, "choice": one.condition.mitigation}
                series = "after the mitigation (by construction)" if one.after else "as written"
                rows.append(_row(names[id(one.condition)], series, one.reduction, about, 100.0))
        found.append(_panel(catalogue().title(metric), rows))
    return _filled(found)


def _debiased(found: Debiasing, place: int) -> list[Chart]:
    methods = [
        _panel(score.title, (_effect(found, one) for one in found.effects if _is_shown(one, score.pattern)))
        for score in found.scores
    ]
    charts = [
        Chart(
            f"chart-methods-{place}", "debiasing", "forest", f"Against the untouched PLM: {found.plm}",
            "Change of the distance from no bias, or of language skill, paired by seed; 95% intervals where the table "
            "has them. Left of zero is less.",
            tuple(_filled(methods)),
        )
    ]  # fmt: skip
    for number, ablation in enumerate(found.ablations):
        panels = [
            _panel(score.title, (_effect(found, one, f"{ablation.full.method}, ") for one in ablation.of(score)))
            for score in dict.fromkeys(one.score for one in ablation.effects)
        ]
        charts.append(
            Chart(
                f"chart-ablation-{place}-{number}", "debiasing", "forest",
                f"Ablation of {ablation.full.label}: {found.plm}",
                "Change when one component is removed or replaced, against the full method, paired by seed; 95% "
                "intervals where the table has them.",
                tuple(_filled(panels)),
            )
        )  # fmt: skip
    return charts


def _is_shown(one: Effect, score: str) -> bool:
    return one.score.pattern == score and one.variant.method != UNTOUCHED


def _effect(found: Debiasing, one: Effect, before: str = "") -> Row:
    """Return the row of an effect, its label without the words `before` it."""
    about = {"study": "fair_gender", "model": found.plm, "choice": one.variant.label}
    return _row(
        one.variant.label.removeprefix(before), "bias" if one.score.is_bias else "language skill", one.change, about
    )


def _calibrated(found: Calibration, place: int) -> Chart:
    """Return each headline metric against the known net rate, as written and augmented, for each size of corpora."""
    panels = []
    for metric in found.headline:
        rows = []
        for size in found.sizes:
            for rate in (0.0, *found.rates(size)):
                series = f"{size} sentences" + (f", {rate:.0%} swapped" if rate else "")
                for level in found.levels:
                    one, about = found.get(metric, size, "mean", rate, level), {"study": STUDY, "seed": found.seed}
                    rows.append(replace(_row(f"net rate {level:g}", series, one, about), at=level))
        panels.append(_panel(catalogue().title(metric), rows))
    return Chart(
        f"chart-calibration-{place}", "calibration", "lines", f"Metric calibration, seed {found.seed}",
        "Each metric against the known net stereotype rate of the corpora, as written and with gender-swapped variants "
        "added. Means over corpora; 95% intervals.",
        tuple(_filled(panels)), axes=("net stereotype rate as written",),
    )  # fmt: skip


def _benchmarks(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    rows: dict[str, list[Row]] = {}
    for cell in cells:
        if cell.study != "evaluate":
            continue
        about = {"study": "evaluate", "model": cell.subject, "choice": cell.choice, "seed": cell.seed}
        for metric in catalogue().summary(cell.metrics):
            rows.setdefault(metric, []).append(_row(cell.subject, f"seed {cell.seed}", cell.get(metric, None), about))
    return _filled(_panel(catalogue().title(metric), found) for metric, found in rows.items())


def _plain(value: Any, shown: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner, shown) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, shown) for inner in value]
    return value
