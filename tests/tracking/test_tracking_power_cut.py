"""A power cut: what was not flushed to the disk is gone, and the next command still ends with the same bytes."""

import subprocess
import sys
from pathlib import Path

import pytest
import toy_study

SHIM = Path(__file__).parent / "power_cut.py"
FINAL = ("metrics.csv", "result.json", "config.yaml", "deciding.json")


def cut_power(folder, number):
    command = [sys.executable, str(SHIM), str(folder / "runs"), str(number), str(folder / "after")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The final files, and how many flushes and renames there are."""
    folder = tmp_path_factory.mktemp("whole")
    done = cut_power(folder, 0)
    assert done.returncode == 0, done.stderr
    (cell,) = (folder / "runs" / "toy").iterdir()
    return {name: (cell / name).read_bytes() for name in FINAL if name != "config.yaml"}, int(done.stdout)


def check(number, whole, folder):
    assert cut_power(folder, number).returncode == 99
    for kind in ("strict", "eager"):
        cell = toy_study.run(folder / "after" / kind, 1)
        assert cell.complete
        assert {name: (cell.folder / name).read_bytes() for name in whole} == whole, (number, kind)


@pytest.mark.parametrize("part", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
def test_after_a_power_cut_the_result_is_the_same(part, whole, tmp_path):
    final, calls = whole
    check(max(1, round(part * calls)), final, tmp_path)


@pytest.mark.slow
def test_after_a_power_cut_at_every_flush_and_rename_the_result_is_the_same(whole, tmp_path):
    final, calls = whole
    assert calls > 40
    for number in range(1, calls + 1):
        check(number, final, tmp_path / str(number))


def test_the_shim_sees_a_rename_before_its_flush(tmp_path):
    """What a careless writer does: its file is there after the cut, and empty."""
    code = (
        "import sys, pathlib, power_cut as shim\n"
        "runs = pathlib.Path(sys.argv[1]); runs.mkdir()\n"
        "(runs / 'a').write_bytes(b'data'); (runs / 'a').rename(runs / 'b')\n"
        "top = runs.stat().st_ino; shim.build(runs / 'after', top, {top: shim.listing(runs)})\n"
        "print((runs / 'after' / 'b').read_bytes())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SHIM.parent, check=False)
    assert done.stdout.strip() == "b''", done.stderr
