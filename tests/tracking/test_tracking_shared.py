"""Stages that several cells share: computed once, by one process, and never a cell's loss when they are damaged."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairloop import numerics
from fairloop.errors import Fault
from fairloop.tracking.store import SHARED_FOLDER, Cell, read_status

# python -c SCRIPT RUNS_DIR SEED DELAY: one cell whose first stage every seed shares.
SCRIPT = """
import logging, sys
from pathlib import Path
from test_tracking_shared import study
logging.basicConfig(format="%(message)s")
study(Path(sys.argv[1]), int(sys.argv[2]), delay=float(sys.argv[3]))
"""


def study(runs_dir: Path, seed: int, *, delay: float = 0.0, common: int = 7) -> tuple[Cell, list[bool]]:
    """Run a cell of two stages: one that depends on `common` alone, and one of the cell's own."""
    cell = Cell.open(runs_dir, "toy", {"seed": seed}, {"seed": seed})

    def corpus(folder: Path) -> dict[str, int]:
        (folder / "deep").mkdir()
        for part in range(20):
            (folder / "deep" / f"{part}.txt").write_text(f"{common} {part}\n" * 100)
            time.sleep(delay / 20)
        with (runs_dir / "journal").open("a") as journal:
            journal.write(f"corpus {common}\n")
        return {"pid": os.getpid()}

    def measures(folder: Path) -> None:
        (folder / "value").write_text(str(seed))

    with cell.working() as needed:
        if not needed:
            return cell, []
        first = cell.stage("corpus", corpus, settings={"common": common}, shared=True)
        second = cell.stage("measures", measures, inputs=[first], settings={"seed": seed})
        cell.write_results({})
    return cell, [first.fresh, second.fresh]


def journal(runs_dir: Path) -> list[str]:
    return (runs_dir / "journal").read_text().splitlines()


def files(cell: Cell) -> dict[str, bytes]:
    """The stage's outputs; its stage.json holds the seconds too."""
    folder = cell.folder / "stages" / "01-corpus" / "deep"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_shared_stage_is_computed_once_and_stands_whole_in_every_cell(tmp_path):
    (one, fresh), (two, again) = study(tmp_path, 1), study(tmp_path, 2)
    assert (fresh, again) == ([True, True], [False, True])
    assert journal(tmp_path) == ["corpus 7"]
    assert files(one) == files(two)
    assert len(files(one)) == 20
    assert one.complete
    assert two.complete
    # Linked, not copied: a sweep of a thousand cells keeps one corpus.
    assert (one.folder / "stages/01-corpus/deep/3.txt").samefile(two.folder / "stages/01-corpus/deep/3.txt")


def test_other_settings_or_another_store_share_nothing(tmp_path):
    for runs_dir in (tmp_path / "a", tmp_path / "b"):
        runs_dir.mkdir()
        study(runs_dir, 1)
        study(runs_dir, 2, common=8)
        assert journal(runs_dir) == ["corpus 7", "corpus 8"]


def test_a_cell_outlives_the_shared_folder_and_the_shared_folder_a_cell(tmp_path):
    one, _ = study(tmp_path, 1)
    shutil.rmtree(one.folder)
    two, fresh = study(tmp_path, 2)
    assert fresh == [False, True]
    shutil.rmtree(tmp_path / SHARED_FOLDER)
    assert two.complete
    (two.folder / "status.json").unlink()
    assert study(tmp_path, 2)[1] == [False, False]
    assert journal(tmp_path) == ["corpus 7"]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:5] + b"X" + data[6:]])
def test_a_damaged_file_is_named_and_computed_again_for_all(tmp_path, caplog, damage):
    (one, _), (two, _) = study(tmp_path, 1), study(tmp_path, 2)
    whole = files(one)
    broken = one.folder / "stages" / "01-corpus" / "deep" / "3.txt"  # linked: the other cell's file breaks with it
    broken.write_bytes(damage(broken.read_bytes()))
    assert not one.complete
    assert not two.complete
    study(tmp_path, 1)
    study(tmp_path, 2)
    assert journal(tmp_path) == ["corpus 7", "corpus 7"]
    assert files(one) == files(two) == whole
    assert any(str(broken) in record.getMessage() for record in caplog.records)


def start(runs_dir: Path, seed: int, delay: float) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(runs_dir), str(seed), str(delay)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_processes_that_want_the_same_stage_compute_it_once(tmp_path):
    processes = [start(tmp_path, seed, 0.6) for seed in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert journal(tmp_path) == ["corpus 7"]
    assert len(list((tmp_path / "toy").iterdir())) == 4


def test_a_waiting_process_takes_over_from_a_killed_one(tmp_path):
    first = start(tmp_path, 1, 120.0)
    while not list((tmp_path / SHARED_FOLDER).glob("corpus-*/*/deep/0.txt")):
        time.sleep(0.01)
    second = start(tmp_path, 2, 0.0)
    assert "another process is computing stage corpus" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, error = second.communicate(timeout=60)
    assert second.returncode == 0, error
    assert error == ""
    assert journal(tmp_path) == ["corpus 7"]
    # What the killed process left half written is gone.
    (home,) = (tmp_path / SHARED_FOLDER).iterdir()
    assert sorted(path.name for path in home.iterdir()) == ["lock", "stage"]


def test_a_shared_stage_from_another_processor_is_named_and_both_are_recorded(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(numerics, "summary", lambda: "AMX bfloat16")
    first, _ = study(tmp_path, 1)
    monkeypatch.setattr(numerics, "summary", lambda: "AVX2 float32")
    with caplog.at_level("WARNING", logger="fairloop.tracking"):
        second, _ = study(tmp_path, 2)
    (line,) = [one.message for one in caplog.records]
    assert "stage corpus was computed with AMX bfloat16, here it would be AVX2 float32" in line
    assert read_status(first.folder).numerics == ("AMX bfloat16",)
    assert read_status(second.folder).numerics == ("AMX bfloat16", "AVX2 float32")


def test_what_lies_in_place_of_a_shared_stage_is_replaced_and_in_place_of_its_lock_named(tmp_path):
    whole = files(study(tmp_path, 1)[0])
    (home,) = (tmp_path / ".stages").iterdir()
    for make in (lambda: home.write_text("no folder"), lambda: home.symlink_to("nowhere")):
        shutil.rmtree(home)
        make()
        cell = study(tmp_path, 2)[0]
        assert cell.complete
        shutil.rmtree(cell.folder)
    (home / "lock").unlink()
    (home / "lock").mkdir()
    with pytest.raises(Fault, match=rf"{home}/lock: a folder lies in its place: remove it"):
        study(tmp_path, 2)
    assert files(study(tmp_path, 1)[0]) == whole
