"""Who works on a folder: one process at a time, on one machine or on many that share a file system.

A lock is the file system's own (`flock`): the system releases it when its process ends, however that ends. Where there
is none (Lustre mounted without it, some mounts over FUSE: ENOSYS) a lock is a *lease*, a file `<lock>-lease-<number>`
that its holder rewrites three times in its duration. A waiting process that has seen no change for the whole duration,
by its own monotonic clock, takes the next number. So no clock is compared with another, and nothing is asked of the
file system but that a file can be created by one process alone (`O_EXCL`): filelock's own lease is taken from a dead
host only where two names can be exchanged, which such file systems refuse.

A lease is no proof: a holder that stood still for longer has lost it without knowing. When it wakes it is stopped
within a third of the duration, and it looks once more before it publishes anything (`Lock.check`).
"""

import _thread
import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop.errors import Fault

LEASE_SECONDS = 120.0
"""How long a dead host keeps a lease, where no setting says otherwise: longer than a file server takes to restart."""

BEATS = 3  # in the duration of a lease: two may be lost
LONGEST_LEASE = 3600.0

_NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP}


class LostError(Fault):
    """Another process has taken over what this one was working on."""


@dataclass
class Lock:
    """A lock that can be taken and given back; not shared between threads.

    Attributes:
        path: the file of the lock; its folder must exist.
        lease_seconds: None: `flock`, and a lease of `LEASE_SECONDS` where there is none. A number: always a lease too.
        what: what it is the lock of, for the line that says that it was lost.
    """

    path: Path
    lease_seconds: float | None = None
    what: str = "this"
    _native: Any = field(default=None, init=False, repr=False)
    _lease: "_Lease | None" = field(default=None, init=False, repr=False)
    _seen: tuple[Any, float] = field(default=(None, 0.0), init=False, repr=False)

    def acquire(self) -> bool:
        """Take the lock if it is free; does not wait. To be called again and again by who waits.

        Raises:
            OSError: the file of the lock cannot be made or opened.
        """
        from filelock import FileLock, Timeout

        native = self._native or FileLock(self.path, timeout=0, fallback_to_soft=False)
        seconds = self.lease_seconds
        try:
            native.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            native, seconds = None, seconds or LEASE_SECONDS
        self._native = native  # at once: what interrupts us from here on leaves a lock that `release` gives back
        try:
            taken = seconds is None or self._take_lease(seconds)
        except OSError:
            self.release()
            raise
        if not taken:
            self.release()
        return taken

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._lease is not None:
            try:
                self._lease.end()
            except KeyboardInterrupt:
                if not self._lease.interrupts:
                    raise
                self._lease.end()  # the lease's own interruption, which came when all was done
        if self._native is not None:
            self._native.release()
        self._lease = self._native = None

    def check(self) -> None:
        """Raise `LostError` if another process has taken the lock over; to be called before anything is published."""
        if self._lease is not None and not self._lease.is_mine():
            raise LostError(
                f"another process has taken over {self.what}: this one did not say for {self._lease.seconds:g} s "
                "that it was alive"
            )

    def wait(self, waiting: Callable[[], None] = lambda: None, poll: float = 0.1) -> None:
        """Take the lock, waiting for it; `waiting` is called once, if there is a wait. Raises as `acquire` does."""
        waits = False
        while not self.acquire():
            if not waits:
                waiting()
            waits = True
            time.sleep(poll)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Release the lock at the end of a block, if it is held then.

        Raises:
            LostError: another process took it over meanwhile, whatever else the block raised.
        """
        try:
            try:
                yield
            finally:
                self.check()  # who lost it may have met anything: the winner clears away what is half written
        finally:
            self.release()

    def _take_lease(self, seconds: float) -> bool:
        number, content = _newest(self.path)
        record = _read(content)
        if number and not record.get("released"):
            if self._seen[0] != (number, content):
                self._seen = (number, content), time.monotonic()
            unchanged = time.monotonic() - self._seen[1]
            if unchanged < float(record["seconds"]) and not _is_dead_here(record):
                return False
        self._lease = _Lease(self.path, number + 1, seconds)
        if self._lease.begin():
            return True
        self._lease = None
        return False


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock; does not wait, and takes no lease.

    Of a lease the age counts, by the clock of the file system that it lies on.
    """
    try:
        number, content = _newest(path)
    except OSError:
        return False
    record = _read(content)
    if number and not record.get("released") and not _is_dead_here(record):
        with suppress(OSError):
            changed = _lease_file(path, number).stat().st_mtime
            if _time_of_files(path.parent) - changed < float(record["seconds"]):
                return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_FLOCK
    finally:
        os.close(descriptor)
    return False


@dataclass
class _Lease:
    """A lease that this process has taken, kept alive by a thread until it is given back."""

    path: Path
    number: int
    seconds: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    interrupts: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def file(self) -> Path:
        return _lease_file(self.path, self.number)

    def begin(self) -> bool:
        """Create the file and keep it alive; False if another process was faster."""
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        try:
            self._write()
            if _newest(self.path)[0] > self.number:  # made long after its number was free: that time is over
                self.file.unlink(missing_ok=True)
                return False
            for older in _leases(self.path):
                if older < self.number:
                    _lease_file(self.path, older).unlink(missing_ok=True)
        except BaseException:
            self.file.unlink(missing_ok=True)
            raise
        in_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._beat, args=(in_main,), name="fairloop-lease", daemon=True)
        self._thread.start()
        return True

    def end(self) -> None:
        """Say that the lease is free, unless it was lost; the file stays, for the numbers must not begin again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):
            if self.is_mine():
                self._write(released=True)

    def is_mine(self) -> bool:
        """Tell whether the newest lease is this one; a file system that does not answer leaves it so."""
        try:
            number, content = _newest(self.path)
        except OSError:
            return True
        return number == self.number and _read(content).get("token") == self.token

    def _beat(self, in_main: bool) -> None:
        beat = 0
        while not self._stop.wait(self.seconds / BEATS):
            with suppress(OSError):  # a file server that restarts: what cannot be written now may be written in time
                if self.is_mine():
                    beat += 1
                    self._write(beat=beat)
                    continue
                if in_main:
                    self.interrupts = True
                    _thread.interrupt_main()  # what is computed now is another process's: `Lock.kept` says so
                return

    def _write(self, **more: Any) -> None:
        record = {"token": self.token, "seconds": self.seconds, "host": _host(), "pid": os.getpid(), **more}
        content = json.dumps(record).encode()
        with self.file.open("r+b") as stream:  # never made anew
            stream.write(content + b"\n")
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())


def _lease_file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-lease-{number}")


def _leases(path: Path) -> list[int]:
    beginning = f"{path.name}-lease-"
    ends = [place.name.removeprefix(beginning) for place in path.parent.iterdir() if place.name.startswith(beginning)]
    return sorted(int(end) for end in ends if end.isascii() and end.isdecimal())


def _newest(path: Path) -> tuple[int, bytes]:
    """Return the highest number of a lease and what its file says; 0 where there is none."""
    for number in reversed(_leases(path)):
        with suppress(FileNotFoundError):  # a higher one is there by now, or the folder is gone
            return number, _lease_file(path, number).read_bytes()[:4096]
    return 0, b""


def _read(content: bytes) -> dict[str, Any]:
    """Return the record of a lease; one that is half written, or no record, counts as held for the usual time."""
    try:
        record = json.loads(content)
        seconds = float(record["seconds"])
        if 0 < seconds <= LONGEST_LEASE:
            return {**record, "seconds": seconds}
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    return {"seconds": LEASE_SECONDS}


def _is_dead_here(record: dict[str, Any]) -> bool:
    """Tell whether the holder is known to be gone: it was a process of this machine, and there is no such process."""
    if record.get("host") != _host() or not isinstance(record.get("pid"), int) or record["pid"] <= 0:
        return False
    try:
        os.kill(record["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def _host() -> str:
    """Name the machine since it was started, and the space of process numbers on it: containers share neither."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def _time_of_files(folder: Path) -> float:
    """Return the time by the clock that dates files in a folder; by this machine's where none can be made."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()
