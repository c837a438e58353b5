"""Where a sweep is: which of its cells have begun and ended, in a file that all its processes append to.

A cell may run in another process, or on another machine that shares the run store; the command that launched it hears
of it only when all are done. So each process writes what it begins and ends, and reads there how far the others are.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop.sweep.estimate import duration
from fairloop.sweep.jobs import Job, Outcome
from fairloop.sweep.table import headline_in_words, varied_choices
from fairloop.tracking.store import Cell

COURSE_FILE = "course.jsonl"
"""In the sweep's folder; removed when the sweep has ended."""


@dataclass
class Course:
    """How far a sweep is.

    Attributes:
        path: the file; its first line says how many cells there are, each further one what a cell began or ended.
        cells: how many cells the sweep works on.
        keys: the keys of the overrides that are not the same for all of them.
        began: when each cell began, in seconds since 1970, by the name of its folder, in that order.
        took: the seconds that each cell took that has ended.
    """

    path: Path
    cells: int
    keys: tuple[str, ...]
    began: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many cells have not ended."""
        return max(0, self.cells - len(self.took))

    def number(self, cell: Cell) -> int:
        """Return the place of a cell in the order in which they began, from 1 on."""
        return min(self.cells, [*self.began, cell.key].index(cell.key) + 1)

    def seconds_left(self, now: float) -> float:
        """Return about how long the cells that are left will take, as many at once as are at work now.

        The cells that have ended tell how long one takes; what those at work have done already does not count again.
        """
        if not self.took or not self.left:
            return 0.0
        mean = sum(self.took.values()) / len(self.took)
        at_work = [now - began for key, began in self.began.items() if key not in self.took]
        work = mean * self.left - sum(min(seconds, mean) for seconds in at_work)
        # The one that has just ended makes room for the next.
        return work / min(self.left, len(at_work) + 1)


def begin(folder: Path, jobs: Sequence[Job]) -> None:
    """Write the head of a sweep's course into its folder; a course that cannot be written is not shown."""
    first = {"cells": len(jobs), "keys": varied_choices(jobs)}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COURSE_FILE).write_text(json.dumps(first) + "\n", encoding="utf-8")


def read(folder: Path) -> Course | None:
    """Return the course of the sweep of this folder; None where there is none."""
    try:
        head, *lines = (folder / COURSE_FILE).read_text(encoding="utf-8").splitlines()
        first = json.loads(head)
        course = Course(folder / COURSE_FILE, int(first["cells"]), tuple(map(str, first["keys"])))
        for line in lines:
            record = json.loads(line)
            if "took" in record:
                course.took[record["cell"]] = float(record["took"])
            else:
                course.began.setdefault(record["cell"], float(record["began"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return course


def entered(folder: Path, cell: Cell, overrides: Sequence[str]) -> str:
    """Note that a cell begins, and return where the sweep is: `cell 5 of 12 (initial_bias=low seed=1)`."""
    _append(folder, {"cell": cell.key, "began": time.time()})
    course = read(folder)
    return _named(course, cell, overrides) if course else ""


def ended(folder: Path, cell: Cell, overrides: Sequence[str], outcome: Outcome) -> str:
    """Note that a cell has ended, and return the line that says so, with its headline and the time left for all."""
    course, now = read(folder), time.time()
    if course is None:
        return ""
    took = now - course.began.get(cell.key, now)
    _append(folder, {"cell": cell.key, "took": round(took, 3)})
    course.took[cell.key] = took
    how = {"done": "done in", "pruned": "pruned after"}.get(outcome.state, "failed after")
    said = f"{_named(course, cell, overrides)} {how} {duration(took)}"
    result = headline_in_words(cell.folder) if outcome.state == "done" else ""
    if result:
        said += f": {result}"
    return f"{said}; about {duration(course.seconds_left(now))} for {course.left} more" if course.left else said


def remove(folder: Path) -> None:
    """Remove the course of a sweep that has ended."""
    with suppress(OSError):
        (folder / COURSE_FILE).unlink(missing_ok=True)


def _named(course: Course, cell: Cell, overrides: Sequence[str]) -> str:
    chosen = " ".join(line for line in overrides if line.partition("=")[0].lstrip("+~") in course.keys)
    return f"cell {course.number(cell)} of {course.cells}" + (f" ({chosen})" if chosen else "")


def _append(folder: Path, record: dict[str, Any]) -> None:
    """Append a line in one piece, so that those of several processes do not mix."""
    with suppress(OSError):
        handle = os.open(folder / COURSE_FILE, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, (json.dumps(record) + "\n").encode())
        finally:
            os.close(handle)
