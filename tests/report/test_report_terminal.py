"""Tables on terminals of any width: a number that is cut off, or broken in two, reads as another number."""

import io
import re

import pytest
from report_store import make_demo
from rich.console import Console

from fairloop.console import Console as CommandConsole
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions, settle_or_disappear
from fairloop.report.table import Table
from fairloop.report.terminal import print_report, print_table, verdict_in_words

VALUES = ("-0.083 [-0.17, 0.38]", "0.500 [0.33, 0.71]", "1.108 [1.10, 1.18]†", "<0.001", "–")
LEVELS = Table(
    "Bias and its factors",
    ("level", "seed", "gen", *(f"measure number {n}" for n in range(9))),
    tuple(("0.1", seed, f"{gen} after", *(VALUES + VALUES)[gen : gen + 9]) for seed in "01" for gen in range(2)),
    3,
    "a note",
)
NAMED = Table(
    "Reductions of a long name",
    ("strategy in words", *(f"column {n}" for n in range(6))),
    (("a strategy whose name is far too long for half of any terminal " * 2, *VALUES, "0.1"),),
    1,
)


def printed(table, width):
    stream = io.StringIO()
    print_table(table, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [48, 60, 80, 100, 120, 160, 400])
@pytest.mark.parametrize("table", [LEVELS, NAMED], ids=["levels", "names"])
def test_every_number_is_whole_at_any_width(table, width):
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    numbers = [cell for row in table.rows for cell in row[table.labels :]]
    for value in set(numbers):
        whole = rf"(?<!\S){re.escape(value)}(?!\S)"
        assert len(re.findall(whole, text)) >= numbers.count(value), value


def test_what_does_not_fit_follows_below_with_the_same_labels():
    text = printed(LEVELS, 80)
    assert text.count("further columns") >= 1
    assert text.count("level  seed  gen") == text.count("further columns") + 1
    assert text.count("a note") == 1
    assert "further columns" not in printed(LEVELS, 400)


@pytest.mark.parametrize("wraps", [True, False], ids=["fairloop", "fairloop-report"])
def test_no_sentence_of_the_answer_is_cut(tmp_path, wraps):
    """A sweep's own console prints lines of any length; what is indented was cropped at its width."""
    make_demo(tmp_path, seeds=(0, 1))
    runs = read_runs(tmp_path)
    (condition,) = found = conditions(runs.cells)
    stream = io.StringIO()
    print_report(runs, found, (), CommandConsole(file=stream, width=60, soft_wrap=wraps))
    text = " ".join(stream.getvalue().split())
    sentences = [verdict_in_words(one) for one in condition.settlings] + [settle_or_disappear(condition)]
    assert len(max(sentences, key=len)) > 60
    assert [one for one in sentences if " ".join(one.split()) not in text] == []
