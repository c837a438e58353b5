"""Where a sweep is: the place of each cell, what has ended, and the time left for all, over several processes."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from bench.sweep import plan, write_cell

from fairloop.sweep import course
from fairloop.sweep.jobs import Outcome


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(course.time, "time", lambda: now[0])
    return now


@pytest.fixture
def sweep(tmp_path):
    """Six cells, and the folder of their sweep with the head of its course."""
    jobs = plan(["initial_bias=low,high", "seed=0,1,2", "study.sentences=64", f"runs_dir={tmp_path}/runs"])
    folder = tmp_path / "sweep"
    course.begin(folder, jobs)
    return folder, jobs


def enter(folder, job):
    return course.entered(folder, job.cell, job.overrides)


def end(folder, job, state="done"):
    return course.ended(folder, job.cell, job.overrides, Outcome(job.cell.folder, state, "", int(state != "done")))


def test_a_cell_is_named_by_its_place_and_by_what_varies(sweep):
    folder, jobs = sweep
    assert enter(folder, jobs[0]) == "cell 1 of 6 (initial_bias=low seed=0)"
    assert enter(folder, jobs[4]) == "cell 2 of 6 (initial_bias=high seed=1)"
    assert enter(folder, jobs[0]) == "cell 1 of 6 (initial_bias=low seed=0)"  # its process died, and it goes on


def test_one_after_the_other_the_time_left_is_that_of_the_cells_left(sweep, clock):
    folder, jobs = sweep
    for place, seconds in enumerate((30.0, 50.0)):
        enter(folder, jobs[place])
        clock[0] += seconds
        write_cell(jobs[place])
        said = end(folder, jobs[place])
    # Two cells took 40 s in the mean, and four are left.
    assert said.startswith("cell 2 of 6 (initial_bias=low seed=1) done in 50 s: net rate B, gen 3 ")
    assert said.endswith("; about 3 min for 4 more")
    assert "[" in said


def test_beside_each_other_the_time_left_is_shared_and_what_is_done_counts(sweep, clock):
    folder, jobs = sweep
    enter(folder, jobs[0])
    enter(folder, jobs[1])
    clock[0] += 40.0
    said = end(folder, jobs[0])
    # Five are left, of 40 s each; one of them has been at work for 40 s: 160 s of work, by two at once.
    assert said == "cell 1 of 6 (initial_bias=low seed=0) done in 40 s; about 80 s for 5 more"


def test_the_last_cell_leaves_nothing_and_a_failed_one_says_so(sweep, clock):
    folder, jobs = sweep
    for job in jobs:
        enter(folder, job)
        clock[0] += 10.0
        said = end(folder, job, "failed")
    assert said == "cell 6 of 6 (initial_bias=high seed=2) failed after 10 s"


def test_many_processes_append_whole_lines_and_each_has_a_place_of_its_own(tmp_path):
    jobs = plan(["seed=range(40)", f"runs_dir={tmp_path}/runs"])
    course.begin(tmp_path, jobs)
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda job: enter(tmp_path, job), jobs))
    assert len({name.split(" (")[0] for name in names}) == 40
    lines = (tmp_path / course.COURSE_FILE).read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 41


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"{}", b"[]\n", b'{"cells": 3, "keys": []}\n{"cell"'])
def test_without_a_course_or_with_a_damaged_one_nothing_is_said(tmp_path, content):
    jobs = plan(["seed=0,1", f"runs_dir={tmp_path}/runs"])
    if content is not None:
        (tmp_path / course.COURSE_FILE).write_bytes(content)
    assert enter(tmp_path, jobs[0]) == ""
    assert end(tmp_path, jobs[0]) == ""


def test_a_folder_that_cannot_be_written_stops_no_sweep(tmp_path):
    jobs = plan(["seed=0,1", f"runs_dir={tmp_path}/runs"])
    (tmp_path / "file").write_text("")
    course.begin(tmp_path / "file" / "sweep", jobs)
    assert enter(tmp_path / "file" / "sweep", jobs[0]) == ""
