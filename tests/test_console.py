"""What a log file says of the time left, against a clock that the test moves."""

import pytest

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
