"""What a command prints while it works: one line per event, and live progress with the time left."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column

from fairloop.errors import FairloopError, UserError, spelled_out

OnProgress = Callable[[int, int], None]

# Where the output is no terminal (a log file, a pipe), a line is printed this often instead of a moving bar.
SECONDS_BETWEEN_LINES = 20.0

# Tables need this many columns; a log file or a narrow terminal gets them all, and wraps if it must.
WIDTH = 120

# From this width on the progress line has a bar; its words and numbers come first.
ROOM_FOR_A_BAR = 100


class Console(rich.console.Console):
    """A console whose texts cannot steer the terminal: control and format characters in them are spelled out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)  # a path or a sentence with `:cat:` in it is shown as it is

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the pieces of a text, a table, …; those by which rich itself moves the cursor stay as they are."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(spelled_out(piece.text), piece.style)


stdout = Console(soft_wrap=True, highlight=False)
if stdout.width < WIDTH:
    stdout.width = WIDTH
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def entry(name: str, interrupted: str = "interrupted") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a function of the words of a command line the command `name`, which returns the exit status.

    A mistake is one line and status 2, a fault 1, Ctrl-C 130. A standard stream that is closed, that its reader left
    (`| head`) or that cannot be written (a full disk) is lost without the work being lost.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def run(arguments: Sequence[str] | None = None, *more: Any) -> int:
            if arguments is None:  # a process of its own; in another one the streams are its own business
                _guard_streams(name)
                arguments = sys.argv[1:]
            try:
                status = command(list(arguments), *more)
                sys.stdout.flush()
                return status or int(getattr(sys.stdout, "lost", False))
            except SystemExit as stop:  # argparse has said what is wrong
                return stop.code if isinstance(stop.code, int) else 0
            except FairloopError as error:
                warn(f"{name}: {error}")
                return error.exit_status
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                warn(f"{name}: {FairloopError(f'{where}{error.strerror or error}')}")
                return 1
            except MemoryError:
                warn(f"{name}: there is not enough memory for this")
                return 1
            except KeyboardInterrupt:
                warn(f"{name}: {interrupted}")
                return 130

        return run

    return decorate


class Parser(argparse.ArgumentParser):
    """The flags of a command: a mistake in them is one line, as every other mistake is."""

    def error(self, message: str) -> NoReturn:
        """Raise the UserError that says what is wrong with the command line."""
        said = message.removeprefix("argument ").replace("unrecognized arguments:", "unknown flag")
        raise UserError(f"{said}; `{self.prog} --help` lists the flags")


class _Guarded:
    """A standard stream that may go: what can no longer be written is dropped, and one line says so."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name, self.lost = stream, name, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError) and self._stream.fileno() == 1:
                self.lost = True
                warn(f"{self._name}: the output cannot be written ({error.strerror}); the work goes on")


def _guard_streams(name: str) -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its number, and what is meant for it
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _Guarded(sys.stdout or open(1, "w"), name)  # noqa: SIM115 - for the life of the process
    sys.stderr = _Guarded(sys.stderr or open(2, "w"), name)  # noqa: SIM115


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
