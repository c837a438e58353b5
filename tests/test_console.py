"""What a log file says of the time left, against a clock that the test moves."""

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from fcntl import ioctl

import pytest
from rich.cells import cell_len
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import fairloop
from fairloop import console


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_line_every_twenty_seconds_with_the_time_left(clock, capsys):
    with console.progress("work") as on_progress:
        for done in range(1, 11):
            clock[0] += 8.0
            on_progress(done, 10)
    assert lines(capsys) == [
        "work: 3/10, about 56 s left",
        "work: 6/10, about 32 s left",
        "work: 9/10, about 8 s left",
        "work: 10/10 in 80 s",
    ]


def test_the_time_left_of_a_later_part_is_by_its_own_speed(clock, capsys):
    with console.progress("work") as on_progress:
        for done in range(1, 201):
            clock[0] += 0.05
            on_progress(done, 200)
        for done in range(1, 11):
            clock[0] += 10.0
            on_progress(done, 10)
    # The first step of a part starts its clock, and the last line counts both parts: the total does not fall.
    said = lines(capsys)
    assert said[0] == "work, part 2: 2/10, about 80 s left"
    assert said[-1] == "work: 210/210 in 110 s"


def test_work_kept_from_an_earlier_start_is_not_speed(clock, capsys):
    with console.progress("work") as on_progress:
        on_progress(900, 1000)
        for done in (905, 910):
            clock[0] += 20.0
            on_progress(done, 1000)
    assert lines(capsys)[:2] == ["work: 905/1000, about 380 s left", "work: 910/1000, about 360 s left"]


def test_a_long_first_step_is_shown_without_a_guess(clock, capsys):
    with console.progress("work") as on_progress:
        clock[0] += 300.0
        on_progress(1, 10)
    assert lines(capsys) == ["work: 1/10", "work: 1/10 in 300 s"]


HOSTILE = "a\x1b[2J\x9bb\u202ec\ud800:cat:\tä\u00a0€"
SPELLED = "a\\x1b[2J\\x9bb\\u202ec\\ud800:cat:"


def test_no_text_steers_the_terminal(capsys):
    table = Table("column")
    table.add_row(Text(HOSTILE))
    console.say(HOSTILE)
    console.warn(HOSTILE)
    console.stdout.print(table)
    console.stdout.print(HOSTILE, markup=False)
    out, err = capsys.readouterr()
    assert SPELLED in out.splitlines()[0]
    assert SPELLED in err
    assert "ä\u00a0€" in out
    assert set("\x1b\x9b\u202e\ud800").isdisjoint(out + err)


def test_colours_and_moves_that_are_meant_reach_a_terminal():
    file = io.StringIO()
    terminal = console.Console(file=file, force_terminal=True, color_system="standard", width=60)
    with Progress(console=terminal) as bar:
        bar.add_task("work", total=2)
    terminal.print(Text("red", style="red"))
    assert "\x1b[31mred" in file.getvalue()
    assert "\x1b[?25l" in file.getvalue()
    assert "\\x1b" not in file.getvalue()


@pytest.mark.parametrize(
    ("error", "says"),
    [(MemoryError(), "not enough memory"), (OSError(28, "No space left", "/full/disk"), "/full/disk: No space left")],
)
def test_a_fault_of_the_machine_is_one_line(error, says, capsys):
    @console.entry("name")
    def broken(_):
        raise error

    assert broken([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("name: ")
    assert says in line


def test_where_a_process_is_stands_in_a_log_once(capsys):
    with console.at_work("cell 1 of 2 (seed=0)"), console.doing("loading"), console.progress("work") as on_progress:
        on_progress(3, 3)
    assert lines(capsys) == ["cell 1 of 2 (seed=0)", "work: 3/3 in 0 s"]


def test_what_says_nothing_for_long_is_named_less_and_less_often_and_once_when_it_is_done(clock, capsys):
    with console.doing("seed 0: measures"):
        for _ in range(200):  # a thread looks now and then
            clock[0] += 1.0
            console._pulse.look()
    assert lines(capsys) == [
        *(f"seed 0: measures, {seconds} s so far" for seconds in (20, 60, 120, 180)),
        "seed 0: measures: done in 200 s",
    ]
    with console.doing("seed 0: generation 1"), console.progress("seed 0: generation 1 of 2") as on_progress:
        clock[0] += 19.0
        on_progress(3, 10)
        clock[0] += 19.0
        console._pulse.look()  # it counts, and so it will say so itself
        clock[0] += 1.0
        console._pulse.look()
    with console.doing("a short stage"), console.progress("its count", least=1.0):
        clock[0] += 0.9
    assert lines(capsys) == ["seed 0: generation 1 of 2: 3/10, 39 s so far", "seed 0: generation 1 of 2: 3/10 in 39 s"]


def test_a_log_is_told_of_work_that_gives_no_sign(monkeypatch, capsys):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LOOKS", 0.01)
    with pytest.raises(KeyboardInterrupt), console.doing("outer"), console.doing("loading"):
        deadline = time.monotonic() + 60
        while "loading, 0 s so far" not in capsys.readouterr().out and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.monotonic() < deadline
        raise KeyboardInterrupt
    assert "fairloop-pulse" not in {thread.name for thread in threading.enumerate()}


SHOWN = """
import time
import fairloop
from fairloop import console

with console.at_work("cell 1 of 12 (seed=0)"), console.doing("loading"):
    time.sleep(0.3)
    with console.progress("level 0.1, augment + prompt, seed 0: generation 1 of 3, a long description") as on_progress:
        for done in range(12):
            on_progress(done, 12)
            time.sleep(0.12)
        console.say("a line between")
        console.warn("and a warning")
"""


def written_lines(text):
    """Return the lines that a terminal shows in the end, when what moved has been drawn over."""
    screen, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece == "\x1b[2K" or piece == "\r":
            screen[row] = "" if piece == "\x1b[2K" else screen[row]
        elif re.fullmatch(r"\x1b\[\d*A", piece):
            row = max(0, row - int(piece[2:-1] or 1))
        elif not piece.startswith("\x1b"):
            screen[row] = piece
    return screen


@pytest.mark.parametrize("columns", [40, 80, 99, 132])
def test_the_bar_stays_on_one_line_of_a_terminal_of_any_width(columns):
    """Drawn wider than the terminal, it wrapped and scrolled by at each step: 283 lines in four cells at 80 columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    surroundings = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", SHOWN], stdout=theirs, stderr=theirs, env={**surroundings, "TERM": "xterm"}
    ) as child:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    assert child.returncode == 0
    text = written.decode()
    pieces = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    drawn = [line for line in pieces if "cell 1 of 12" in line]
    assert len(drawn) > 3
    assert max(map(cell_len, drawn)) <= columns
    assert any("left" in line for line in drawn)
    # What is left on the screen: the lines that were said, whole, and nothing of the line that moved.
    screen = [line for line in written_lines(text) if line.strip()]
    assert [line.split(",")[0] for line in screen] == ["a line between", "and a warning", "level 0.1"]


@pytest.mark.parametrize("name", ["fairloop-report", "fairloop-data", "fairloop-pairs"])
def test_every_command_tells_fairloops_version(name, capsys):
    from importlib.metadata import entry_points

    (point,) = entry_points(group="console_scripts", name=name)
    assert point.load()(["--version"]) == 0
    assert capsys.readouterr().out == f"fairloop {fairloop.__version__}\n"
