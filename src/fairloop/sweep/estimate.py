"""How long the missing cells will compute, from the measured stages of finished cells that are like them."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairloop.config import Configuration, check
from fairloop.errors import UserError
from fairloop.files import read_yaml
from fairloop.sweep.jobs import Job
from fairloop.tracking.stages import STAGE_FILE
from fairloop.tracking.store import CONFIG_FILE, STATUS_FILE, read_status

# What changes a cell's result, but hardly the time it takes.
FREE = ("seed", "initial_bias.level", "initial_bias.neutral_share")

MOST_MEASURED = 10
"""So many finished cells of one kind are read; more would not change the mean much."""

MOST_ELSEWHERE = 50
"""So many finished cells of the store that are not this command's are looked at, the latest first."""


@dataclass(frozen=True)
class Estimate:
    """The computing time of the missing cells.

    Attributes:
        seconds: of all cells for which something comparable was measured, one after the other.
        cells: how many these are.
        unknown: cells for which nothing comparable was measured.
        differing: settings in which cells and those they were compared with differ; empty if only in seeds and levels.
    """

    seconds: float
    cells: int
    unknown: int
    differing: tuple[str, ...]

    def line(self, at_once: int | None = 1) -> str:
        """Say it in one line.

        Args:
            at_once: cells that are worked on at the same time; None if the scheduler decides.
        """
        if not self.cells:
            return "no estimate of the time: no comparable cell is finished in this store"
        parts = [f"about {duration(self.seconds)} of computing left"]
        workers = min(at_once or 1, self.cells)
        if workers > 1:
            parts.append(f"{duration(self.seconds / workers)} with {workers} cells at once")
        measured = "by finished cells that differ in " + (", ".join(self.differing) or "seed or level alone")
        unknown = f"; nothing comparable was measured for {self.unknown} more" if self.unknown else ""
        return f"{', '.join(parts)} ({measured}{unknown})"


def estimate(missing: Sequence[Job], complete: Sequence[Job]) -> Estimate:
    """Estimate the computing time of the missing cells of a command.

    A finished cell is comparable if it differs in nothing but seed and level, or else in settings that this command
    varies; the nearest ones are taken. Stages that a missing cell has finished already do not count, and a stage that
    several cells share counts for each with its part.

    Args:
        missing: the cells to be computed.
        complete: the finished cells of the same command; the store's others are looked up.
    """
    wanted = [_settings(job.configuration) for job in missing]
    others = _elsewhere(missing, complete)
    known = [(job.cell.folder, _settings(job.configuration)) for job in complete]
    varied = set(FREE) | _varied([*wanted, *(settings for _, settings in known)])
    kinds: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
    for folder, settings in [*known, *others]:
        kinds[_kind(settings)].append(folder)
    seconds, cells, differing = 0.0, 0, set[str]()
    nearest: dict[tuple[Any, ...], tuple[dict[str, float], set[str]] | None] = {}
    for job, settings in zip(missing, wanted, strict=True):
        kind = _kind(settings)
        if kind not in nearest:
            nearest[kind] = _nearest(kind, kinds, varied)
        found = nearest[kind]
        if found is None:
            continue
        stages, difference = found
        seconds += sum(time for name, time in stages.items() if not (job.cell.folder / "stages" / name).exists())
        cells += 1
        differing |= difference
    return Estimate(seconds, cells, len(missing) - cells, tuple(sorted(differing)))


def stage_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds that each kept stage of a cell took; of a stage that n cells share, the n-th part.

    Cells share a stage by hard links to its files, one more being the store's own.
    """
    seconds = {}
    for path in sorted((folder / "stages").glob(f"*/{STAGE_FILE}")):
        try:
            links = path.stat().st_nlink
            taken = float(json.loads(path.read_bytes())["seconds"]) / max(1, links - 1)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue  # damaged: it will be named when the cell is asked for it
        if math.isfinite(taken):
            seconds[path.parent.name] = taken
    return seconds


def duration(seconds: float) -> str:
    """Return a time in words: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _settings(configuration: Configuration) -> dict[str, Any]:
    """Return what decides a cell's result, by dotted key."""
    return dict(_flat({"study.name": configuration.study.name, **configuration.deciding()}))


def _flat(node: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, int | float | str | None) else str(value)


def _varied(cells: Sequence[dict[str, Any]]) -> set[str]:
    """Return the settings that are not the same in all cells."""
    if not cells:
        return set()
    first = cells[0]
    return {key for cell in cells for key in cell.keys() | first.keys() if cell.get(key) != first.get(key)}


def _kind(settings: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((key, value) for key, value in settings.items() if key not in FREE))


def _nearest(
    kind: tuple[Any, ...], kinds: dict[tuple[Any, ...], list[Path]], varied: set[str]
) -> tuple[dict[str, float], set[str]] | None:
    """Return the mean seconds by stage of the nearest comparable kind of cell, and the settings it differs in."""
    best: tuple[set[str], list[Path]] | None = None
    if kind in kinds:
        best = (set(), kinds[kind])
    else:
        for other, folders in kinds.items():
            difference = {key for key, _ in set(kind) ^ set(other)}
            if difference <= varied and (best is None or len(difference) < len(best[0])):
                best = (difference, folders)
    if best is None:
        return None
    measured = [stage_seconds(folder) for folder in best[1][:MOST_MEASURED]]
    names = {name for stages in measured for name in stages}
    mean = {name: sum(stages.get(name, 0.0) for stages in measured) / len(measured) for name in names}
    return mean, best[0]


def _elsewhere(missing: Sequence[Job], complete: Sequence[Job]) -> list[tuple[Path, dict[str, Any]]]:
    """Return folders and settings of the latest finished cells of the store that are not this command's."""
    own = {job.cell.folder for job in [*missing, *complete]}
    parents = {job.cell.folder.parent for job in missing}
    folders = [path.parent for parent in parents for path in parent.glob(f"*/{STATUS_FILE}") if path.is_file()]
    latest = sorted(set(folders) - own, key=lambda folder: folder.stat().st_mtime, reverse=True)
    found: list[tuple[Path, dict[str, Any]]] = []
    for folder in latest[: 2 * MOST_ELSEWHERE]:
        if len(found) == MOST_ELSEWHERE:
            break
        try:
            if read_status(folder).state == "complete":
                found.append((folder, _settings(check(read_yaml((folder / CONFIG_FILE).read_text("utf-8"))))))
        except (OSError, ValueError, UserError, AttributeError, TypeError):
            continue  # of an earlier version, or damaged: nothing to compare with
    return found
