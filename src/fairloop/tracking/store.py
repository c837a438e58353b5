"""The run store: one folder per cell, in which a killed study goes on where it stopped.

    <runs_dir>/.stages/<name>-<hash>/  the stages that several cells share; may be removed when no study runs
    <runs_dir>/<study>/<cell>/
        config.yaml          the resolved configuration of the command that last worked on the cell
        deciding.json        what of it decides the result, and the study's version: what the cell's name is a hash of
        environment.json     package versions, git revision, hardware
        stages/<nn>-<name>/  each finished stage's outputs and its stage.json
        metrics.csv          generation,metric,value,low,high,n,units
        result.json          {"metric@generation": number}
        status.json          running, complete or failed, with the reason; when complete, a seal of what the cell is
                             and of its result: every other file but environment.json

A process works on a cell while it holds the lock `.lock` in the cell's folder (`fairloop.locks`). The lock ends with
the process, however that ends, so a cell that says `running` without a held lock was interrupted and can go on.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fairloop import numerics
from fairloop.errors import Fault, UserError
from fairloop.files import (
    canonical_json,
    clean_aside,
    digest_file,
    digest_text,
    explain,
    files_below,
    remove,
    write_json,
    write_text,
    writing,
)
from fairloop.locks import Lock, LostError, is_locked
from fairloop.tracking.results import Results, metrics_csv, result_json
from fairloop.tracking.stages import Compute, Stage, obtain, obtain_shared, read_stage, stage_identity

LOCK_FILE = ".lock"
STATUS_FILE = "status.json"
SHARED_FOLDER = ".stages"
CONFIG_FILE = "config.yaml"
DECIDING_FILE = "deciding.json"
ENVIRONMENT_FILE = "environment.json"
RESULT_FILES = ("metrics.csv", "result.json")
SEALED_FILES = (CONFIG_FILE, DECIDING_FILE, *RESULT_FILES)
KEY_LENGTH = 16  # hex digits: 64 bits, so that 100,000 cells share a key with probability 3e-10

INTERRUPTED = "interrupted"  # the reason of a cell that a signal ended, which is no fault of its own

State = Literal["absent", "running", "interrupted", "complete", "failed"]

_WORDS = {"absent": "not started", "running": "at work in another process"}

_log = logging.getLogger("fairloop.tracking")


def cell_key(study: str, deciding: dict[str, Any], method: int = 1) -> str:
    """Return a cell's name: a hash of its study, of the settings that decide its result and of the method's version.

    Equal settings give the same name in any order of keys, and whether a number is written 1 or 1.0.

    Args:
        study: the study's name.
        deciding: the deciding settings as plain data (`Settings.deciding()`).
        method: the version of the study's method; raised when the code changes so that old results no longer hold.
    """
    return digest_text(canonical_json({"study": study, "deciding": deciding, "method": method}))[:KEY_LENGTH]


@dataclass(frozen=True)
class Status:
    """What a cell's `status.json` says, checked against whether a process is at work.

    Attributes:
        state: `absent` (never started), `running` (a process is at work), `interrupted` (its process is gone),
            `complete` or `failed`.
        reason: why it failed, in one line; empty otherwise.
        started: when the last process began, ISO 8601 in UTC; empty if never.
        ended: when it completed or failed; empty otherwise.
        numerics: what its stages were computed with (`numerics.summary`), once it is complete.
    """

    state: State
    reason: str = ""
    started: str = ""
    ended: str = ""
    numerics: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Status":
        """Return what a record says of itself: a cell that is `running` may have lost its process since."""
        if "status" not in record:
            return cls("absent")
        state, reason = record["status"], record.get("reason") or ""
        if state == "failed" and reason == INTERRUPTED:
            state = "interrupted"
        return cls(state, reason, record.get("started", ""), record.get("ended", ""), tuple(record.get("numerics", ())))

    @property
    def in_words(self) -> str:
        """The state as every list of cells names it, with the reason of a failure."""
        words = _WORDS.get(self.state, self.state)
        return f"{words}: {self.reason}" if self.reason not in ("", self.state) else words


def read_status(folder: Path) -> Status:
    """Return the status of a cell's folder; does not wait, writes nothing."""
    status = Status.of(_read_record(folder))
    return (
        replace(status, state="interrupted")
        if status.state == "running" and not is_locked(folder / LOCK_FILE)
        else status
    )


def is_complete(folder: Path) -> bool:
    """Tell whether a cell is finished and every file of its result still is what was written. Fast; imports nothing.

    A file whose size and time of change are those recorded counts as untouched; any other is read and compared by its
    checksum, so that a copied store is still complete.
    """
    record = _read_record(folder)
    return record.get("status") == "complete" and not broken(folder, record)


class IncompleteError(Exception):
    """A finished cell that is only read does not hold what is asked for."""


@dataclass
class Cell:
    """One point of a sweep: its folder, its name, and its stages in the order in which the study asks for them.

    Nothing is read or written until `working` is entered.
    """

    folder: Path
    study: str
    key: str
    config: dict[str, Any]
    deciding: dict[str, Any]
    _position: int = field(default=0, init=False, repr=False)
    _scratch: Path | None = field(default=None, init=False, repr=False)
    _finished: bool = field(default=False, init=False, repr=False)
    _reads: bool = field(default=False, init=False, repr=False)
    _numerics: set[str] = field(default_factory=set, init=False, repr=False)
    _held: Lock | None = field(default=None, init=False, repr=False)

    @classmethod
    def open(
        cls, runs_dir: Path | str, study: str, deciding: dict[str, Any], config: dict[str, Any], *, method: int = 1
    ) -> "Cell":
        """Return the cell of a configuration.

        Args:
            runs_dir: the store's folder.
            study: the study's name.
            deciding: the settings that decide the result, as plain data.
            config: the whole resolved configuration, as plain data, for `config.yaml`.
            method: the version of the study's method.
        """
        key = cell_key(study, deciding, method)
        return cls(Path(runs_dir) / study / key, study, key, config, {**deciding, "version": method})

    @property
    def complete(self) -> bool:
        """Whether the cell is finished and its files are intact."""
        return is_complete(self.folder)

    @contextmanager
    def working(self) -> Iterator[bool]:
        """Hold the cell while the study runs; yield whether there is anything to do.

        Waits, with one line, while another process holds the cell, and yields False if that process completed it. When
        the block ends well the cell is complete; when it raises, the cell is failed with the reason, and goes on after
        its last finished stage next time. A user's mistake that is noticed before the first stage is finished leaves no
        folder behind.

        Raises:
            UserError: the folder cannot be made or written (`runs_dir`).
            LostError: another process took the cell over, for this one stood still; nothing is written then.
            Fault: the disk is full or reports an error.
        """
        with self._lock() as is_new:
            if self.complete:
                yield False
                return
            self._begin()
            try:
                yield True
                self._complete()
            except BaseException as error:
                self._check_held()
                self._fail(error, is_new=is_new)
                raise

    def stage(
        self,
        name: str,
        compute: Compute,
        *,
        inputs: Sequence[Stage] = (),
        settings: dict[str, Any] | None = None,
        shared: bool = False,
    ) -> Stage:
        """Return a finished stage of this cell, computing it only if it is not kept already (see `stages.obtain`).

        Args:
            name: the stage's name, unique within the cell; its folder also carries its position in the study.
            compute: writes the outputs into the empty folder it is given; may return notes (timings, counts).
            inputs: the finished stages it reads: it is computed again when their outputs change.
            settings: the settings it reads, beyond those that already name the cell; all of them if it is shared.
            shared: whether other cells of the store may use it (see `stages.obtain_shared`).
        """
        self._position += 1
        label = f"{self._position:02d}-{name}"
        place = self.folder / "stages" / label
        if self._reads:
            kept = read_stage(place, name, inputs, settings)
            if kept is None:
                raise IncompleteError(f"{place} is not kept as it is asked for")
            return kept
        digest = digest_text(canonical_json(stage_identity(name, inputs, settings)))[:KEY_LENGTH]
        home = self.folder.parents[1] / SHARED_FOLDER / f"{name}-{digest}"
        self._scratch = home / "scratch" if shared else self.folder / "scratch" / f"{label}-{digest}"
        try:
            if shared:
                seconds = self.config.get("lease_seconds")
                stage = obtain_shared(place, home, name, compute, inputs, settings, self._check_held, seconds)
            else:
                stage = obtain(place, name, compute, inputs, settings, self._check_held)
        finally:
            scratch, self._scratch = self._scratch, None
        if stage.fresh or not shared:  # a stage that another process computes again has its checkpoints there
            shutil.rmtree(scratch, ignore_errors=True)
        self._note_numerics(stage)
        return stage

    def _note_numerics(self, stage: Stage) -> None:
        """Keep what a stage was computed with; say so once if that is not what this process computes with."""
        here = numerics.summary()
        if stage.numerics and here and stage.numerics not in self._numerics | {here}:
            _log.warning(
                "stage %s was computed with %s, here it would be %s: equal in distribution, not to the byte",
                stage.name,
                stage.numerics,
                here,
            )
        self._numerics |= {stage.numerics} - {""}

    def scratch(self) -> Path:
        """Return the running stage's folder that survives a kill, for checkpoints that its next attempt goes on from.

        It belongs to these inputs and settings, and is removed when the stage is finished. To be called by `compute`,
        which answers for reading only what is whole.
        """
        if self._scratch is None:
            raise RuntimeError("scratch() is for the computation of a stage")
        with writing(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def write_results(self, results: Results) -> None:
        """Write `metrics.csv` and `result.json`; to be called once, at the end of the study.

        Args:
            results: the measures of each generation, in the order they are to stand in; the cell's own under None.
        """
        if self._reads:
            return
        self._check_held()
        write_text(self.folder / "metrics.csv", metrics_csv(results))
        write_text(self.folder / "result.json", result_json(results))
        self._finished = True

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the study of a finished cell read its stages again: nothing is computed and nothing is written.

        Raises:
            IncompleteError: the study asks for a stage that is not kept, or was made in another way.
        """
        self._position, self._reads = 0, True
        try:
            yield
        finally:
            self._reads = False

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Hold the lock between processes; yield whether this process made the cell's folder."""
        lock = Lock(self.folder / LOCK_FILE, self.config.get("lease_seconds"), f"cell {self.study}/{self.key}")
        is_new, waiting, taken = not self.folder.exists(), False, False
        while not taken:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _unusable(self.folder, error) from error
            try:
                taken = lock.acquire()
            except FileNotFoundError:
                continue  # the process before us met a user's mistake and took the empty folder away
            except OSError as error:
                raise _unusable(self.folder, error) from error
            if not taken:
                if not waiting:
                    _log.warning("another process is working on cell %s/%s: waiting for it", self.study, self.key)
                is_new, waiting = False, True
                time.sleep(0.1)
        self._held = lock
        with lock.kept():
            yield is_new

    def _check_held(self) -> None:
        """Raise `LostError` if the cell is another process's by now."""
        if self._held is not None:
            self._held.check()

    def _clear_the_way(self) -> None:
        """Remove what lies where the cell keeps its own: a folder in place of a file, a file in place of a folder.

        Of a link only the link is removed; one to a folder, in place of a folder, is the user's way to another disk.
        """
        files = [self.folder / name for name in (STATUS_FILE, ENVIRONMENT_FILE, *SEALED_FILES)]
        folders = [self.folder / "stages", self.folder / "scratch", self.folder.parents[1] / SHARED_FOLDER]
        for place in [path for path in files if path.is_dir()] + [path for path in folders if not path.is_dir()]:
            if os.path.lexists(place):
                _log.warning("%s is %s; it is removed", place, "a folder" if place in files else "no folder")
                remove(place)

    def _begin(self) -> None:
        self._position, self._finished = 0, False
        self._numerics.clear()
        clean_aside(self.folder)
        clean_aside(self.folder / "stages")
        self._clear_the_way()
        record = _read_record(self.folder)
        for name in broken(self.folder, record):
            if not name.startswith("stages/"):  # a stage names its own broken files when it is asked for
                _log.warning("%s was altered or is missing; it is written again", self.folder / name)
        import yaml

        from fairloop.tracking.environment import environment

        try:
            write_text(self.folder / CONFIG_FILE, yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))
            write_text(self.folder / DECIDING_FILE, canonical_json(self.deciding) + "\n")
            write_json(self.folder / ENVIRONMENT_FILE, environment())
            self._write_status("running", started=_now())
        except OSError as error:
            raise _unusable(self.folder, error) from error

    def _complete(self) -> None:
        if not self._finished:
            raise RuntimeError(f"study {self.study} ended without write_results")
        from fairloop.tracking.environment import environment

        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        # The fingerprint is known only now: it takes torch, which the first stage that needs it loads.
        write_json(self.folder / ENVIRONMENT_FILE, {**environment(), "numerics": numerics.fingerprint()})
        self._write_status("complete", ended=_now(), seal=_seal(self.folder), numerics=sorted(self._numerics))

    def _fail(self, error: BaseException, *, is_new: bool) -> None:
        if isinstance(error, UserError) and is_new and not any(self.folder.glob("stages/*/")):
            remove(self.folder)
            return
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | LostError):
            reason = INTERRUPTED
        else:
            first = " ".join(str(error).split()) or "no message"
            reason = first if isinstance(error, UserError | Fault) else f"{type(error).__name__}: {first}"
        try:
            self._write_status("failed", reason=reason, ended=_now())
        except (OSError, Fault) as failure:  # the disk may be full: the first error is the one to report
            _log.warning("the cell's status could not be written: %s", failure)

    def _write_status(self, status: str, **details: Any) -> None:
        self._check_held()
        kept = _read_record(self.folder)
        record = {"study": self.study, "cell": self.key, "started": kept.get("started", ""), "reason": "", **details}
        write_json(self.folder / STATUS_FILE, {**record, "status": status})


def _seal(folder: Path) -> dict[str, list[Any]]:
    """Return checksum, size and time of change of every file that says what the cell is or carries its result."""
    paths = [folder / name for name in SEALED_FILES] + files_below(folder / "stages")
    stats = [(path, path.stat()) for path in paths]
    return {
        path.relative_to(folder).as_posix(): [digest_file(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats
    }


def broken(folder: Path, record: dict[str, Any], *, by_content: bool = False) -> list[str]:
    """Return the sealed files that no longer are what was written, in order of name.

    `by_content`: of the files in the cell's folder itself, by their checksums whatever their size and time of change;
    for who reads them all anyway.
    """
    seals = record.get("seal", {})
    names = [name for name in sorted(seals) if not (by_content and "/" in name)]
    return [name for name in names if not _is_intact(f"{folder}/{name}", seals[name], by_content=by_content)]


def _is_intact(path: str, seal: list[Any], *, by_content: bool) -> bool:
    try:
        checksum, size, changed = seal
        stat = os.stat(path)  # noqa: PTH116 (a sweep asks for thousands of files)
        if (stat.st_size, stat.st_mtime_ns) == (size, changed) and not by_content:
            return True
        return bool(stat.st_size == size and digest_file(Path(path)) == checksum)
    except (OSError, TypeError, ValueError):
        return False


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        with open(f"{folder}/{STATUS_FILE}", "rb") as stream:  # noqa: PTH123
            record = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return sound_record(record)


def sound_record(record: Any, *, needs_seal: bool = True) -> dict[str, Any]:
    """Return what a `status.json` holds if it has the shape in which a cell leaves it, else an empty record.

    `needs_seal`: a cell that is `complete` without the seal of its files is not believed: nothing says what they were.
    """
    shape = {"status": str, "reason": str, "started": str, "ended": str, "numerics": list, "seal": dict}
    if not isinstance(record, dict) or record.get("status") not in ("running", "complete", "failed"):
        return {}
    if not all(isinstance(record[name], kind) for name, kind in shape.items() if name in record):
        return {}
    if not all(isinstance(one, str) for one in record.get("numerics", ())):
        return {}
    if needs_seal and record["status"] == "complete" and not set(RESULT_FILES) <= set(record.get("seal", ())):
        return {}
    return record


def _unusable(folder: Path, error: OSError) -> UserError | Fault:
    """A folder that cannot be made is a mistake in `runs_dir`, unless the disk is full or something in the way."""
    import errno

    runs_dir, lock = folder.parent.parent, folder / LOCK_FILE
    for place in (folder.parent, folder):
        if os.path.lexists(place) and not place.is_dir():
            return Fault(f"{place} is no folder, as it must be for the cell to be kept there: remove it")
    if lock.is_symlink() or lock.is_dir():
        return Fault(f"{lock} is a {'link' if lock.is_symlink() else 'folder'}, where a lock must be: remove it")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return explain(error, folder) or Fault(f"cannot write {folder}: {error}")
    reason = error.strerror or str(error)
    return UserError.of("runs_dir", runs_dir, f"must be a folder that can be written to ({reason.lower()})")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
