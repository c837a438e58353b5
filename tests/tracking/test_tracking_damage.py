"""A damaged store: the next command repairs it, to the same bytes, and one damaged cell stops no other."""

import json
import shutil

import pytest
from toy_study import run

from fairloop.errors import Fault
from fairloop.files import remove
from fairloop.tracking.store import is_complete, read_status


def _status(change):
    def damage(cell):
        path = cell.folder / "status.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


def _folder(name):
    def damage(cell):
        (cell.folder / name).unlink()
        (cell.folder / name / "inner").mkdir(parents=True)

    return damage


def _stages_are(make):
    def damage(cell):
        shutil.rmtree(cell.folder / "stages")
        make(cell.folder / "stages")

    return damage


def _one_stage_is(make):
    def damage(cell):
        stage = cell.folder / "stages" / "02-generation-1"
        shutil.rmtree(stage)
        make(stage)

    return damage


def _file(path):
    path.write_text("not a folder")


def _dangling(path):
    path.symlink_to("nowhere")


def _link_to_a_folder(name):
    def damage(cell):
        aside = cell.folder.parents[1] / "aside"
        (aside / "inner").mkdir(parents=True)
        (cell.folder / name).unlink()
        (cell.folder / name).symlink_to(aside)

    return damage


DAMAGE = {
    "a seal that is a list": _status(lambda record: record | {"seal": [1]}),
    "a seal of numbers": _status(lambda record: record | {"seal": {"metrics.csv": 1, "result.json": 2}}),
    "another shape": _status(lambda record: {"status": "complete", "seal": [1]}),
    "no seal": _status(lambda record: {key: value for key, value in record.items() if key != "seal"}),
    "an empty seal": _status(lambda record: record | {"seal": {}}),
    "an unknown state": _status(lambda record: record | {"status": "done"}),
    "a state that is a list": _status(lambda record: record | {"status": ["complete"]}),
    "times that are numbers": _status(lambda record: record | {"started": 7, "ended": None}),
    "numerics that are none": _status(lambda record: record | {"numerics": [1, {}]}),
    "a list": _status(lambda record: [record]),
    "a number": _status(lambda record: 7),
    "half a file": lambda cell: (cell.folder / "status.json").write_bytes(b'{"status": "comp'),
    "deep JSON": lambda cell: (cell.folder / "status.json").write_text("[" * 100_000),
    "metrics.csv is a folder": _folder("metrics.csv"),
    "result.json is a folder": _folder("result.json"),
    "config.yaml is a folder": _folder("config.yaml"),
    "status.json is a folder": _folder("status.json"),
    "metrics.csv is a link to a folder": _link_to_a_folder("metrics.csv"),
    "config.yaml is a link to a folder": _link_to_a_folder("config.yaml"),
    "garbage in config.yaml": lambda cell: (cell.folder / "config.yaml").write_bytes(b"\xff\x00{"),
    "an edited deciding.json": lambda cell: (cell.folder / "deciding.json").write_text("{}"),
    "stages is a file": _stages_are(_file),
    "stages is a dangling link": _stages_are(_dangling),
    "a stage is a file": _one_stage_is(_file),
    "a stage is a dangling link": _one_stage_is(_dangling),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_same_command_repairs_a_damaged_cell_and_keeps_its_neighbour(tmp_path, damage):
    cell, other = run(tmp_path, 1), run(tmp_path, 2)
    names = ("metrics.csv", "result.json", "config.yaml", "deciding.json")
    before = {name: (cell.folder / name).read_bytes() for name in names}
    damage(cell)
    assert not is_complete(cell.folder)
    assert is_complete(other.folder)
    assert read_status(cell.folder).state in ("absent", "complete", "interrupted", "failed")
    run(tmp_path, 1)
    assert is_complete(cell.folder)
    assert {name: (cell.folder / name).read_bytes() for name in names} == before


def test_what_a_user_keeps_in_the_store_is_left_alone(tmp_path):
    """A note among the stages, and stages that were moved to another disk, survive a repair."""
    cell, disk = run(tmp_path / "runs", 1), tmp_path / "disk"
    (cell.folder / "stages").rename(disk)
    (cell.folder / "stages").symlink_to(disk)
    (disk / "notes.txt").write_text("mine")
    before = (cell.folder / "result.json").read_bytes()
    (cell.folder / "result.json").write_text("{}")
    run(tmp_path / "runs", 1)
    assert (disk / "notes.txt").read_text() == "mine"
    assert (cell.folder / "stages").readlink() == disk
    assert (cell.folder / "result.json").read_bytes() == before


IN_THE_WAY = {
    "the study is a file": ("..", _file),
    "the cell is a file": ("", _file),
    "the cell is a dangling link": ("", _dangling),
    "the lock is a folder": (".lock", lambda path: path.mkdir()),
    "the lock is a link": (".lock", _dangling),
}


@pytest.mark.parametrize(("name", "make"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_a_command_does_not_remove_by_itself_is_named(tmp_path, name, make):
    cell = run(tmp_path, 1)
    path = (cell.folder / name).resolve()
    (cell.folder / "result.json").write_text("{}")
    remove(path)
    make(path)
    with pytest.raises(Fault, match=rf"^{path} is .*: remove it$"):
        run(tmp_path, 1)
    if name != "..":
        run(tmp_path, 2)  # a neighbour is as before
    remove(path)
    assert is_complete(run(tmp_path, 1).folder)
