"""Loss curves: what a training reports step by step, kept with the stage that trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from fairloop.files import lines_of, write_text, writing

CURVES_FILE = "curves.jsonl"

OnPoint = Callable[[str, int, dict[str, float]], None]
"""Takes a curve (`train/<training>` or `validation/<training>`), the steps done, and the values by name."""


class Curves:
    """The curves of one stage while it is computed, in a file of the folder that outlives a kill.

    A training that goes on from its last checkpoint reports some steps again: what was reported first stays.
    """

    def __init__(self, folder: Path, on_point: OnPoint) -> None:
        """Go on with the curves in `folder`; `on_point` is called with theirs, then with each new point."""
        self.path, self.on_point = folder / CURVES_FILE, on_point
        self.last: dict[str, int] = {}
        points = list(read_curves(self.path))
        if points:  # written again: a kill may have left half a line
            write_text(self.path, "".join(map(_line, points)))
        for curve, step, values in points:
            self.last[curve] = step
            on_point(curve, step, values)

    def __call__(self, curve: str, step: int, values: dict[str, float]) -> None:
        """Take a point."""
        if step <= self.last.get(curve, -1):
            return
        self.last[curve] = step
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line((curve, step, values)))
        self.on_point(curve, step, values)

    def keep(self, folder: Path) -> None:
        """Write the curves, if there are any, into the folder of the stage's outputs."""
        if self.path.exists():
            write_text(folder / CURVES_FILE, self.path.read_text(encoding="utf-8"))


def read_curves(path: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield the points in the order in which they were reported; none if there is no such file."""
    for line in lines_of(path.read_text(encoding="utf-8")) if path.exists() else ():
        try:
            curve, step, values = json.loads(line)
        except ValueError:
            return
        yield curve, step, values


def _line(point: tuple[str, int, dict[str, float]]) -> str:
    return json.dumps(point) + "\n"
