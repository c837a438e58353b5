"""Files are written whole or not at all."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop import files
from fairloop.errors import Fault


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(files.ASIDE)]


def test_json_has_one_form(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, "é"]})
    files.write_json(tmp_path / "b.json", {"a": [0.1, "é"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": [\n    0.1,\n    "é"\n  ],\n  "b": 1\n}\n'.encode()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_it_cannot_say(tmp_path, value):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"a": value})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError):
        files.canonical_json({"a": value})


@given(st.integers(-(2**53), 2**53))
def test_whole_floats_and_integers_are_the_same(number):
    assert files.canonical_json({"x": [number]}) == files.canonical_json({"x": (float(number),)})


def test_canonical_json_tells_true_from_one_and_refuses_strange_keys():
    assert files.canonical_json({"x": True}) != files.canonical_json({"x": 1})
    assert files.canonical_json({"x": -0.0}) == files.canonical_json({"x": 0})
    with pytest.raises(TypeError):
        files.canonical_json({1: "a"})
    with pytest.raises(TypeError):
        files.canonical_json({"a": Path("x")})


@given(
    st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False)))
)
def test_canonical_json_keeps_the_values(data):
    assert json.loads(files.canonical_json(data)) == data


def test_digest_of_a_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert files.digest_file(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")  # FIPS 180-4
    assert files.digest_text("abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "x")
        with files.folder_written_aside(tmp_path / "b"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Fault) as caught:
        files.write_text(path, "new")
    assert str(caught.value) == f"cannot write {path}: the disk is full"
    assert path.read_text() == "old"
    assert left_behind(tmp_path) == []


def test_limit_of_the_system_on_a_file(tmp_path):
    """A real refusal by the kernel in the middle of a write, not a simulated one."""
    code = f"""
        import resource
        from pathlib import Path
        from fairloop.errors import Fault
        from fairloop.files import write_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        path = Path({str(tmp_path)!r}) / "big"
        try:
            write_bytes(path, b"x" * 10_000)
        except Fault as fault:
            print(fault)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path / 'big'}: the file is larger than this process may write\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Fault, match="is a file, not a folder"):
        files.write_text(tmp_path / "file" / "below", "x")
    with (
        pytest.raises(Fault, match="is a file, not a folder"),
        files.folder_written_aside(tmp_path / "file" / "below"),
    ):
        pass


def test_folder_appears_at_once_and_replaces(tmp_path):
    target = tmp_path / "out"
    for text in ("one", "two"):
        with files.folder_written_aside(target) as aside:
            (aside / "deep").mkdir()
            (aside / "deep" / text).write_text(text)
            assert not (target / "deep" / text).exists()
        assert [path.name for path in files.files_below(target)] == [text]
    assert left_behind(tmp_path) == []


def test_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "out"
    with files.folder_written_aside(target) as aside:
        (aside / "a").write_text("old")
    with pytest.raises(KeyError), files.folder_written_aside(target) as aside:
        (aside / "a").write_text("new")
        raise KeyError
    assert (target / "a").read_text() == "old"
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("x: No space left on device (os error 28)")]
)
def test_full_disk_inside_a_library(tmp_path, error):
    with pytest.raises(Fault, match="the disk is full"), files.computing_into(tmp_path):
        raise error


def test_other_errors_of_a_computation_are_left_alone(tmp_path):
    with pytest.raises(PermissionError), files.computing_into(tmp_path):
        raise PermissionError(errno.EACCES, "cannot read the model")


def test_killed_writer_leaves_the_old_or_the_new_file(tmp_path):
    """SIGKILL at random moments: the file is always one of the two whole versions."""
    path = tmp_path / "data"
    versions = [bytes([letter]) * 2_000_000 for letter in b"ab"]
    files.write_bytes(path, versions[0])
    code = f"""
        from pathlib import Path
        from fairloop.files import write_bytes
        while True:
            for letter in b"ab":
                write_bytes(Path({str(path)!r}), bytes([letter]) * 2_000_000)
    """
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
        time.sleep(0.15 + 0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_bytes() in versions
    (tmp_path / f"{files.ASIDE}folder").mkdir()
    (tmp_path / f"{files.ASIDE}file").write_text("half")
    files.clean_aside(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


STRANGE = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh"


def test_a_line_ends_with_a_line_feed_and_with_nothing_else():
    assert files.lines_of(f"{STRANGE}\r\n{STRANGE}\n\nlast") == [STRANGE, STRANGE, "", "last"]
    assert files.lines_of("one\n") == ["one"]


def test_csv_fields_keep_what_python_takes_for_ends_of_lines():
    header, rows = files.csv_rows(f'text,n\r\n"{STRANGE}\n2",1\r\nplain \u2028,2\n')
    assert header == ["text", "n"]
    assert [row["text"] for row in rows] == [f"{STRANGE}\n2", "plain \u2028"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('text,n\na,1\n"b,2\nc,3\n', "line 3: not CSV"),  # in a small file it swallowed the rows behind it in silence
        ('text,n\n"' + "b,2\n" * 50_000, "line 2: not CSV"),
        ("text,n\na,1\nb\n", "line 3 has 1 fields, the header 2"),
        ('text,"n\na,1\n', "line 1: not CSV"),
        ("text,n\na\rb,1\n", "line 2: not CSV"),  # no end of a line, and nothing that may stand without quotes
    ],
    ids=["small", "over 128 KiB", "short", "header", "return"],
)
def test_quotes_that_do_not_close_are_named_by_their_line(text, says):
    with pytest.raises(ValueError, match=says):
        files.csv_rows(text)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("x: No space left on device")])
def test_the_disk_that_is_full_is_named(tmp_path, monkeypatch, error):
    cache, stage = tmp_path / "cache", tmp_path / "runs" / "stage"
    cache.mkdir()
    monkeypatch.setenv("FAIRLOOP_CACHE", str(cache))

    def named(room, disks=None):
        monkeypatch.setattr(files, "_disk", lambda place: (disks or {}).get(place.name, place.name))
        monkeypatch.setattr(files, "_room", lambda place: room.get(place.name, 10**10))
        with pytest.raises(Fault, match="the disk is full") as caught, files.computing_into(stage):
            raise error
        return str(caught.value).removeprefix("cannot write ").partition(": ")[0]

    assert named({"cache": 0}) == str(cache)
    assert named({"stage": 0}) == str(stage)
    # Of one disk: what other processes write moves the room between two readings.
    assert named({"cache": 5000, "stage": 6000}, {"cache": 1, "stage": 1}) == str(stage)


def test_a_disk_without_room_for_another_file_is_full(tmp_path, monkeypatch):
    assert files._room(tmp_path / "not" / "there") > 0
    found = SimpleNamespace(f_files=1000, f_favail=0, f_bavail=10**6, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert files._room(tmp_path) == 0


def test_a_limit_on_the_size_of_a_file_is_no_full_disk(tmp_path, monkeypatch):
    """What no disk's room decides is said of the folder that was written into."""
    monkeypatch.setenv("FAIRLOOP_CACHE", "/dev/shm")
    monkeypatch.setattr(files, "_room", lambda place: 10**10 if place == tmp_path else 0)
    with pytest.raises(Fault, match=rf"cannot write {tmp_path}: the file is larger"), files.computing_into(tmp_path):
        raise OSError(errno.EFBIG, "File too large")


def test_what_lies_in_place_of_a_folder_is_replaced_and_a_link_leads_to_no_loss(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("mine")
    out = tmp_path / "out"
    for make in (lambda: out.write_text("x"), lambda: out.symlink_to("nowhere"), lambda: out.symlink_to(mine)):
        make()
        with files.folder_written_aside(out) as aside:
            (aside / "new").write_text("new")
        assert not out.is_symlink()
        assert (out / "new").read_text() == "new"
        shutil.rmtree(out)
    assert (mine / "thesis").read_text() == "mine"
    assert left_behind(tmp_path) == []


def test_a_file_that_the_error_names_is_the_one_that_is_named(tmp_path):
    with pytest.raises(Fault, match=r"cannot write /other/disk/file: the disk is full"), files.computing_into(tmp_path):
        raise OSError(28, "No space left on device", "/other/disk/file")


def test_what_lies_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "report.html" / "inner").mkdir(parents=True)
    with pytest.raises(Fault, match=r"report\.html: a folder lies in its place: remove it"):
        files.write_text(tmp_path / "report.html", "page")
    assert left_behind(tmp_path) == []
    (tmp_path / "report").write_text("a file")
    with pytest.raises(Fault, match=r"report/page\.html: a part of this path is a file, not a folder"):
        files.write_text(tmp_path / "report" / "page.html", "page")
