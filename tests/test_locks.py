"""Locks of a store that machines without `flock` share: a dead holder's is taken, a living one's never.

File systems without `flock` are caused by a `flock` that answers ENOSYS, another machine by another name of the host.
"""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from fairloop import locks
from fairloop.errors import Fault
from fairloop.locks import Lock, LostError, is_locked

TESTS = Path(__file__).parent
LEASE = 0.6

# python -c SCRIPT RUNS_DIR DELAY HOST: the toy study's cell on a machine of that name, in a store without flock.
SCRIPT = """
import errno, fcntl, logging, sys
from pathlib import Path
def flock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
from fairloop import locks
locks._host = lambda: sys.argv[3]
locks.LEASE_SECONDS = 0.6
from toy_study import run
logging.basicConfig(format="%(message)s")
run(Path(sys.argv[1]), 1, float(sys.argv[2]), Path(sys.argv[1], "journal"))
"""


@pytest.fixture(autouse=True)
def without_flock(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "LEASE_SECONDS", LEASE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    from toy_study import run

    return bytes_of(run(tmp_path_factory.mktemp("undisturbed"), 1).folder)


def bytes_of(cell):
    return {path.name: path.read_bytes() for path in [cell / "result.json", *cell.glob("stages/*/corpus.txt")]}


def start(runs_dir, delay, host):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS / "tracking"), *sys.path])}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(runs_dir), str(delay), host]
    # A shell's background job ignores SIGINT, and so would what it starts: then only what is published is guarded.
    as_in_a_terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=as_in_a_terminal)


def holding(runs_dir):
    """Return the cell's folder, as soon as a process is at work in its first stage."""
    while not (found := list(runs_dir.glob("toy/*/stages/.aside-*/corpus.txt"))):
        time.sleep(0.01)
    return found[0].parents[2]


def test_a_dead_machines_cell_is_taken_after_the_lease_and_not_before(tmp_path, undisturbed):
    first = start(tmp_path, 0.5, "a")
    cell = holding(tmp_path)
    first.kill()
    first.communicate()
    killed = time.monotonic()
    assert is_locked(cell / ".lock")  # nobody on another machine can know yet
    second = start(tmp_path, 0, "b")
    _, error = second.communicate(timeout=60)
    waited = time.monotonic() - killed
    assert (second.returncode, error) == (0, f"another process is working on cell toy/{cell.name}: waiting for it\n")
    assert LEASE <= waited < LEASE + 15
    assert bytes_of(cell) == undisturbed
    assert not is_locked(cell / ".lock")


def test_a_holder_that_is_slow_but_alive_keeps_its_cell(tmp_path, undisturbed):
    first = start(tmp_path, 0.06, "a")  # 4 stages of 7 pieces: three leases
    cell = holding(tmp_path)
    second = start(tmp_path, 0, "b")
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in (first, second)]
    waiting = f"another process is working on cell toy/{cell.name}: waiting for it\n"
    assert ends == [("", 0), (waiting, 0)]
    assert (tmp_path / "journal").read_text() == "0\n1\n2\n3\n"  # each stage was computed once
    assert bytes_of(cell) == undisturbed


def test_a_holder_that_stood_still_is_told_and_publishes_nothing(tmp_path, undisturbed):
    first = start(tmp_path, 3, "a")
    cell = holding(tmp_path)
    first.send_signal(signal.SIGSTOP)
    second = start(tmp_path, 0, "b")
    _, error = second.communicate(timeout=60)
    assert second.returncode == 0, error
    sealed = {path: path.stat().st_mtime_ns for path in cell.rglob("*") if path.is_file()}
    first.send_signal(signal.SIGCONT)
    woke = time.monotonic()
    _, error = first.communicate(timeout=60)
    assert time.monotonic() - woke < LEASE + 10  # its stage alone would take 20 s more
    assert first.returncode == 1
    assert f"LostError: another process has taken over cell toy/{cell.name}: this one did not say for 0.6 s" in error
    assert {path: path.stat().st_mtime_ns for path in cell.rglob("*") if path.is_file()} == sealed
    assert bytes_of(cell) == undisturbed


def test_a_dead_process_of_this_machine_is_known_to_be_dead_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 3600.0)
    code = f"from fairloop.locks import Lock; import os, pathlib; Lock(pathlib.Path({str(tmp_path)!r}, 'lock'), 3600.0)"
    subprocess.run([sys.executable, "-c", f"{code}.acquire(); os._exit(0)"], check=True)
    assert json.loads((tmp_path / "lock-lease-1").read_text())["seconds"] == 3600
    assert not is_locked(tmp_path / "lock")
    assert Lock(tmp_path / "lock").acquire()


def test_no_clock_is_believed(tmp_path):
    """The holder's machine, or the file server, is a day ahead or behind: its lease counts as long as it changes."""
    lock, other = Lock(tmp_path / "lock", 0.5), Lock(tmp_path / "lock", 0.5)
    assert lock.acquire()
    for hours in [-24, 24] * 8:
        os.utime(tmp_path / "lock-lease-1", (0, time.time() + hours * 3600))
        assert not other.acquire()
        time.sleep(0.05)
    lock.check()
    lock.release()
    assert other.acquire()
    other.release()


def test_many_at_once_are_one_after_the_other(tmp_path):
    """The first of each round stops saying that it is alive; of those who wait, one takes over."""
    inside, most, taken = set(), [], []

    def work(number):
        lock = Lock(tmp_path / "lock", LEASE)
        for _ in range(4):
            lock.wait(poll=0.001)
            inside.add(number)
            most.append(len(inside))
            taken.append(number)
            time.sleep(0.002)
            inside.remove(number)
            lock.release()

    (tmp_path / "lock-lease-7").write_text(json.dumps({"token": "a", "seconds": 0.2, "host": "gone", "pid": 1}))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 32
    assert set(most) == {1}
    assert [path.name for path in tmp_path.glob("lock-*")] == ["lock-lease-39"]
    assert not is_locked(tmp_path / "lock")


def test_who_comes_long_after_its_number_was_free_gets_nothing(tmp_path, monkeypatch):
    """It saw number 1 die and stood still; number 2 was taken, given back and cleared away, and number 3 is held."""
    holder = Lock(tmp_path / "lock", LEASE)
    for _ in range(3):
        holder.release()
        assert holder.acquire()
    late, newest = locks._Lease(tmp_path / "lock", 2, LEASE), locks._newest(tmp_path / "lock")[0]
    assert newest == 3
    assert not late.begin()
    holder.check()
    assert [path.name for path in tmp_path.glob("lock-*")] == ["lock-lease-3"]
    holder.release()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"seconds": "x"}', '{"seconds": 1e300}', '{"seconds": -1}', "[" * 5000]
)
def test_a_lease_that_cannot_be_read_is_held_for_the_usual_time(tmp_path, content, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.2)
    (tmp_path / "lock-lease-4").write_text(content)
    lock, began = Lock(tmp_path / "lock"), time.monotonic()
    assert is_locked(tmp_path / "lock")
    lock.wait(poll=0.01)
    assert 0.2 <= time.monotonic() - began < 5
    lock.release()


def test_flock_and_leases_keep_each_other_out_where_there_is_flock(tmp_path, monkeypatch):
    monkeypatch.undo()
    native, both = Lock(tmp_path / "lock"), Lock(tmp_path / "lock", 30)
    assert native.acquire()
    assert not both.acquire()
    assert is_locked(tmp_path / "lock")
    native.release()
    assert both.acquire()
    assert not native.acquire()
    both.release()
    assert not is_locked(tmp_path / "lock")


def test_a_lost_lock_is_said_whatever_else_happened(tmp_path):
    lock = Lock(tmp_path / "lock", 3600, "cell x")
    assert lock.acquire()
    (tmp_path / "lock-lease-2").write_text(json.dumps({"token": "b", "seconds": 60, "host": "b", "pid": 1}))
    with (
        pytest.raises(LostError, match="another process has taken over cell x: this one did not say for 3600 s"),
        lock.kept(),
    ):
        raise FileNotFoundError("the winner cleared it away")
    assert json.loads((tmp_path / "lock-lease-2").read_text())["token"] == "b"


def test_no_lock_can_be_had_for_another_reason(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks available"):
        Lock(tmp_path / "lock").acquire()
    assert not list(tmp_path.glob("lock-*"))
    assert issubclass(LostError, Fault)
