"""`metrics.csv` and `result.json`: the measures of a cell, always in the same bytes."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

from fairloop.measures.measurement import Measurement
from fairloop.statistics.estimate import Estimate

COLUMNS = ("generation", "metric", "value", "low", "high", "n", "units")


Results = Mapping[int | None, Sequence[Measurement]]
"""The measures of each generation; those of the cell as a whole under None."""


def metrics_csv(results: Results) -> str:
    """Return the long form: one line per generation and metric, generations ascending, the whole cell's last.

    Numbers are written so that reading gives the same float (`repr`); an undefined or infinite one is an empty field,
    as is the generation of a measure of the whole cell.

    Raises:
        ValueError: a metric is given twice for one generation.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for generation, measured in _ordered(results):
        numbers = map(number, (measured.value, measured.low, measured.high, measured.n, measured.units))
        writer.writerow(
            [
                "" if generation is None else generation,
                measured.metric,
                *("" if item is None else repr(item) for item in numbers),
            ]
        )
    return stream.getvalue()


def measurements_of(text: str) -> dict[int | None, list[Measurement]]:
    """Return the measures of a `metrics.csv` by generation, in its order; those of the whole cell under None.

    A file that is older than its last column, `units`, is read as one that leaves it empty.

    Raises:
        ValueError: this is no such table; the message says where it is not.
    """
    lines = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    found: dict[int | None, list[Measurement]] = {}
    try:
        columns = tuple(next(lines, ()))
        if columns not in (COLUMNS, COLUMNS[:-1]):
            raise ValueError(f"does not begin with {','.join(COLUMNS)}")
        for line in lines:
            if len(line) != len(columns):
                raise ValueError(f"line {lines.line_num} has {len(line)} fields")
            generation, measured = _measured([*line, ""][: len(COLUMNS)], lines.line_num)
            found.setdefault(generation, []).append(measured)
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num} is no line of a table ({error})") from None
    return found


def _measured(line: Sequence[str], place: int) -> tuple[int | None, Measurement]:
    generation, metric, *numbers = line
    try:
        value, low, high, n, units = (float(item) if item else math.nan for item in numbers)
        count, over = 0 if math.isnan(n) else int(n), None if math.isnan(units) else int(units)
        estimate = Estimate(value, low, high, count, over)
        return int(generation) if generation else None, Measurement.of(metric, estimate)
    except ValueError:
        raise ValueError(f"line {place} holds something other than numbers") from None


def result_json(results: Results) -> str:
    """Return the flat form, `{"metric@generation": value}`; a measure of the whole cell has no `@`.

    An undefined value (None, NaN, an infinity) is left out, so that every value is a number; its line in `metrics.csv`
    stays.

    Raises:
        ValueError: a metric is given twice for one generation.
    """
    flat = {
        measured.metric if generation is None else f"{measured.metric}@{generation}": number(measured.value)
        for generation, measured in _ordered(results)
    }
    defined = {name: value for name, value in flat.items() if value is not None}
    return json.dumps(defined, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def number(value: float | None) -> float | int | None:
    """Return a plain Python number; None for one that is undefined or infinite."""
    if value is None:
        return None
    if isinstance(value, int):
        return int(value)
    plain = float(value)
    return plain if math.isfinite(plain) else None


def _ordered(results: Results) -> list[tuple[int | None, Measurement]]:
    generations = sorted(results, key=lambda generation: (generation is None, generation or 0))
    rows = [(generation, measured) for generation in generations for measured in results[generation]]
    seen: set[tuple[int | None, str]] = set()
    for generation, measured in rows:
        if (generation, measured.metric) in seen:
            raise ValueError(f"{measured.metric} is given twice for generation {generation}")
        seen.add((generation, measured.metric))
    return rows
