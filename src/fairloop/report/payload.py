"""What the page's script is given: every cell as compact JSON, safe inside a script element."""

import base64
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fairloop.catalogue import catalogue
from fairloop.report.read import Cell, flatten
from fairloop.report.samples import visible

TEMPLATES = Path(__file__).parent / "templates"

MOST_MEASURES = 400_000
"""Above so many measures the page keeps each cell's headline measures alone; the CSV file has all."""

# What a browser would read as the end of the script, as a comment or as the end of a line.
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}

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


def cell_data(cells: Sequence[Cell], different: Sequence[Settings]) -> tuple[Markup, bool]:
    """Return the cells as JSON for a script element, and whether only their headline measures are in it."""
    trimmed = sum(len(cell.measures) for cell in cells) > MOST_MEASURES
    present = [metric for cell in cells for metric in cell.metrics]
    headlines = catalogue().chosen(present, lambda row: row.headline or row.compares_methods)
    kept = set(headlines) if trimmed else None
    metrics, keys, values = _Numbered(), _Numbered(), _Numbered()
    packed = [
        [
            *map(visible, (cell.name, cell.study, cell.subject, cell.choice)),
            _rounded(cell.level),
            visible(cell.seed),
            [number for key, value in settings for number in (keys.of(key), values.of(value))],
            list(_rows(cell, kept, metrics)),
        ]
        for cell, settings in zip(cells, different, strict=True)
    ]
    data = {
        "headline": [(metric, catalogue().label(metric)) for metric in headlines],
        "metrics": metrics.texts,
        "keys": keys.texts,
        "values": values.texts,
        "cells": packed,
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_UNSAFE)), trimmed


def script(*names: str) -> tuple[Markup, str]:
    """Return packaged scripts as one, and the hash by which a page's policy allows it and no other."""
    text = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return Markup(text), f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class _Numbered:
    """Texts by the number of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> list[str]:
        return [visible(text) for text in self._numbers]


def _rows(cell: Cell, kept: Collection[str] | None, metrics: _Numbered) -> Iterator[Any]:
    """Yield generation, number of the metric, value and interval of each measure; of all unless some are `kept`."""
    for (metric, generation), one in cell.measures.items():
        if kept is None or metric in kept:
            yield from (generation, metrics.of(metric), *map(_rounded, (one.value, one.low, one.high)))


def _rounded(value: float) -> float | int | None:
    """Return a number with five digits; None for an undefined or infinite one."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short == int(short) else short
