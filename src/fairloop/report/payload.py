"""What the page's script is given: every cell as compact JSON, safe inside a script element."""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fairloop.report.fair_gender.effects import SCORES
from fairloop.report.read import Cell, Measure, flatten
from fairloop.report.samples import visible

TEMPLATES = Path(__file__).parent / "templates"

MOST_MEASURES = 400_000
"""Above so many measures the page keeps each cell's headline measures alone; the CSV file has all."""

HEADLINE = {
    "rule/net_stereotype_rate": "net rate B",
    "rule/gendered_share": "gendered share",
    "embedding/effect_size": "WEAT d",
    "downstream/bias": "downstream bias",
    **{score.metric: score.title for score in SCORES},
    "crows_pairs/overall/score": "CrowS-Pairs",
    "stereoset/overall/ss": "StereoSet SS",
    "stereoset/overall/lms": "StereoSet LMS",
    "stereoset/overall/icat": "StereoSet ICAT",
}
"""The columns of the table of cells, where cells have them: the last generation's value."""

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
    trimmed = sum(len(cell.rows) for cell in cells) > MOST_MEASURES
    metrics, keys, values = _Numbered(), _Numbered(), _Numbered()
    packed = [
        [
            *map(visible, (cell.name, cell.study, cell.subject, cell.choice)),
            _rounded(cell.level),
            visible(cell.seed),
            [number for key, value in settings for number in (keys.of(key), values.of(value))],
            [item for row in _kept(cell, trimmed) for item in _row(row, metrics)],
        ]
        for cell, settings in zip(cells, different, strict=True)
    ]
    data = {
        "headline": list(HEADLINE.items()),
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


def _kept(cell: Cell, trimmed: bool) -> Sequence[Measure]:
    return [row for row in cell.rows if row.metric in HEADLINE] if trimmed else cell.rows


def _row(row: Measure, metrics: _Numbered) -> list[Any]:
    return [row.generation, metrics.of(row.metric), *map(_rounded, (row.value, row.low, row.high))]


def _rounded(value: float) -> float | int | None:
    """Return a number with five digits; None for an undefined or infinite one."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short == int(short) else short
