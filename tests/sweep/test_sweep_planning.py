"""What a sweep knows before and after it ran: statuses, the estimate of its time, its table. No cell is computed."""

import io
import json
import os
import re

import pytest
from bench.sweep import grid, plan, write_cell
from rich.console import Console

from fairloop.sweep import table as cell_table
from fairloop.sweep.estimate import Estimate, duration, estimate, stage_seconds
from fairloop.sweep.plan import Plan
from fairloop.sweep.table import headline, print_cells, varied_choices
from fairloop.tracking.store import read_status


def jobs(tmp_path, *overrides):
    return plan([*overrides, "tracking=none", f"runs_dir={tmp_path}/runs"])


def stage(job, name, seconds, linked=()):
    """Keep a stage that took so long, shared with other cells by hard links as the store does it."""
    place = job.cell.folder / "stages" / name
    place.mkdir(parents=True)
    (place / "stage.json").write_text(json.dumps({"seconds": seconds}))
    home = job.cell.folder.parents[1] / ".stages" / f"{job.cell.key}-{name}"
    if linked:
        home.mkdir(parents=True)
        os.link(place / "stage.json", home / "stage.json")
    for other in linked:
        (other.cell.folder / "stages" / name).mkdir(parents=True)
        os.link(place / "stage.json", other.cell.folder / "stages" / name / "stage.json")


def status(job, **record):
    job.cell.folder.mkdir(parents=True, exist_ok=True)
    (job.cell.folder / "status.json").write_text(json.dumps({"started": "", "reason": "", **record}))


def test_the_plan_says_that_complete_cells_were_not_computed_alike(tmp_path, capsys):
    found = jobs(tmp_path, "seed=0,1,2")
    for job, numerics in zip(found, ("AMX bfloat16", "AVX2 float32", "AVX2 float32"), strict=True):
        write_cell(job)
        path = job.cell.folder / "status.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "numerics": [numerics]}))
    Plan.of(found[1:]).say()
    assert "not computed alike" not in capsys.readouterr().out
    Plan.of(found).say()
    assert "not to the byte: 2 with AVX2 float32; 1 with AMX bfloat16" in " ".join(capsys.readouterr().out.split())


def test_the_plan_counts_every_state(tmp_path, capsys):
    found = jobs(tmp_path, "seed=0,1,2,3,4,5")
    write_cell(found[0])
    write_cell(found[1])
    (found[1].cell.folder / "metrics.csv").write_text("altered")
    status(found[2], status="failed", reason="the disk is full")
    status(found[3], status="running")  # and no process holds its lock
    status(found[4], status="failed", reason="interrupted")
    states = Plan.of(found)
    states.say()
    expected = "1 complete, 2 to do, 1 failed (tried again), 2 interrupted (going on)"
    assert capsys.readouterr().out == f"6 cells in {tmp_path}/runs: {expected}\n"
    assert states.missing == found[1:]
    listed = Plan.of(jobs(tmp_path, "seed=0,1,2,3,4,5", "retry_failed=false"))
    listed.say()
    assert [job.cell.key for job in listed.missing] == [found[i].cell.key for i in (1, 3, 4, 5)]
    out = capsys.readouterr().out
    assert "1 failed (not tried again)" in out
    assert f"recursion/{found[2].cell.key}: the disk is full" in out


def test_what_a_sweep_does_is_no_part_of_a_cells_name(tmp_path):
    (one,) = jobs(tmp_path)
    choices = ["on_failure=stop", "retry_failed=false", "objective=a/b", "gpu_share=0.5", "trainer.threads=3"]
    (two,) = jobs(tmp_path, *choices)
    assert one.cell.key == two.cell.key


def test_the_mean_of_cells_that_differ_in_seed_alone_less_what_is_done(tmp_path):
    found = jobs(tmp_path, "seed=0,1,2,3")
    for job, seconds in zip(found[:2], (10.0, 20.0), strict=True):
        write_cell(job)
        stage(job, "01-seed-corpus", 1.0)
        stage(job, "02-generation-1", seconds)
    stage(found[2], "01-seed-corpus", 1.0)
    told = estimate(found[2:], found[:2])
    # Seed 2 has its seed corpus; seed 3 has nothing: 15 + (1 + 15).
    assert told.seconds == pytest.approx(31.0)
    assert (told.cells, told.unknown, told.differing) == (2, 0, ())


def test_the_nearest_cells_are_taken_and_named(tmp_path):
    found = jobs(tmp_path, "study.sentences=100,200", "study.generations=2,3")
    kinds = {(job.configuration.study.sentences, job.configuration.study.generations): job for job in found}
    for key, seconds in (((100, 2), 10.0), ((200, 2), 40.0)):
        write_cell(kinds[key])
        stage(kinds[key], "01-writing", seconds)
    missing = [kinds[100, 3], kinds[200, 3]]
    told = estimate(missing, [kinds[100, 2], kinds[200, 2]])
    assert told.seconds == pytest.approx(50.0)  # each from the cell that differs in generations alone
    assert told.differing == ("study.generations",)


def test_finished_cells_of_another_command_count_if_they_are_comparable(tmp_path):
    before = jobs(tmp_path, "seed=0", "study.sentences=50")[0]
    write_cell(before)
    stage(before, "01-writing", 7.0)
    assert estimate(jobs(tmp_path, "seed=1", "study.sentences=50"), []).seconds == pytest.approx(7.0)
    other = estimate(jobs(tmp_path, "seed=1", "study.sentences=5000"), [])
    assert (other.seconds, other.cells, other.unknown) == (0.0, 0, 1)
    assert other.line() == "no estimate of the time: no comparable cell is finished in this store"


@pytest.mark.parametrize(
    "content",
    [b"\xff\x00", b"[" * 100_000, b"- " * 100_000, b"a: [1", b"7", b"", b"study: 7", b"!!python/object:os.system x"],
)
def test_a_damaged_cell_of_another_command_stops_no_estimate(tmp_path, content):
    """Nested deep enough, a configuration ended the process inside YAML's loader."""
    before = jobs(tmp_path, "seed=0,2", "study.sentences=50")
    for job in before:
        write_cell(job)
        stage(job, "01-writing", 7.0)
    folder = before[1].cell.folder
    (folder / "config.yaml").write_bytes(content)
    (folder.parent / "gone").symlink_to("nowhere")
    (folder.parent / "file").write_text("no cell")
    assert estimate(jobs(tmp_path, "seed=1", "study.sentences=50"), []).seconds == pytest.approx(7.0)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"seconds": Infinity}', '{"seconds": 1' + "0" * 400 + "}", "7"])
def test_a_time_that_is_none_does_not_count(tmp_path, content):
    (job,) = jobs(tmp_path)
    stage(job, "01-writing", 7.0)
    stage(job, "02-measuring", 7.0)
    (job.cell.folder / "stages" / "02-measuring" / "stage.json").write_text(content)
    assert stage_seconds(job.cell.folder).keys() == {"01-writing"}


def test_a_shared_stage_counts_for_each_cell_with_its_part(tmp_path):
    found = jobs(tmp_path, "mitigation=none,prompt,augment")
    stage(found[0], "01-seed-corpus", 30.0, linked=found[1:])
    assert [stage_seconds(job.cell.folder) for job in found] == [{"01-seed-corpus": 10.0}] * 3


def test_the_estimate_in_words():
    told = Estimate(600, 6, 0, ()).line(3)
    alike = "by finished cells that differ in seed or level alone"
    assert told == f"about 10 min of computing left, 3 min with 3 cells at once ({alike})"
    assert "nothing comparable was measured for 2 more" in Estimate(5, 1, 2, ("mitigation",)).line(None)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5399, "1 h 30 min"), (12000, "3 h 20 min")]
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_table_has_the_varied_choices_the_status_and_the_first_numbers(tmp_path):
    found = jobs(tmp_path, "initial_bias=low,high", "seed=0,1", "study.sentences=64")
    for job in found[:3]:
        write_cell(job)
    status(found[3], status="failed", reason="yield under the floor")
    assert varied_choices(found) == ["initial_bias", "seed"]
    out = io.StringIO()
    print_cells(found, [job.status() for job in found], Console(file=out, width=200))
    text = out.getvalue()
    last = headline(found[0].cell.folder)
    assert list(last) == [
        "rule/net_stereotype_rate@3",
        "embedding/effect_size@3",
        "downstream/bias@3",
        "rule/gendered_share@3",
    ]
    rows = [line.split() for line in text.splitlines() if re.match(r" (low|high) ", line)]
    assert [row[:2] for row in rows] == [["low", "0"], ["low", "1"], ["high", "0"], ["high", "1"]]
    assert rows[0][2:4] == ["complete", f"{last['rule/net_stereotype_rate@3']:.3f}"]
    assert rows[0][-1] == found[0].cell.key
    assert "net rate" in text
    assert "failed: yield under the floor" in text
    assert "study.sentences" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shows_every_number_whole(tmp_path, width):
    found = jobs(tmp_path, "initial_bias=low,high", "mitigation=none,augment", "seed=0,1")
    for job in found:
        write_cell(job)
    out = io.StringIO()
    print_cells(found, [job.status() for job in found], Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for job in found:
        assert job.cell.key in text
        for value in headline(job.cell.folder).values():
            assert re.search(rf"(?<![\d.]){value:.3f}(?![\d.])", text)


def test_a_large_table_counts_what_is_complete_and_lists_what_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_table, "MOST_ROWS", 5)
    found = plan([*grid(10), f"runs_dir={tmp_path}/runs"])
    for job in found[:-1]:
        write_cell(job)
    out = io.StringIO()
    print_cells(found, [job.status() for job in found], Console(file=out, width=200))
    assert out.getvalue().count("complete") == 4 + 1
    assert "not started" in out.getvalue()
    assert "and 5 more complete cells" in out.getvalue()


def test_the_bench_writes_cells_that_the_store_takes_for_complete(tmp_path):
    found = plan([*grid(10), f"runs_dir={tmp_path}/runs"])
    assert len({job.cell.key for job in found}) == 10
    for job in found:
        write_cell(job)
    assert not Plan.of(found).missing
    assert read_status(found[0].cell.folder).state == "complete"
