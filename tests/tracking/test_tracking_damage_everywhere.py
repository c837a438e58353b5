"""Every kind of damage at every place of a small store: repaired to the same bytes, or named with what to remove.

Whatever happens to one cell, another one is as before, and nothing outside of the store is touched.
"""

import os
import re
import shutil

import pytest

from fairloop.errors import Fault
from fairloop.files import files_below
from fairloop.measures.measurement import Measurement
from fairloop.tracking.store import SHARED_FOLDER, Cell, is_complete, read_status

PLACES = 29
"""Files and folders of a cell of two stages, one of them shared, and of the store around it."""

KINDS = {
    "gone": lambda path, _: None,
    "empty": lambda path, _: path.write_bytes(b""),
    "garbage": lambda path, _: path.write_bytes(b"\xff\x00{\x80" * 40),
    "half YAML": lambda path, _: path.write_text("hello: [1\n"),
    "a list": lambda path, _: path.write_text("[1]"),
    "a number": lambda path, _: path.write_text("7"),
    "an empty record": lambda path, _: path.write_text("{}"),
    "deep JSON": lambda path, _: path.write_text("[" * 100_000),
    "a large number": lambda path, _: path.write_text(
        f'{{"status": "complete", "seal": {{"metrics.csv": {"9" * 5000}}}}}'
    ),
    "an empty folder": lambda path, _: path.mkdir(),
    "a folder": lambda path, _: (path / "in" / "ner").mkdir(parents=True),
    "a dangling link": lambda path, _: path.symlink_to("nowhere"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to a folder elsewhere": lambda path, elsewhere: path.symlink_to(elsewhere),
    "a link to a file elsewhere": lambda path, elsewhere: path.symlink_to(elsewhere / "mine"),
}


def run(runs_dir, seed):
    cell = Cell.open(runs_dir, "toy", {"seed": seed}, {"seed": seed})

    def write(folder, stage):
        (cell.scratch() / "checkpoint").write_text("half")
        (folder / "deep").mkdir()
        (folder / "corpus.txt").write_text(f"{stage}\n" * 50)
        (folder / "deep" / "measure.json").write_text('{"value": 1}')

    with cell.working() as needed:
        if needed:
            first = cell.stage("seed", lambda folder: write(folder, 0), shared=True)
            cell.stage("more", lambda folder: write(folder, 1), inputs=[first], settings={"seed": seed})
            cell.write_results({None: [Measurement("equilibrium/level", 0.5, None, None, 4)]})
    return cell


def content(cell):
    """What has to be the same bytes after a repair."""
    kept = [path for path in files_below(cell.folder) if path.suffix in (".csv", ".txt", ".yaml")]
    kept += [cell.folder / name for name in ("deciding.json", "result.json")]
    return {str(path): path.read_bytes() for path in kept}


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def places_of(store, cell):
    own = [path for path in store.rglob("*") if SHARED_FOLDER in path.parts or cell.folder in (path, *path.parents)]
    return sorted({*own, cell.folder.parent, cell.folder / "scratch"})


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_any_damage_at_any_place_is_repaired_or_named(tmp_path, make):
    whole, store, elsewhere = tmp_path / "whole", tmp_path / "runs", tmp_path / "elsewhere"
    cell = run(store, 1)
    run(store, 2)
    wanted, places = content(cell), places_of(store, cell)
    assert len(places) == PLACES
    store.rename(whole)
    for place in places:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(whole, store, symlinks=True)
        shutil.rmtree(elsewhere, ignore_errors=True)
        elsewhere.mkdir()
        (elsewhere / "mine").write_text("mine")
        if SHARED_FOLDER in place.parts or place.name == "scratch":  # what only a cell at work reads
            (cell.folder / "status.json").unlink()
            shutil.rmtree(cell.folder / "stages")
        remove(place)
        make(place, elsewhere)
        read_status(cell.folder)
        is_complete(cell.folder)
        said = None
        try:
            run(store, 1)
        except Fault as fault:
            said = str(fault)
        if said is None:
            assert is_complete(cell.folder)
            assert content(cell).items() >= wanted.items() or place.is_symlink()
        else:  # locks, and what a whole cell or study lies in, are for the user to remove
            assert place.name in (".lock", "lock") or place in (cell.folder, cell.folder.parent)
            assert re.search(rf"{re.escape(str(place))}\b.*: remove it$", said)
        if place != cell.folder.parent:
            run(store, 2)
        assert (elsewhere / "mine").read_text() == "mine"
