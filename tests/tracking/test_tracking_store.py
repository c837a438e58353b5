"""The run store: names, layout, resume, damage, two processes."""

import json
import logging
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_study
import yaml

from fairloop.errors import Fault, UserError
from fairloop.files import ASIDE
from fairloop.measures.measurement import Measurement
from fairloop.tracking.store import Cell, cell_key, is_complete, read_status

SCRIPT = str(Path(toy_study.__file__))


def start(runs_dir: Path, seed: int = 1, delay: float = 0.0) -> subprocess.Popen:
    runs_dir.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, SCRIPT, str(runs_dir), str(seed), str(delay)], stderr=subprocess.PIPE, text=True
    )


def contents(cell: Path) -> dict[str, bytes]:
    """Everything that a result consists of: all files but the times and notes."""
    paths = [
        path for path in cell.rglob("*") if path.is_file() and path.name not in ("stage.json", "status.json", ".lock")
    ]
    found = {str(path.relative_to(cell)): path.read_bytes() for path in paths}
    found.pop("config.yaml")  # it holds the runs folder of this test
    # The toy study computes without torch, which another test may have loaded into this process and not into a child.
    environment = json.loads(found["environment.json"])
    environment.pop("numerics")
    return found | {"environment.json": json.dumps(environment).encode()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    return contents(toy_study.run(tmp_path_factory.mktemp("undisturbed"), 1).folder)


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ---------------------------------------------------------------------------------------------- names and layout


def test_key_depends_on_what_decides_and_on_nothing_else():
    key = cell_key("recursion", {"a": 1, "b": {"c": 0.5}})
    assert key == cell_key("recursion", {"b": {"c": 0.5}, "a": 1.0})
    assert len(key) == 16
    assert int(key, 16) >= 0
    others = [
        cell_key("evaluate", {"a": 1, "b": {"c": 0.5}}),
        cell_key("recursion", {"a": 2, "b": {"c": 0.5}}),
        cell_key("recursion", {"a": 1, "b": {"c": 0.5}}, method=2),
        cell_key("recursion", {"a": True, "b": {"c": 0.5}}),
        cell_key("recursion", {"a": "1", "b": {"c": 0.5}}),
    ]
    assert len({key, *others}) == 6


def test_layout(tmp_path):
    cell = toy_study.run(tmp_path, 1)
    assert cell.folder == tmp_path / "toy" / cell_key("toy", {"seed": 1})
    assert sorted(path.name for path in cell.folder.iterdir() if path.name != ".lock") == [
        "config.yaml",
        "deciding.json",
        "environment.json",
        "metrics.csv",
        "result.json",
        "stages",
        "status.json",
    ]
    assert [path.name for path in sorted((cell.folder / "stages").iterdir())] == [
        f"{n + 1:02d}-generation-{n}" for n in range(4)
    ]
    assert yaml.safe_load((cell.folder / "config.yaml").read_text()) == {"seed": 1, "runs_dir": str(tmp_path)}
    record = json.loads((cell.folder / "stages" / "02-generation-1" / "stage.json").read_text())
    assert record["name"] == "generation-1"
    assert record["settings"] == {"generation": 1}
    assert [item["stage"] for item in record["inputs"]] == ["generation-0"]
    assert set(record["outputs"]) == {"corpus.txt", "deep/measure.json"}
    assert record["seconds"] >= 0
    status = read_status(cell.folder)
    assert (status.state, status.reason) == ("complete", "")
    assert status.started <= status.ended
    environment = json.loads((cell.folder / "environment.json").read_text())
    assert "pydantic" in environment["packages"]
    assert set(environment) == {"git", "hardware", "numerics", "packages", "platform", "python"}


@pytest.mark.parametrize("name", ["config.yaml", "deciding.json"])
def test_what_a_finished_cell_says_of_itself_is_sealed(tmp_path, caplog, name):
    cell = toy_study.run(tmp_path, 1)
    assert json.loads((cell.folder / "deciding.json").read_text()) == {"seed": 1, "version": 1}
    written = (cell.folder / name).read_text()
    (cell.folder / name).write_text(written.replace("1", "2", 1))
    assert not cell.complete
    toy_study.run(tmp_path, 1)
    assert (cell.folder / name).read_text() == written
    assert f"{name} was altered" in caplog.text


def test_a_cell_that_was_finished_before_it_kept_what_decides_it_is_complete(tmp_path):
    cell = toy_study.run(tmp_path, 1)
    (cell.folder / "deciding.json").unlink()
    record = json.loads((cell.folder / "status.json").read_text())
    record["seal"] = {key: seal for key, seal in record["seal"].items() if not key.endswith((".yaml", "deciding.json"))}
    (cell.folder / "status.json").write_text(json.dumps(record))
    assert cell.complete


def test_opening_a_cell_writes_nothing(tmp_path):
    cell = Cell.open(tmp_path / "runs", "toy", {}, {})
    assert not cell.complete
    assert read_status(cell.folder).state == "absent"
    assert list(tmp_path.iterdir()) == []


def test_results_have_one_form(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    results = {
        None: [Measurement("equilibrium/level", 0.12, None, None, 3)],
        10: [Measurement("b", 1 / 3, 0.1, float("nan"), 5)],
        2: [
            Measurement("b", float("nan"), None, None, 5),
            Measurement("a", 1e-7, float("inf"), None, 0),
            Measurement("c", 2, 1, 3, 5, units=4),
        ],
    }
    with cell.working():
        cell.write_results(results)
    assert (cell.folder / "metrics.csv").read_bytes() == (
        b"generation,metric,value,low,high,n,units\n2,b,,,,5,\n2,a,1e-07,,,0,\n2,c,2,1,3,5,4\n"
        b"10,b,0.3333333333333333,0.1,,5,\n,equilibrium/level,0.12,,,3,\n"
    )
    assert json.loads((cell.folder / "result.json").read_text()) == {
        "a@2": 1e-07,
        "b@10": 1 / 3,
        "c@2": 2,
        "equilibrium/level": 0.12,
    }


def test_numpy_numbers_are_written_as_plain_ones(tmp_path):
    numpy = pytest.importorskip("numpy")
    cell = Cell.open(tmp_path, "toy", {}, {})
    with cell.working():
        cell.write_results(
            {0: [Measurement("a", numpy.float64(0.1), numpy.float32(0.5), numpy.int64(2), numpy.int32(7))]}
        )
    assert (cell.folder / "metrics.csv").read_text().splitlines()[1] == "0,a,0.1,0.5,2.0,7.0,"


def test_a_metric_given_twice_is_refused(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    with pytest.raises(ValueError, match="a is given twice for generation 1"), cell.working():
        cell.write_results({1: [Measurement("a", 1, None, None, 1)] * 2})


# ----------------------------------------------------------------------------------------------------- resume


def test_complete_cell_is_recognised_and_not_computed_again(tmp_path):
    cell = toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    assert is_complete(cell.folder)
    toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    assert (tmp_path / "journal").read_text().split() == ["0", "1", "2", "3"]
    with cell.working() as needed:
        assert needed is False


def test_recognising_is_fast_and_imports_nothing_heavy(tmp_path):
    cell = toy_study.run(tmp_path, 1)
    code = (
        "import sys, time; from pathlib import Path; from fairloop.tracking.store import is_complete\n"
        f"folder = Path({str(cell.folder)!r}); assert is_complete(folder)\n"
        "t = time.perf_counter(); [is_complete(folder) for _ in range(100)]\n"
        "print((time.perf_counter() - t) / 100)\n"
        "print([m for m in ('torch', 'wandb', 'numpy', 'yaml', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 0.01  # under 1 ms on an idle machine


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_the_result_is_the_same(tmp_path, undisturbed, seed):
    """SIGKILL in a stage, between stages, while a file is written, in start-up; then the same command again."""
    random_moments = random.Random(seed)
    kills = 0
    for _ in range(12):
        process = start(tmp_path / "runs", 1, delay=0.05)
        time.sleep(random_moments.uniform(0.1, 0.9))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        folder = tmp_path / "runs" / "toy" / cell_key("toy", {"seed": 1})
        if folder.exists():
            assert read_status(folder).state in ("absent", "interrupted", "complete")
        for stage in folder.glob("stages/[0-9]*"):
            assert (stage / "stage.json").exists()  # what has its name is whole
    assert kills >= 2
    process = start(tmp_path / "runs", 1)
    assert process.wait() == 0, process.stderr.read()
    cell = tmp_path / "runs" / "toy" / cell_key("toy", {"seed": 1})
    assert contents(cell) == undisturbed
    assert list(cell.rglob(f"{ASIDE}*")) == []
    assert read_status(cell).state == "complete"


def test_finished_stages_are_kept_when_the_study_fails(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    calls = []

    def first(folder: Path) -> dict:
        calls.append("first")
        (folder / "a").write_text("1")
        return {"tokens": 5}

    def broken(folder: Path) -> None:
        (folder / "half").write_text("1")
        raise ZeroDivisionError("two\nlines")

    with pytest.raises(ZeroDivisionError), cell.working():
        assert cell.stage("first", first).fresh
        cell.stage("second", broken)
    status = read_status(cell.folder)
    assert (status.state, status.reason) == ("failed", "ZeroDivisionError: two lines")
    assert [path.name for path in (cell.folder / "stages").iterdir()] == ["01-first"]

    with cell.working() as needed:
        assert needed
        stage = cell.stage("first", first)
        assert not stage.fresh
        assert stage.notes == {"tokens": 5}
        cell.write_results({})
    assert calls == ["first"]
    assert read_status(cell.folder).state == "complete"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interruption_is_a_failure_that_can_be_resumed(tmp_path, error):
    cell = Cell.open(tmp_path, "toy", {}, {})
    with pytest.raises(type(error)), cell.working():
        raise error
    assert read_status(cell.folder).reason == "interrupted"
    with cell.working() as needed:
        assert needed
        cell.write_results({})
    assert cell.complete


def test_a_users_mistake_leaves_nothing(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    with pytest.raises(UserError), cell.working():
        raise UserError.of("model.path", "x", "must exist")
    assert not cell.folder.exists()
    assert list((tmp_path / "toy").iterdir()) == []


def test_a_users_mistake_after_a_stage_keeps_the_stage(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    with pytest.raises(UserError), cell.working():
        cell.stage("first", lambda folder: None)
        raise UserError.of("plm.path", "x", "must exist")
    assert read_status(cell.folder).reason == "plm.path=x: must exist"
    assert (cell.folder / "stages" / "01-first").exists()


def test_a_study_without_results_is_not_complete(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    with pytest.raises(RuntimeError, match="without write_results"), cell.working():
        pass
    assert read_status(cell.folder).state == "failed"


def test_scratch_survives_a_kill_and_ends_with_its_stage(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})

    def train(folder: Path) -> None:
        checkpoint = cell.scratch() / "epoch"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        checkpoint.write_text(str(done + 1))
        if done < 2:
            raise KeyboardInterrupt
        (folder / "weights").write_text(str(done))

    def train_otherwise(folder: Path) -> None:
        assert list(cell.scratch().iterdir()) == []

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), cell.working():
            cell.stage("train", train, settings={"rate": 1})
    with cell.working():
        cell.stage("other", train_otherwise, settings={"rate": 2})
        cell._position = 0
        stage = cell.stage("train", train, settings={"rate": 1})
        assert (stage.folder / "weights").read_text() == "2"
        assert list((cell.folder / "scratch").iterdir()) == []
        cell.write_results({})
    assert not (cell.folder / "scratch").exists()
    with pytest.raises(RuntimeError):
        cell.scratch()


# ----------------------------------------------------------------------------------------------------- damage


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {"alter": alter, "truncate": truncate, "remove": Path.unlink, "empty": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["corpus.txt", "deep/measure.json", "stage.json"])
@pytest.mark.parametrize("complete", [True, False])
def test_damaged_stage_is_named_and_computed_again(tmp_path, undisturbed, caplog, how, name, complete):
    cell = toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    if not complete:
        (cell.folder / "status.json").unlink()
    damaged = cell.folder / "stages" / "02-generation-1" / name
    DAMAGE[how](damaged)
    assert not cell.complete
    toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    # Its outputs came out the same, so nothing after it had to be computed again.
    assert (tmp_path / "journal").read_text().split() == ["0", "1", "2", "3", "1"]
    assert contents(cell.folder) == {**undisturbed}
    named = warnings_of(caplog)
    assert len(named) == 1
    assert str(damaged) in named[0]
    assert cell.complete


@pytest.mark.parametrize("name", ["result.json", "metrics.csv"])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_result_is_named_and_written_again(tmp_path, undisturbed, caplog, how, name):
    cell = toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    DAMAGE[how](cell.folder / name)
    assert not cell.complete
    toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    assert (tmp_path / "journal").read_text().split() == ["0", "1", "2", "3"]
    assert contents(cell.folder) == undisturbed
    assert warnings_of(caplog) == [f"{cell.folder / name} was altered or is missing; it is written again"]


@pytest.mark.parametrize("how", ["truncate", "remove", "empty"])
def test_damaged_status_loses_nothing(tmp_path, undisturbed, how):
    cell = toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    DAMAGE[how](cell.folder / "status.json")
    assert not cell.complete
    toy_study.run(tmp_path, 1, journal=tmp_path / "journal")
    assert (tmp_path / "journal").read_text().split() == ["0", "1", "2", "3"]
    assert contents(cell.folder) == undisturbed
    assert cell.complete


def test_a_copied_store_is_still_complete(tmp_path):
    cell = toy_study.run(tmp_path / "a", 1)
    other = tmp_path / "b"
    for path in cell.folder.rglob("*"):
        if path.is_file():
            copy = other / path.relative_to(cell.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    assert is_complete(other)


def test_changed_settings_and_inputs_recompute_what_depends_on_them(tmp_path):
    cell = Cell.open(tmp_path, "toy", {}, {})
    calls: list[str] = []

    def study(first: str, rate: float) -> list[bool]:
        def write(name: str, text: str):
            def compute(folder: Path) -> None:
                calls.append(name)
                (folder / "out").write_text(text)

            return compute

        (cell.folder / "status.json").unlink(missing_ok=True)
        with cell.working():
            a = cell.stage("a", write("a", first[0]), settings={"first": first})
            b = cell.stage("b", write("b", "b" + first[0]), inputs=[a])
            c = cell.stage("c", write("c", "c"), settings={"rate": rate})
            d = cell.stage("d", write("d", "d"), inputs=[b, c])
            cell.write_results({})
        return [stage.fresh for stage in (a, b, c, d)]

    assert study("x", 1) == [True, True, True, True]
    assert study("x", 1.0) == [False, False, False, False]
    assert study("y", 1) == [True, True, False, True]  # other outputs of a, hence of b, hence d
    assert study("yy", 1) == [True, False, False, False]  # a asked for again, same outputs
    assert study("yy", 2) == [False, False, True, False]


# ------------------------------------------------------------------------------------- processes, disk, permission


def test_two_processes_give_one_result(tmp_path, undisturbed):
    processes = [start(tmp_path / "runs", 1, delay=0.01) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert (tmp_path / "runs" / "journal").read_text().split() == ["0", "1", "2", "3"]
    waited = [error for error in errors if error]
    assert len(waited) == 2
    assert all(error.count("\n") == 1 and "waiting for it" in error for error in waited)
    assert contents(tmp_path / "runs" / "toy" / cell_key("toy", {"seed": 1})) == undisturbed


def test_a_waiting_process_takes_over_from_a_killed_one(tmp_path, undisturbed):
    first = start(tmp_path / "runs", 1, delay=0.1)
    folder = tmp_path / "runs" / "toy" / cell_key("toy", {"seed": 1})
    while read_status(folder).state != "running" or not (folder / "stages" / "01-generation-0").exists():
        time.sleep(0.02)
        assert first.poll() is None
    second = start(tmp_path / "runs", 1)
    assert "waiting for it" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.wait(timeout=30) == 0
    assert contents(folder) == undisturbed


def test_waiting_process_survives_the_first_ones_mistake(tmp_path):
    """The first process takes its empty folder away while the second waits for its lock."""
    code = (
        "import sys, time\nfrom fairloop.tracking.store import Cell\nfrom fairloop.errors import UserError\n"
        f"cell = Cell.open({str(tmp_path)!r}, 'toy', {{}}, {{}})\n"
        "with cell.working():\n"
        "    if sys.argv[1] == 'first':\n        print('in', flush=True); time.sleep(0.5); raise UserError('mistake')\n"
        "    cell.write_results({})\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, "first"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([sys.executable, "-c", code, "second"], stderr=subprocess.PIPE, text=True)
    assert second.wait(timeout=30) == 0, second.stderr.read()
    assert first.wait() == 1
    assert Cell.open(tmp_path, "toy", {}, {}).complete


@pytest.mark.parametrize("runs_dir", ["file/runs", "/proc/runs"])
def test_runs_dir_that_cannot_be_written(tmp_path, runs_dir):
    (tmp_path / "file").write_text("")
    cell = Cell.open(tmp_path / runs_dir, "toy", {}, {})
    with pytest.raises(UserError) as caught, cell.working():
        pytest.fail("must not begin")
    assert str(caught.value).startswith(f"runs_dir={tmp_path / runs_dir}: must be a folder that can be written to (")


def test_disk_full_in_a_stage_is_a_fault_and_resumes(tmp_path):
    """The kernel refuses a write in the middle of a stage; with room again, the same cell goes on."""
    import resource

    cell = Cell.open(tmp_path, "toy", {}, {})

    def compute(folder: Path) -> None:
        (folder / "big").write_bytes(b"x" * 200_000)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(Fault) as caught, cell.working():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            cell.stage("write", compute)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = cell.folder / "stages" / "01-write"
    assert str(caught.value) == f"cannot write {folder}: the file is larger than this process may write"
    assert read_status(cell.folder).reason == str(caught.value)
    assert list((cell.folder / "stages").iterdir()) == []
    with cell.working():
        cell.stage("write", compute)
        cell.write_results({})
    assert cell.complete


def test_full_disk(tmp_path):
    """A real file system without room, where the tests may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        cell = Cell.open(small, "toy", {}, {})
        with pytest.raises(Fault, match="the disk is full"), cell.working():
            cell.stage("write", lambda folder: (folder / "big").write_bytes(b"x" * 400_000) and None)
        assert read_status(cell.folder).state == "failed"
    finally:
        subprocess.run(["umount", str(small)], check=True)
