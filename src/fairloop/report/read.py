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

import numpy as np

from fairloop.catalogue import catalogue
from fairloop.errors import UserError
from fairloop.files import canonical_json, read_yaml
from fairloop.mitigation.compose import name_of
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import student_mean
from fairloop.tracking.results import measurements_of
from fairloop.tracking.store import Status, broken, cell_key, read_status, sound_record

_GROUP = re.compile(r"^(?=[^\s#-])", re.MULTILINE)

DECIDING_FILE = "deciding.json"
MITIGATED = "mitigated/"
"""What the names of measures after the mitigation's change begin with."""


@dataclass(frozen=True)
class Cell:
    """One finished cell.

    Attributes:
        folder: where it lies.
        study: its study's name.
        config: its resolved configuration.
        measures: every measure by its name and generation, which is None for a measure of the whole cell, in the order
            in which they were written; what is undefined is nan.
        result: its `result.json`.
        recorded: what decides its result, as the cell itself wrote it down; empty for a cell that is older than that.
        numerics: what its stages were computed with (`numerics.summary`); empty for a cell that is older than that.
    """

    folder: Path
    study: str
    config: dict[str, Any]
    measures: dict[tuple[str, int | None], Estimate]
    result: dict[str, float] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict, repr=False)
    numerics: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell's name in the run store."""
        return self.folder.name

    @cached_property
    def rebuilt(self) -> dict[str, Any]:
        """What decides the result, as far as the configuration tells."""
        from fairloop.config import deciding_of

        return deciding_of(self.config)

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the result, by config groups; a group that is not here was never used."""
        return self.recorded or self.rebuilt

    @cached_property
    def used(self) -> dict[str, Any]:
        """The configuration without the groups that other studies read, or that this cell had no use for."""
        from fairloop.config.study import studies

        groups = {group for study in studies().values() for group in study.reads} - self.deciding.keys()
        return {key: value for key, value in self.config.items() if key not in groups}

    @cached_property
    def level(self) -> float:
        """The initial bias; nan for a study without one."""
        return _number(self.chosen("initial_bias", "level"))

    @property
    def model(self) -> str:
        """The generator's name; empty where none was asked."""
        return str(self.chosen("model", "name") or "unnamed model") if "model" in self.deciding else ""

    @property
    def plm(self) -> str:
        """The name of the PLM that is measured or debiased; empty where there is none."""
        return str(self.chosen("plm", "name") or "unnamed PLM") if "plm" in self.deciding else ""

    @cached_property
    def mitigation(self) -> str:
        """The strategies as they are named everywhere (`none`, `augment+prompt`); empty for a study without any."""
        if "mitigation" not in self.deciding:
            return ""
        strategies = self.config.get("mitigation") or {}
        return name_of(map(str, strategies)) if isinstance(strategies, dict | list) else str(strategies)

    @property
    def subject(self) -> str:
        """The model that the cell is about: the PLM that is measured or debiased, else the generator."""
        return self.plm or self.model

    @property
    def choice(self) -> str:
        """What the cell tries: the mitigation, the debias method or the benchmark; empty for none of them."""
        return self.mitigation or str(self.chosen("debias", "name") or self.chosen("benchmark", "name") or "")

    @cached_property
    def seed(self) -> str:
        """The seed, as text."""
        return str(self.config.get("seed", ""))

    @cached_property
    def metrics(self) -> list[str]:
        """The names of the measures that have a value at some time, each once."""
        return list(dict.fromkeys(metric for (metric, _), one in self.measures.items() if one.defined))

    @cached_property
    def generations(self) -> list[int]:
        """The generations that have measures, ascending."""
        return sorted({generation for _, generation in self.measures if generation is not None})

    @cached_property
    def has_mitigated(self) -> bool:
        """Whether the cell was measured again after its mitigation's change of the corpus."""
        return any(metric.startswith(MITIGATED) for metric, _ in self.measures)

    def get(self, metric: str, generation: int | None) -> Estimate:
        """Return a measure; one that the cell does not have is undefined."""
        return self.measures.get((metric, generation)) or Estimate.undefined()

    def course(self, metric: str) -> list[Estimate]:
        """Return a metric at generation 0, 1, …, undefined where it is missing."""
        last = self.generations[-1] if self.generations else -1
        return [self.get(metric, generation) for generation in range(last + 1)]

    def values(self, metric: str) -> tuple[float, ...]:
        """Return a metric's values for generation 0, 1, …, nan where it is missing."""
        return tuple(one.value for one in self.course(metric))

    def chosen(self, group: str, key: str) -> Any:
        """Return what was configured in a group that decides the result; None where the cell never used it."""
        inner = self.config.get(group) if group in self.deciding else None
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


def level_mean(cells: Sequence[Cell], metric: str, generation: int | None) -> Estimate:
    """Return a metric's mean over the cells of one level, with its 95% interval.

    One cell: its own interval, over its sentences. Three and more: Student's t over cells. Two: no interval, for two
    values say too little about their spread.
    """
    measures = [cell.get(metric, generation) for cell in cells]
    present = [measure for measure in measures if math.isfinite(measure.value)]
    return present[0] if len(present) == 1 else bounded_mean([measure.value for measure in present], metric)


def bounded_mean(values: Sequence[float], metric: str) -> Estimate:
    """Return the mean of a metric's values with Student's interval, which ends where the metric does."""
    bounds = catalogue().of(metric).possible
    return student_mean(values).mapped(lambda end: float(np.clip(end, *bounds)))


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration as {"group.key": "value"}."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = "" if value is None else str(value)
    return flat


Chosen = tuple[Cell, dict[str, str]]
"""A cell, and what decides its result as {"group.key": "value"}."""


def decided(cells: Sequence[Cell]) -> list[Chosen]:
    """Return each cell with what decides its result, in terms that all of them share.

    That is what the cells recorded. If one of them is older than the record, it is what their configurations say.
    Weights and files count by their contents, where those are recorded, and stand under the key of their path: as the
    path, and with the beginning of their digest where one path had several contents.
    """
    recorded = all(cell.recorded for cell in cells)
    found = [dict(cell.recorded if recorded else cell.rebuilt) for cell in cells]
    contents = [{**one.pop("weights", {}), **one.pop("files", {})} for one in found]
    flat = [{key: value for key, value in flatten(one).items() if value != "{}"} for one in found]
    for key in dict.fromkeys(key for one in contents for key in one):
        paths: dict[str, str] = {}
        for cell, one in zip(cells, contents, strict=True):
            if key in one:
                paths.setdefault(str(one[key]), flatten(cell.config).get(key, ""))
        for one, settings in zip(contents, flat, strict=True):
            if key in one:
                path, digest = paths[str(one[key])], str(one[key])
                settings[key] = path if list(paths.values()).count(path) == 1 else f"{path} ({digest[:8]})"
    return list(zip(cells, flat, strict=True))


class _NotUsableError(Exception):
    pass


def read_cell(folder: Path) -> Cell:
    """Read one cell's folder; a cell that is not finished or is damaged raises with the reason."""
    record = sound_record(_json(folder / "status.json"), needs_seal=False)
    if not record:
        raise _NotUsableError("damaged: status.json is not what the study wrote")
    status = Status.of(record)
    if status.state == "running":
        status = read_status(folder)  # its process may be gone
    if status.state != "complete":
        raise _NotUsableError(_one_line(status.in_words))
    for name in broken(folder, record, by_content=True):
        _bytes(folder / name)
        raise _NotUsableError(f"damaged: {name} is not what the study wrote (its checksum differs)")
    config = _config(folder / "config.yaml")
    result = {name: _number(value) for name, value in _json(folder / "result.json").items()}
    recorded = _json(folder / DECIDING_FILE) if (folder / DECIDING_FILE).exists() else {}
    measures = _measures(folder / "metrics.csv")
    cell = Cell(folder, _study(config, folder), config, measures, result, recorded, status.numerics)
    if edited := _edited(cell, record):
        raise _NotUsableError(f"config.yaml was changed after the cell was finished: {edited}")
    return cell


def _edited(cell: Cell, record: dict[str, Any]) -> str:
    """Return why a configuration cannot be the one that the cell was computed with; empty if nothing speaks against it.

    The cell's name is the hash of what decides its result, and that is a part of its configuration. Of a cell from
    before it was recorded the configuration is only held against the name if its file is newer than the result.
    """
    if cell.recorded:
        try:
            said, done = (
                flatten(json.loads(canonical_json(one))) for one in (_as_recorded(cell.config), cell.recorded)
            )
        except (TypeError, ValueError) as problem:
            return str(problem)
        contents = {**cell.recorded.get("weights", {}), **cell.recorded.get("files", {})}  # not named by their paths
        differing = [key for key in done if key in said and said[key] != done[key] and key not in contents]
        return "; ".join(f"{key} is {said[key]}, the result is of {done[key]}" for key in differing[:3])
    if not _is_newer(cell.folder, record):
        return ""
    found = dict(cell.rebuilt)
    newest = int(found.pop("version", 1))
    names = {cell_key(cell.study, found, version) for version in range(1, newest + 1)}
    return "" if cell.name in names else f"it does not give the name {cell.name}"


def _as_recorded(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with `study.benchmarks` as in `deciding.json`: their names, and beside them settings."""
    study = config.get("study")
    if not isinstance(study, dict) or not isinstance(listed := study.get("benchmarks"), list):
        return config
    own = [one for one in listed if isinstance(one, dict)]
    names = [one.get("name") if isinstance(one, dict) else one for one in listed]
    settings = {str(one.get("name")): {key: one[key] for key in one if key != "name"} for one in own}
    return config | {"study": study | {"benchmarks": names}, "benchmarks": settings}


def _is_newer(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the configuration was written after the status; unknown, so False, of a store that was copied."""
    try:
        changed = {name: (folder / name).stat().st_mtime_ns for name in ("config.yaml", "metrics.csv", "status.json")}
        sealed = record["seal"]["metrics.csv"][2]
    except (OSError, KeyError, TypeError, IndexError):
        return False
    return changed["metrics.csv"] == sealed and changed["config.yaml"] > changed["status.json"]


def _cell_folders(root: Path) -> list[Path]:
    studies = [folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    return [folder for study in studies for folder in study.iterdir() if folder.is_dir() and folder.name[0] not in "._"]


def _study(config: dict[str, Any], folder: Path) -> str:
    return str(_name(config.get("study")) or folder.parent.name)


def _name(group: Any) -> Any:
    return group.get("name") if isinstance(group, dict) else None


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
            data = read_yaml(text)
    except ValueError:
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
        data = read_yaml(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _measures(path: Path) -> dict[tuple[str, int | None], Estimate]:
    try:
        found = measurements_of(_text(path))
    except ValueError as problem:
        raise _NotUsableError(f"damaged: {path.name} {problem}") from None
    return {(sys.intern(one.metric), generation): one.estimate for generation, rows in found.items() for one in rows}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _order(cell: Cell) -> tuple[object, ...]:
    generator = _name(cell.config.get("model")) or cell.model
    unmitigated_first = (cell.mitigation != "none", cell.mitigation)
    return (cell.study, generator, unmitigated_first, cell.level, _natural(cell.seed), cell.name)


def _natural(seed: str) -> tuple[int, str]:
    return (int(seed), seed) if seed.isdecimal() else (-1, seed)


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())[:300]
