"""What a command prints while it works: one line per event, and live progress with the time left."""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any, NoReturn

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from fairloop.errors import FairloopError, UserError, spelled_out
from fairloop.version import __version__

OnProgress = Callable[[int, int], None]

# Where the output is no terminal (a log file, a pipe), a line is printed this often instead of a moving bar.
SECONDS_BETWEEN_LINES = 20.0

# Work that took less has no line of its own when it is done, unless it is told otherwise.
SECONDS_WORTH_A_LINE = 5.0

# Work that says nothing for long says that it goes on: after as long as between two lines, then less and less often.
LONGEST_SILENCE = 60.0
SECONDS_BETWEEN_LOOKS = 2.0

# A log file or a pipe is as wide as the tables need; COLUMNS sets another width. A terminal has its own.
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
if not stdout.is_terminal and "COLUMNS" not in os.environ:
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
                status = 0
                if list(arguments) == ["--version"]:
                    print(f"fairloop {__version__}")
                else:
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
    """Print one line of plain text (never read as markup), above what moves on the terminal."""
    _pulse.heard()
    (_moving.console if _moving else stdout).print(text, markup=False, soft_wrap=True)


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
    if _moving and stderr.is_terminal:  # the same terminal: written past the moving line, it would be drawn over
        say(text)
    else:
        stderr.print(text, markup=False)


# --- progress --------------------------------------------------------------------------------------------------------


@contextmanager
def at_work(where: str = "") -> Iterator[None]:
    """Show `where` this process is (the cell of a sweep, say) while it works: in a line that moves, or in a log's line.

    What `doing` and `progress` say meanwhile stands behind it on the same moving line.
    """
    global _moving
    if _moving is not None or not moves():
        if where:
            say(where)
        yield
        return
    _moving = _Moving(where)
    try:
        with _moving.shown:
            yield
    finally:
        _moving = None


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name what is being done: on the moving line, or in a log by a line now and then while it says nothing itself.

    If it took long and no `progress` within it has told of that, a line does when it is done.
    """
    began, told = time.monotonic(), _Count.told
    with _pulse.beating(what) if _moving is None else _moving.named(what):
        yield
    took = time.monotonic() - began
    if took >= SECONDS_WORTH_A_LINE and _Count.told == told:
        say(f"{what}: done in {took:.0f} s")


@contextmanager
def progress(description: str, least: float = 0.0) -> Iterator[OnProgress]:
    """Show progress under `description`; the yielded function takes (done, total) as often as it likes.

    Work may come in parts, each with its own total: a total that changes, or a count that falls, begins the next one.
    The last line is left out of what took less than `least` seconds.
    """
    with at_work():
        count = _Count(description)
        with _pulse.named(count.line) if _moving is None else _moving.named(description):
            yield count.on_progress
        if time.monotonic() - count.began >= least:
            say(count.summary())
            _Count.told += 1
    sys.stdout.flush()


def moves() -> bool:
    """Say whether progress is a line that moves: on a terminal that no other process draws on."""
    return stdout.is_terminal and not _lines_only


def lines_only() -> None:
    """Print lines from now on instead of moving ones: several processes share the terminal."""
    global _lines_only
    _lines_only = True


class _Count:
    """What is done of a piece of work, over all its parts."""

    told = 0
    """How many have told in a last line what was done."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.began = self.last = time.monotonic()
        self.part, self.before = 1, 0  # the number of this part, and what the parts before it held
        self.done = self.total = 0
        # The time left is by the speed since the first call: what that one counts may have been kept from an earlier
        # start. So it is again for each part.
        self.part_began, self.done_at_first = self.began, 0

    def on_progress(self, done: int, total: int) -> None:
        """Take what is done of the current part, or of the next one."""
        now = time.monotonic()
        if total != self.total or done < self.done:
            self.part_began, self.done_at_first = now, done
            if self.done:
                self.before += self.done
                self.part += 1
        self.done, self.total = done, total
        _pulse.heard()
        if _moving is not None:
            _moving.count(self._named(), done, total)
        elif now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            line = self.line()
            if done > self.done_at_first:
                left = (now - self.part_began) / (done - self.done_at_first) * (total - done)
                line += f", about {left:.0f} s left"
            say(line)

    def line(self) -> str:
        """Return what is done of the current part."""
        return f"{self._named()}: {self.done}/{self.total}" if self.total else self._named()

    def _named(self) -> str:
        return self.description if self.part == 1 else f"{self.description}, part {self.part}"

    def summary(self) -> str:
        """Return what was done in all, and the time it took."""
        done, total = self.before + self.done, self.before + self.total
        return f"{self.description}: {done}/{total} in {time.monotonic() - self.began:.0f} s"


class _Pulse:
    """Says in a log what is being done while nobody else says anything: a model is loaded, or a step takes minutes."""

    def __init__(self) -> None:
        self.words: list[Callable[[], str]] = []
        self.began = self.last = 0.0
        self.patience = SECONDS_BETWEEN_LINES

    @contextmanager
    def named(self, words: Callable[[], str]) -> Iterator[None]:
        """Have these words for what is done in the block."""
        self.words.append(words)
        try:
            yield
        finally:
            self.words.pop()

    @contextmanager
    def beating(self, what: str) -> Iterator[None]:
        """Look now and then, during the block, whether it is time for a line."""
        with self.named(lambda: what):
            if len(self.words) > 1:  # within another block that looks
                yield
                return
            self.began = time.monotonic()
            self.heard()
            ended = threading.Event()
            thread = threading.Thread(target=self._beat, args=(ended,), name="fairloop-pulse", daemon=True)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()

    def heard(self) -> None:
        """Take note that something was said, or that a count goes on."""
        self.last, self.patience = time.monotonic(), SECONDS_BETWEEN_LINES

    def look(self) -> None:
        """Say what is being done if it is time."""
        now, patience, words = time.monotonic(), self.patience, self.words[-1:]
        if words and now - self.last >= patience:
            say(f"{words[0]()}, {now - self.began:.0f} s so far")
            self.patience = min(2 * patience, LONGEST_SILENCE)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            self.look()


class _Moving:
    """The one line that moves on a terminal, while a process works."""

    def __init__(self, where: str) -> None:
        # A line that is wider than the terminal wraps, cannot be drawn over, and scrolls by at each step: so this one
        # has the terminal's real width, and words that do not fit are cut off. Numbers never are.
        self.console = Console(highlight=False)
        self.where, self.what = where, ""
        words = TextColumn(
            "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        )
        wide: list[ProgressColumn] = [BarColumn()] if self.console.width >= ROOM_FOR_A_BAR else []
        self.shown = Progress(
            words, *wide, _Numbers(), console=self.console, expand=True, transient=True, refresh_per_second=5
        )
        self.task = self.shown.add_task(where, total=None)

    @contextmanager
    def named(self, what: str) -> Iterator[None]:
        before, self.what = self.what, what
        self._name(what)
        yield
        self.what = before
        self._name(before)

    def count(self, what: str, done: int, total: int) -> None:
        """Show what is done; what is done at first, or of a new part, is not this process's speed."""
        task = self.shown.tasks[0]
        if task.total != total or done < task.completed:
            self.shown.reset(self.task, total=total, completed=done, description=self._line(what))
        self.shown.update(self.task, completed=done)

    def _name(self, what: str) -> None:
        self.shown.reset(self.task, total=None, description=self._line(what))

    def _line(self, what: str) -> str:
        return ": ".join(filter(None, (self.where, what)))


class _Numbers(ProgressColumn):
    """`24/48  0:00:12 left`: what is done and the time left of counted work, else the time it has taken."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the numbers of the moving line."""
        if task.total is None:
            return Text(f"{timedelta(seconds=int(task.elapsed or 0))}")
        left = task.time_remaining
        time_left = "" if left is None else f"  {timedelta(seconds=int(left))} left"
        return Text(f"{task.completed:.0f}/{task.total:.0f}{time_left}")


_pulse = _Pulse()
_moving: _Moving | None = None
_lines_only = False
