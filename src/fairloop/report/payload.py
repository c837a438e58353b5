"""What the page's script is given: every cell as compact JSON, safe inside a script element."""

import base64
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from scipy import stats

from fairloop.catalogue import catalogue
from fairloop.measures.remarks import MARK, remark, short_note
from fairloop.naming import ablation_name, level_name
from fairloop.report.charts import Chart
from fairloop.report.read import MITIGATED, Cell, flatten
from fairloop.report.samples import visible

TEMPLATES = Path(__file__).parent / "templates"

MOST_MEASURES = 400_000
"""Above so many measures the page keeps each cell's headline measures alone; the CSV file has all."""

# What a browser would read as the end of the script, as a comment or as the end of a line.
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

_QUANTILES = [float(f"{stats.t.ppf(0.975, degrees):.6g}") for degrees in range(1, 201)]
"""Of Student's t, two-sided 95%, by degrees of freedom from 1 on: the page works out means over cells itself."""

Settings = list[tuple[str, str]]


def configurations(cells: Sequence[Cell]) -> tuple[list[tuple[str, Settings]], list[Settings]]:
    """Return, for each study, the settings that its cells share, and for each cell those in which they differ."""
    flat = [flatten(cell.used) for cell in cells]
    common: list[tuple[str, Settings]] = []
    varying: dict[str, list[str]] = {}
    for study in dict.fromkeys(cell.study for cell in cells):
        members = [one for cell, one in zip(cells, flat, strict=True) if cell.study == study]
        values: dict[str, set[str | None]] = {key: set() for one in members for key in one}
        for key, seen in values.items():
            seen.update(one.get(key) for one in members)
        common.append((study, [(key, members[0][key]) for key, seen in values.items() if len(seen) == 1]))
        varying[study] = [key for key, seen in values.items() if len(seen) > 1]
    different = [
        [(key, one[key]) for key in varying[cell.study] if key in one] for cell, one in zip(cells, flat, strict=True)
    ]
    return common, different


def cell_data(
    cells: Sequence[Cell], different: Sequence[Settings], charts: Sequence[Chart] = (), choices: Mapping[Path, str] = {}
) -> tuple[Markup, bool]:
    """Return cells and charts as JSON for a script element, and whether cells have their headline measures only.

    `choices` say what a cell (by its folder) tries, where that is more than its method: the variant of an ablation.
    """
    trimmed = sum(len(cell.measures) for cell in cells) > MOST_MEASURES
    present = [metric for cell in cells for metric in cell.metrics]
    headlines = catalogue().chosen(present, lambda row: row.headline or row.compares_methods)
    kept = set(headlines) if trimmed else None
    metrics, keys, values, remarks = _Numbered(), _Numbered(), _Numbered(), _Numbered()
    remarks.of("")
    named: dict[str, str] = {}
    packed = [
        [
            *map(visible, (cell.name, cell.study, cell.subject, choices.get(cell.folder, cell.choice))),
            _rounded(cell.level),
            visible(cell.seed),
            visible(_ablation(cell, named)),
            [number for key, value in settings for number in (keys.of(key), values.of(value))],
            list(_rows(cell, kept, metrics, remarks)),
        ]
        for cell, settings in zip(cells, different, strict=True)
    ]
    data = {
        "headline": [(metric, catalogue().label(metric)) for metric in headlines],
        "metrics": metrics.texts,
        "titles": {visible(metric): visible(_title(metric)) for metric in metrics.raw},
        "counts": [visible(metric) for metric in metrics.raw if catalogue().of(metric).count],
        "t": _QUANTILES,
        "charts": [chart.data(visible) for chart in charts],
        "keys": keys.texts,
        "values": values.texts,
        "levels": _levels(cells),
        "remarks": remarks.texts,
        "note": short_note(metrics.raw) if MARK in remarks.raw else "",
        "cells": packed,
    }
    return as_json(data), trimmed


def as_json(data: Mapping[str, Any]) -> Markup:
    """Return plain data as JSON that is safe inside a script element."""
    return Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_UNSAFE))


def _levels(cells: Sequence[Cell]) -> dict[str, str]:
    """Return what the initial levels are called, by their numbers as the page has them: `low` for 0.1."""
    options = {cell.level: cell.deciding.get("initial_bias") for cell in cells if math.isfinite(cell.level)}
    names = {level: level_name(option) for level, option in options.items() if isinstance(option, dict)}
    return {f"{_rounded(level)}": visible(name) for level, name in names.items() if name != f"{level:g}"}


def _ablation(cell: Cell, named: dict[str, str]) -> str:
    """Return the option of the group `ablation` that a cell of Fair-Gender stands for; `named` keeps what was asked."""
    debias = cell.deciding.get("debias") if cell.study == "fair_gender" else None
    if not isinstance(debias, dict):
        return ""
    key = repr(debias)
    if key not in named:
        named[key] = ablation_name(debias)
    return named[key]


def _title(metric: str) -> str:
    """Return a measure in words, and when it was taken."""
    taken = " after the mitigation" if metric.startswith(MITIGATED) else ""
    return f"{catalogue().title(metric)}{taken}"


def script(*names: str) -> tuple[Markup, str]:
    """Return packaged scripts as one, and the hash by which a page's policy allows it and no other."""
    return _allowed("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))


def plotly() -> tuple[Markup, str]:
    """Return the library that draws a page's figures, as its package has it, and the hash that allows it."""
    from plotly.offline import get_plotlyjs  # its import takes a moment, and few commands write a page

    return _allowed(get_plotlyjs())


def _allowed(text: str) -> tuple[Markup, str]:
    return Markup(text), f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class _Numbered:
    """Texts by the number of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def raw(self) -> list[str]:
        return list(self._numbers)

    @property
    def texts(self) -> list[str]:
        return [visible(text) for text in self._numbers]


def _rows(cell: Cell, kept: Collection[str] | None, metrics: _Numbered, remarks: _Numbered) -> Iterator[Any]:
    """Yield generation, number of the metric, value, interval and number of the remark of each measure.

    Of all measures unless some are `kept`.
    """
    for (metric, generation), one in cell.measures.items():
        if kept is None or metric in kept:
            yield from (generation, metrics.of(metric), *map(_rounded, (one.value, one.low, one.high)))
            yield remarks.of(remark(metric, one))


def _rounded(value: float) -> float | int | None:
    """Return a number with five digits; None for an undefined or infinite one."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short == int(short) else short
