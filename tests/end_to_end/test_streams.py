"""Standard streams that go: a reader that left, a closed descriptor, a full disk; never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment

FAIRLOOP = f"{sys.executable} -m fairloop"


def shell(line, cwd):
    done = subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def test_a_reader_that_left_is_no_error(tmp_path):
    done = shell(f"{FAIRLOOP} --help | head -1; echo ${{PIPESTATUS[0]}}", tmp_path)
    title, status = done.stdout.splitlines()
    assert title.startswith("Fairloop")
    assert (status, done.stderr) == ("0", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_and_is_no_success(tmp_path):
    done = shell(f"{FAIRLOOP} --version > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "fairloop: the output cannot be written (No space left on device); the work goes on\n"


@pytest.mark.parametrize(
    ("command", "status"),
    [("--version >&-", 0), ("--version 2>&-", 0), ("seed=-1 >&- 2>&-", 2), ("seed=-1 <&- >&- 2>&-", 2)],
)
def test_closed_streams_change_nothing(command, status, tmp_path):
    assert shell(f"{FAIRLOOP} {command}", tmp_path).returncode == status
    assert not list(tmp_path.iterdir())


def test_few_file_descriptors_are_enough_for_an_answer_or_named(tmp_path):
    done = shell(f"ulimit -n 10; {FAIRLOOP} --version", tmp_path)
    assert done.returncode == 0 or "open files" in done.stderr


def test_a_closed_output_is_never_another_file(tmp_path):
    """With standard output closed, the next file that is opened would be descriptor 1, where `print` writes."""
    code = (
        "import os, sys; from fairloop.console import entry\n"
        "@entry('probe')\n"
        "def command(arguments):\n"
        "    with open('store.json', 'w') as file:\n"
        "        assert file.fileno() > 2\n"
        "        os.write(1, b'printed')\n"
        "    return 0\n"
        "sys.exit(command())\n"
    )
    (tmp_path / "probe.py").write_text(code)
    assert shell(f"{sys.executable} probe.py >&-", tmp_path).returncode == 0
    assert (tmp_path / "store.json").read_text() == ""
