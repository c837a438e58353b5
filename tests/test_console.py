"""What a log file says of the time left, against a clock that the test moves."""

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest
from rich.cells import cell_len
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

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
    # the first step of a part starts its clock
    assert lines(capsys)[0] == "work: 2/10, about 80 s left"
    assert lines(capsys) == []


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


SHOWN = """
import time
from fairloop import console

with console.progress("level 0.1, augment + prompt, seed 0: generation 1 of 3, a long description") as on_progress:
    for done in range(12):
        on_progress(done, 12)
        time.sleep(0.12)
"""


@pytest.mark.parametrize("columns", [40, 80, 99, 132])
def test_the_bar_stays_on_one_line_of_a_terminal_of_any_width(columns):
    """Drawn wider than the terminal, it wrapped and scrolled by at each step: 283 lines in four cells at 80 columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    surroundings = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", SHOWN], stdout=theirs, env={**surroundings, "TERM": "xterm"}) as child:
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
    drawn = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)) if "level" in line]
    assert len(drawn) > 3
    assert max(map(cell_len, drawn)) <= columns
