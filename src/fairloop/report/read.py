"""Read finished cells back from the run store, as plain data; what cannot be read is named with its reason."""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from fairloop.errors import UserError
from fairloop.statistics.means import student_mean
from fairloop.tracking.results import read_metrics_csv
from fairloop.tracking.store import Status, broken

_GROUP = re.compile(r"^(?=[^\s#-])", re.MULTILINE)

MITIGATED = "mitigated/"
"""What the names of measures after the mitigation's change begin with."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of `metrics.csv`; what is undefined is nan. `generation` is None for a measure of the whole cell."""

    generation: int | None
    metric: str
    value: float
    low: float
    high: float
    n: float

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Cell:
    """One finished cell: its resolved configuration and its measures."""

    folder: Path
    study: str
    config: dict[str, Any]
    rows: tuple[Measure, ...]
    result: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The cell's name in the run store."""
        return self.folder.name

    @cached_property
    def level(self) -> float:
        """The configured initial bias; nan for a study without one."""
        return _number(self._at("initial_bias", "level"))

    @property
    def model(self) -> str:
        """The generator's name."""
        return str(self._at("model", "name") or "unnamed model")

    @cached_property
    def mitigation(self) -> str:
        """The strategies in their order, joined by a plus sign; `none` for none."""
        strategies = self.config.get("mitigation") or {}
        if isinstance(strategies, dict):
            return " + ".join(map(str, strategies)) or "none"
        return " + ".join(map(str, strategies)) if isinstance(strategies, list) else str(strategies)

    @cached_property
    def seed(self) -> str:
        """The seed, as text."""
        return str(self.config.get("seed", ""))

    @cached_property
    def measures(self) -> dict[tuple[str, int | None], Measure]:
        """Every measure by metric and generation."""
        return {(row.metric, row.generation): row for row in self.rows}

    @cached_property
    def generations(self) -> list[int]:
        """The generations that have measures, ascending."""
        return sorted({row.generation for row in self.rows if row.generation is not None})

    @cached_property
    def has_mitigated(self) -> bool:
        """Whether the cell was measured again after its mitigation's change of the corpus."""
        return any(row.metric.startswith(MITIGATED) for row in self.rows)

    def get(self, metric: str, generation: int | None) -> Measure:
        """Return a measure; one that the cell does not have is nan throughout."""
        missing = Measure(generation, metric, math.nan, math.nan, math.nan, math.nan)
        return self.measures.get((metric, generation), missing)

    def course(self, metric: str) -> list[Measure]:
        """Return a metric at generation 0, 1, …, nan throughout where it is missing."""
        last = self.generations[-1] if self.generations else -1
        return [self.get(metric, generation) for generation in range(last + 1)]

    def values(self, metric: str) -> tuple[float, ...]:
        """Return a metric's values for generation 0, 1, …, nan where it is missing."""
        return tuple(one.value for one in self.course(metric))

    def _at(self, group: str, key: str) -> Any:
        inner = self.config.get(group)
        return inner.get(key) if isinstance(inner, dict) else None


@dataclass(frozen=True)
class Unusable:
    """A folder of the run store that holds no finished cell, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Runs:
    """What a run store holds: finished cells in order, and the folders that were left out."""

    folder: Path
    cells: tuple[Cell, ...]
    unusable: tuple[Unusable, ...]


def read_runs(runs_dir: Path | str, cells: Sequence[Path | str] | None = None) -> Runs:
    """Read the cells of a run store.

    Args:
        runs_dir: the store; each cell lies in `<runs_dir>/<study>/<cell>/`.
        cells: folders of the cells to read; None for every one in the store.

    Returns:
        Finished cells ordered by study, model, mitigation, initial level and seed; unfinished and damaged ones with
        the reason.

    Raises:
        UserError: the folder is missing, or holds no finished cell.
    """
    root = Path(runs_dir)
    if not root.is_dir():
        raise UserError.of("runs_dir", runs_dir, "no such folder; give the folder that fairloop wrote its runs to")
    return read_cells(root, sorted(_cell_folders(root)) if cells is None else [Path(folder) for folder in cells])


def read_cells(root: Path, folders: Sequence[Path]) -> Runs:
    """Read these cells of a run store, ordered as by `read_runs`.

    Raises:
        UserError: none of them is finished; the line gives the first one's reason.
    """
    read: list[Cell] = []
    unusable: list[Unusable] = []
    for folder in folders:
        try:
            read.append(read_cell(folder))
        except _NotUsableError as problem:
            unusable.append(Unusable(folder, str(problem)))
    if not read:
        first = f"; {unusable[0].folder.name}: {unusable[0].reason}" if unusable else ""
        raise UserError.of("runs_dir", root, f"no finished cell among {len(folders)} in this folder{first}")
    read.sort(key=_order)
    return Runs(root, tuple(read), tuple(unusable))


def find_cells(runs_dir: Path | str, names: Sequence[str]) -> list[Path]:
    """Return the folders of the cells with these names, or whose names begin so.

    Raises:
        UserError: no cell, or more than one, of the run store has a name.
    """
    folders = sorted(_cell_folders(Path(runs_dir))) if Path(runs_dir).is_dir() else []
    found = []
    for name in names:
        named = [folder for folder in folders if folder.name.startswith(name)] if name else []
        if len(named) != 1:
            known = ", ".join(folder.name for folder in (named or folders)[:3])
            allowed = "the name of one cell, or its beginning" + (f": {known}, …" if known else "")
            raise UserError.of("cell", name, allowed)
        found += named
    return found


def level_mean(cells: Sequence[Cell], metric: str, generation: int | None) -> Measure:
    """Return a metric's mean over the cells of one level, with its 95% interval.

    One cell: its own interval, over its sentences. Three and more: Student's t over cells. Two: no interval, for two
    values say too little about their spread.
    """
    measures = [cell.get(metric, generation) for cell in cells]
    present = [measure for measure in measures if math.isfinite(measure.value)]
    if len(present) == 1:
        return present[0]
    mean = student_mean([measure.value for measure in present])
    return Measure(generation, metric, mean.value, mean.low, mean.high, mean.n)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration as {"group.key": "value"}."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = "" if value is None else str(value)
    return flat


class _NotUsableError(Exception):
    pass


def read_cell(folder: Path) -> Cell:
    """Read one cell's folder; a cell that is not finished or is damaged raises with the reason."""
    record = _json(folder / "status.json")
    status = Status.of(record)
    if status.state != "complete":
        reason = "" if status.reason == status.state else _one_line(status.reason)
        raise _NotUsableError(f"{_one_line(status.state)}{': ' if reason else ''}{reason}")
    for name in broken(folder, record, by_content=True):
        _bytes(folder / name)
        raise _NotUsableError(f"damaged: {name} is not what the study wrote (its checksum differs)")
    config = _config(folder / "config.yaml")
    result = {name: _number(value) for name, value in _json(folder / "result.json").items()}
    return Cell(folder, _study(config, folder), config, _rows(folder / "metrics.csv"), result)


def _cell_folders(root: Path) -> list[Path]:
    studies = [folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    return [folder for study in studies for folder in study.iterdir() if folder.is_dir() and folder.name[0] not in "._"]


def _study(config: dict[str, Any], folder: Path) -> str:
    study = config.get("study")
    name = study.get("name") if isinstance(study, dict) else None
    return str(name or folder.parent.name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _NotUsableError(f"damaged: {path.name} is missing") from None
    except OSError as error:
        raise _NotUsableError(f"{path.name} cannot be read ({(error.strerror or 'unknown error').lower()})") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise _NotUsableError(f"damaged: {path.name} is not text") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_text(path))
    except (ValueError, RecursionError):
        raise _NotUsableError(f"damaged: {path.name} is not JSON") from None
    if not isinstance(data, dict):
        raise _NotUsableError(f"damaged: {path.name} holds no table of names")
    return data


def _config(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        data = _by_groups(text)
        if data is None:
            data = _yaml(text)
    except (yaml.YAMLError, RecursionError):
        raise _NotUsableError(f"damaged: {path.name} is not YAML") from None
    if not isinstance(data, dict):
        raise _NotUsableError(f"damaged: {path.name} holds no configuration")
    return data


def _by_groups(text: str) -> dict[str, Any] | None:
    """Return a configuration read group by group: the cells of a sweep share most of them, and each is read once.

    A group begins at a line that is not indented. None unless every one is a table by itself and no name comes twice:
    then reading them together gives the same.
    """
    merged: dict[str, Any] = {}
    count = 0
    for part in _GROUP.split(text):
        if part:
            group = _group(part)
            if group is None:
                return None
            merged.update(group)
            count += len(group)
    return merged if merged and count == len(merged) else None


@lru_cache(maxsize=4096)
def _group(text: str) -> dict[str, Any] | None:
    try:
        data = _yaml(text)
    except (yaml.YAMLError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _yaml(text: str) -> Any:
    # Both are safe loaders.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _rows(path: Path) -> tuple[Measure, ...]:
    try:
        return tuple(
            Measure(generation, sys.intern(metric), *numbers)
            for generation, metric, numbers in read_metrics_csv(_text(path))
        )
    except ValueError as problem:
        raise _NotUsableError(f"damaged: {path.name} {problem}") from None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _order(cell: Cell) -> tuple[object, ...]:
    unmitigated_first = (cell.mitigation != "none", cell.mitigation)
    return (cell.study, cell.model, unmitigated_first, cell.level, _natural(cell.seed), cell.name)


def _natural(seed: str) -> tuple[int, str]:
    return (int(seed), seed) if seed.isdecimal() else (-1, seed)


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())[:300]
