"""Two cells or two sweeps against each other: what differs in configuration, which measures moved, how certainly."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairloop.catalogue import catalogue
from fairloop.errors import UserError
from fairloop.measures.remarks import lack
from fairloop.report.fair_gender.effects import BEFORE
from fairloop.report.items import Side, item_difference
from fairloop.report.read import Cell, decided, find_cells, read_cells, read_runs
from fairloop.statistics.corrections import holm
from fairloop.statistics.differences import independent_difference, normal_p_value, welch_difference
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.large import flip_p_value
from fairloop.statistics.means import student_mean
from fairloop.statistics.paired import FEWEST_FOR_FLIPS

DEFAULT_STORE = "runs"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """One side of a comparison: a cell, or the finished cells of a folder."""

    name: str
    cells: tuple[Cell, ...]
    single: bool

    @property
    def title(self) -> str:
        """The side in words."""
        if not self.single:
            return f"{self.name}: {len(self.cells)} finished cells"
        cell = self.cells[0]
        return f"{cell.name} ({cell.study}, seed {cell.seed})"

    @property
    def store(self) -> Path:
        """The runs folder that the cells lie in."""
        return self.cells[0].folder.parent.parent


@dataclass(frozen=True)
class Change:
    """How one measure differs: B - A.

    Attributes:
        metric: its name.
        generation: the generation it is of; None for a measure of the whole cell.
        first: its mean in A, over what is compared.
        second: its mean in B.
        change: second - first with a 95% interval.
        p_value: two-sided, of no difference.
        adjusted: the same after Holm, over the headline measures or over the others.
        pairs: the number of pairs; 0 where the cells do not match.
        how: what the interval is from.
    """

    metric: str
    generation: int | None
    first: float
    second: float
    change: Estimate
    p_value: float
    adjusted: float
    pairs: int
    how: str

    @property
    def moved(self) -> bool:
        """Whether the change is told from none at the 5% level, after Holm."""
        return self.adjusted <= 0.05


@dataclass(frozen=True)
class Difference:
    """B against A.

    Attributes:
        first: A.
        second: B.
        settings: each setting that differs, with its values in A and in B.
        matched_on: the settings by which cells of two sweeps are paired.
        pairs: the pairs of cells (means of those that match the same choices); empty where none match.
        left_out: the cells of A and of B without a match.
        headline: the changes of the measures that sum up, at the last generation that both have.
        further: those of all other measures.
        earlier: for two cells the headline measures at every earlier generation, untested.
    """

    first: Selection
    second: Selection
    settings: tuple[tuple[str, str, str], ...]
    matched_on: tuple[str, ...]
    pairs: int
    left_out: tuple[int, int]
    headline: tuple[Change, ...]
    further: tuple[Change, ...]
    earlier: tuple[Change, ...]

    @property
    def single(self) -> bool:
        """Whether it is about two cells."""
        return len(self.first.cells) == len(self.second.cells) == 1


def select(argument: str, other: str = "") -> Selection:
    """Return the cell or the sweep that an argument names.

    A cell is named by its folder, or by its key or the beginning of it: in the folder that the argument leads to, in
    `runs`, or in the store of the other argument. A sweep is a runs folder, or a study's folder in it.

    Raises:
        UserError: there is no such folder or cell, or it holds no finished cell.
    """
    path = Path(argument)
    if (path / "status.json").is_file():
        return Selection(path.resolve().name, read_cells(path.resolve().parent.parent, [path.resolve()]).cells, True)
    if path.is_dir():
        inside = sorted(folder for folder in path.iterdir() if (folder / "status.json").is_file())
        runs = read_cells(path, inside) if inside else read_runs(path)
        return Selection(path.resolve().name, runs.cells, False)
    for store in (path.parent.parent, Path(DEFAULT_STORE), Path(other), Path(other).parent.parent):
        if path.name and store.is_dir() and _begins(store, path.name):
            (folder,) = find_cells(store, [path.name])
            return Selection(folder.name, read_cells(store, [folder]).cells, True)
    raise UserError.of("compare", argument, "a cell's folder, the beginning of its key, or a runs folder")


def _begins(store: Path, name: str) -> bool:
    return any((folder / "status.json").is_file() for folder in store.glob(f"*/{_literal(name)}*"))


def _literal(name: str) -> str:
    from glob import escape

    return escape(name)


def compare(first: Selection, second: Selection) -> Difference:
    """Return what differs between two selections.

    Two cells: per-item tables where both keep the same items, otherwise the two reported intervals, taken as
    independent. Sweeps: cells that agree in every choice that both sweeps make (seeds among them) are paired; where
    none agree, the means of all cells are compared.
    """
    flat = [settings | {"mitigation": cell.mitigation} for cell, settings in decided([*first.cells, *second.cells])]
    flats = [flat[: len(first.cells)], flat[len(first.cells) :]]
    values = [_values(flat) for flat in flats]
    keys = sorted(values[0].keys() | values[1].keys())
    ends = [(key, values[0].get(key, {""}), values[1].get(key, {""})) for key in keys]
    settings = tuple((key, _listed(one), _listed(other)) for key, one, other in ends if one != other)
    if len(first.cells) == len(second.cells) == 1:
        changes = _between_cells(first.cells[0], second.cells[0])
        return Difference(first, second, settings, (), 1, (0, 0), *_tested(changes), _earlier(first, second))
    shared = tuple(key for key, one, other in ends if one & other and len(one | other) > 1)
    groups = [_by_choice(side.cells, flat, shared) for side, flat in zip((first, second), flats, strict=True)]
    choices = [choice for choice in groups[0] if choice in groups[1]] if shared else []
    if not choices:
        changes = _between_means(first.cells, second.cells)
        return Difference(first, second, settings, shared, 0, (0, 0), *_tested(changes), ())
    left = tuple(sum(len(cells) for choice, cells in group.items() if choice not in choices) for group in groups)
    pairs = [(groups[0][choice], groups[1][choice]) for choice in choices]
    changes = _between_pairs(pairs)
    return Difference(first, second, settings, shared, len(pairs), (left[0], left[1]), *_tested(changes), ())


def _values(flat: Sequence[dict[str, str]]) -> dict[str, set[str]]:
    keys = {key for one in flat for key in one}
    return {key: {one.get(key, "") for one in flat} for key in keys}


def _listed(values: set[str]) -> str:
    shown = sorted(values, key=_natural)
    text = ", ".join(value or "unset" for value in shown[:8])
    return f"{text}, … ({len(shown)})" if len(shown) > 8 else text


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


Choice = tuple[str, ...]


def _by_choice(
    cells: Sequence[Cell], flat: Sequence[dict[str, str]], shared: Sequence[str]
) -> dict[Choice, list[Cell]]:
    groups: dict[Choice, list[Cell]] = defaultdict(list)
    for cell, settings in zip(cells, flat, strict=True):
        groups[tuple(settings.get(key, "") for key in shared)].append(cell)
    return groups


# --- two cells --------------------------------------------------------------------------------------------------------


def _between_cells(first: Cell, second: Cell) -> list[Change]:
    last = _last([first, second])
    return [
        _cells_change(first, second, metric, generation) for metric, generation in _measured([first], [second], last)
    ]


def _earlier(first: Selection, second: Selection) -> tuple[Change, ...]:
    one, other = first.cells[0], second.cells[0]
    last = _last([one, other])
    return tuple(
        _cells_change(one, other, metric, generation)
        for generation in range(last or 0)
        for metric, _ in _measured([one], [other], generation)
        if _is_headline(metric) and (metric, generation) in one.measures
    )


def _cells_change(first: Cell, second: Cell, metric: str, generation: int | None) -> Change:
    one, other = first.get(metric, generation), second.get(metric, generation)
    ends = (metric, generation, one.value, other.value)
    found = item_difference(Side(second), Side(first), metric) if generation is None else None
    if found is not None:
        return Change(*ends, *found, math.nan, 1, "items of both")
    change = other.value - one.value
    n = int(min(one.n, other.n)) if math.isfinite(one.n) and math.isfinite(other.n) else 0
    if not (one.bounded and other.bounded):
        how = lack(one) or lack(other) or "no interval"
        return Change(*ends, Estimate(change, math.nan, math.nan, n), math.nan, math.nan, 1, how)
    low, high = independent_difference(*((end.value, end.low, end.high) for end in (one, other)))
    estimate = Estimate(change, low, high, n)
    return Change(*ends, estimate, normal_p_value(estimate), math.nan, 1, "both intervals")


# --- two sweeps -------------------------------------------------------------------------------------------------------


def _between_pairs(pairs: Sequence[tuple[list[Cell], list[Cell]]]) -> list[Change]:
    last = _last([cell for one, other in pairs for cell in (*one, *other)])
    found = []
    first, second = ([cell for pair in pairs for cell in pair[place]] for place in (0, 1))
    for metric, generation in _measured(first, second, last):
        ends = np.array([[_mean(side, metric, generation) for side in pair] for pair in pairs])
        ends = ends[np.isfinite(ends).all(axis=1)]
        if not len(ends):
            continue
        differences = ends[:, 1] - ends[:, 0]
        change = student_mean(differences)
        how = lack(change, "pairs") or "pairs, Student's t"
        p_value = flip_p_value(differences) if len(ends) >= FEWEST_FOR_FLIPS else math.nan
        before, after = (float(mean) for mean in ends.mean(axis=0))
        found.append(Change(metric, generation, before, after, change, p_value, math.nan, len(ends), how))
    return found


def _between_means(first: Sequence[Cell], second: Sequence[Cell]) -> list[Change]:
    last = _last([*first, *second])
    found = []
    for metric, generation in _measured(first, second, last):
        sides = [np.array([cell.get(metric, generation).value for cell in side]) for side in (first, second)]
        change, p_value = welch_difference(*sides)
        if change.defined:
            one, other = (float(side[np.isfinite(side)].mean()) for side in sides)
            few = "too few cells" if min(np.isfinite(side).sum() for side in sides) < 2 else "no spread"
            how = few if math.isnan(change.low) else "cells, Welch's t"
            found.append(Change(metric, generation, one, other, change, p_value, math.nan, 0, how))
    return found


def _mean(cells: Iterable[Cell], metric: str, generation: int | None) -> float:
    values = [value for cell in cells if math.isfinite(value := cell.get(metric, generation).value)]
    return sum(values) / len(values) if values else math.nan


# --- which measures ---------------------------------------------------------------------------------------------------


def _last(cells: Iterable[Cell]) -> int | None:
    """Return the last generation that all cells have; None without generations."""
    return min((cell.generations[-1] for cell in cells if cell.generations), default=None)


def _measured(first: Iterable[Cell], second: Iterable[Cell], last: int | None) -> list[tuple[str, int | None]]:
    """Return the measures that both sides have: of the whole cell, and of one generation; no untouched PLM's."""
    sides = [{key for cell in cells for key in cell.measures} for cells in (first, second)]
    names = [key for cell in first for key in cell.measures]
    kept = [key for key in dict.fromkeys(names) if key in sides[0] & sides[1] and key[1] in (None, last)]
    return [key for key in kept if not key[0].startswith(BEFORE)]


def _is_headline(metric: str) -> bool:
    row = catalogue().of(metric)
    return row.headline or row.compares_methods


def _tested(changes: Sequence[Change]) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Return the headline measures and the others, each tested together; what is surest first.

    Counts of what was measured are no results: they stand with the others, untested.
    """
    is_result = catalogue().is_result
    changes = [one if is_result(one.metric) else replace(one, p_value=math.nan) for one in changes]
    sides = []
    for headline in (True, False):
        family = [one for one in changes if _is_headline(one.metric) == headline]
        adjusted = holm([one.p_value for one in family])
        tested = [replace(one, adjusted=float(p)) for one, p in zip(family, adjusted, strict=True)]
        sides.append(tuple(sorted(tested, key=lambda one: (math.isnan(one.p_value), one.p_value))))
    return sides[0], sides[1]
