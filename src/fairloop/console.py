"""What a command prints while it works: one line per event, and live progress with the time left."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

OnProgress = Callable[[int, int], None]

# Where the output is no terminal (a log file, a pipe), a line is printed this often instead of a moving bar.
SECONDS_BETWEEN_LINES = 20.0

# Tables need this many columns; a log file or a narrow terminal gets them all, and wraps if it must.
WIDTH = 120

# From this width on the progress line has a bar; its words and numbers come first.
ROOM_FOR_A_BAR = 100

stdout = Console(soft_wrap=True, highlight=False)
if stdout.width < WIDTH:
    stdout.width = WIDTH
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line of plain text (never read as markup)."""
    stdout.print(text, markup=False)


def show_warnings() -> None:
    """Let the warnings of Fairloop's own modules appear as one line each on the error stream."""
    log = logging.getLogger("fairloop")
    if not log.handlers:
        log.addHandler(_Lines())
        log.setLevel(logging.INFO)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else say)(record.getMessage())


def warn(text: str) -> None:
    """Print one line of plain text to the error stream."""
    stderr.print(text, markup=False)


@contextmanager
def progress(description: str) -> Iterator[OnProgress]:
    """Show progress under `description`; the yielded function takes (done, total) as often as it likes."""
    show = _bar if stdout.is_terminal else _lines
    with show(description) as on_progress:
        yield on_progress


@contextmanager
def _bar(description: str) -> Iterator[OnProgress]:
    # A line that is wider than the terminal wraps, cannot be drawn over, and scrolls by at each step: so this one has
    # the terminal's real width, and a description that does not fit is cut off.
    terminal = Console(highlight=False)
    words = TextColumn(
        "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
    )
    wide: list[ProgressColumn] = [BarColumn()] if terminal.width >= ROOM_FOR_A_BAR else []
    numbers = [MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(words, *wide, *numbers, console=terminal, expand=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _lines(description: str) -> Iterator[OnProgress]:
    started = last = time.monotonic()
    latest = (0, 0)
    # The time left is by the speed since the first call: what that one counts may have been kept from an earlier start.
    # So it is again for each part of work that comes in parts, each with its own total.
    part_began, done_before = started, 0

    def on_progress(done: int, total: int) -> None:
        nonlocal last, latest, part_began, done_before
        now = time.monotonic()
        if latest[1] != total or done < latest[0]:
            part_began, done_before = now, done
        latest = (done, total)
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            line = f"{description}: {done}/{total}"
            if done > done_before:
                left = (now - part_began) / (done - done_before) * (total - done)
                line += f", about {left:.0f} s left"
            say(line)

    yield on_progress
    say(f"{description}: {latest[0]}/{latest[1]} in {time.monotonic() - started:.0f} s")
    sys.stdout.flush()
