"""A stage: a step whose result is kept in a folder, verified when it is read, and never computed twice.

Nothing here knows of cells: the folder is given. A cell keeps its stages in its own folder. A stage whose settings say
all that decides it can be shared by cells (`obtain_shared`): it is computed once for the whole store.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fairloop import numerics
from fairloop.files import (
    canonical_json,
    clean_aside,
    computing_into,
    digest_file,
    digest_text,
    files_below,
    folder_written_aside,
    link_tree,
    write_json,
    writing,
)
from fairloop.locks import Lock

STAGE_FILE = "stage.json"
LOCK_FILE = "lock"

Compute = Callable[[Path], dict[str, Any] | None]
Check = Callable[[], None]

_log = logging.getLogger("fairloop.tracking")


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        name: the stage's name, without its number.
        folder: where its outputs are; read only.
        digest: SHA-256 over its outputs' names and checksums. A later stage is recomputed when it changes.
        seconds: how long the computation took, when it was computed.
        notes: what the computation reported beside its outputs (timings, counts); decides nothing.
        fresh: whether this process computed it just now (False: it was finished before).
        outputs: SHA-256 of each output by its path within the folder.
        numerics: what it was computed with (`numerics.summary`); empty for a stage that is older than that record.
    """

    name: str
    folder: Path
    digest: str
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    outputs: dict[str, str] = field(default_factory=dict)
    numerics: str = ""


def stage_identity(name: str, inputs: Sequence[Stage], settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return what decides a stage's outputs: its name, its inputs' digests and its settings, as plain data."""
    described = {
        "name": name,
        "inputs": [{"stage": stage.name, "digest": stage.digest} for stage in inputs],
        "settings": settings or {},
    }
    identity: dict[str, Any] = json.loads(canonical_json(described))
    return identity


def read_stage(
    folder: Path, name: str, inputs: Sequence[Stage] = (), settings: dict[str, Any] | None = None
) -> Stage | None:
    """Return the finished stage kept in `folder`; None if none is there, it is damaged, or it was made in another way.

    Arguments as of `obtain`.
    """
    return _read(folder, stage_identity(name, inputs, settings))


def obtain(
    folder: Path,
    name: str,
    compute: Compute,
    inputs: Sequence[Stage] = (),
    settings: dict[str, Any] | None = None,
    check: Check = lambda: None,
) -> Stage:
    """Return the finished stage kept in `folder`, or compute it, so that its outputs appear all at once.

    A kept stage whose files are altered, truncated or missing is named in one warning and computed again; one made
    from other inputs or settings is computed again. The caller holds the lock under which `folder` may be written.

    Args:
        folder: where the stage is kept.
        name: the stage's name.
        compute: writes the outputs into the empty folder it is given; may return notes, plain data for `stage.json`.
        inputs: the finished stages that it reads.
        settings: the settings that it reads, as plain data.
        check: raises if the lock is another process's by now (`Lock.check`); asked before the outputs appear.

    Raises:
        Fault: the outputs could not be written (a full disk, no permission).
    """
    identity = stage_identity(name, inputs, settings)
    kept = _read(folder, identity)
    if kept is not None:
        return kept
    started = time.perf_counter()
    with folder_written_aside(folder) as aside:
        with computing_into(folder):
            notes = compute(aside)
        outputs = {path.relative_to(aside).as_posix(): digest_file(path) for path in files_below(aside)}
        record: dict[str, Any] = {
            **identity,
            "outputs": outputs,
            "seconds": round(time.perf_counter() - started, 3),
            "notes": notes or {},
            "numerics": numerics.summary(),
        }
        write_json(aside / STAGE_FILE, {**record, "checksum": _checksum(record)})
        check()
    return _stage(folder, record, fresh=True)


def obtain_shared(
    folder: Path,
    home: Path,
    name: str,
    compute: Compute,
    inputs: Sequence[Stage] = (),
    settings: dict[str, Any] | None = None,
    check: Check = lambda: None,
    lease_seconds: float | None = None,
) -> Stage:
    """Return a finished stage kept in `folder`, taken from `home` where another cell computed it, or computed there.

    Only one process computes a shared stage; others that want it wait. `folder` gets hard links to the files in `home`
    (`home/stage`), so that either may be removed. `settings` and `inputs` must be all that decides the outputs.

    Args:
        folder: where the cell keeps the stage.
        home: the stage's own folder in the store, the same for every cell that wants this stage (`stage_identity`).
        name, compute, inputs, settings, check: as of `obtain`; the check is of the cell's lock.
        lease_seconds: as of `fairloop.locks.Lock`.

    Raises:
        LostError: another process took the stage over.
        Fault: the outputs could not be written (a full disk, no permission).
    """
    kept = _read(folder, stage_identity(name, inputs, settings))
    if kept is not None:
        return kept
    with writing(home):
        if not home.is_dir():
            home.unlink(missing_ok=True)  # a file, or a link to nowhere
        home.mkdir(parents=True, exist_ok=True)
    lock = Lock(home / LOCK_FILE, lease_seconds, f"stage {name}, which this cell shares")
    said = "another process is computing stage %s, which this cell shares: waiting for it"
    with writing(home / LOCK_FILE):
        lock.wait(lambda: _log.warning(said, name))
    with lock.kept():
        clean_aside(home)
        shared = obtain(home / "stage", name, compute, inputs, settings, lock.check)
        with folder_written_aside(folder) as aside:
            link_tree(shared.folder, aside)
            check()
    return replace(shared, folder=folder)


def _read(folder: Path, identity: dict[str, Any]) -> Stage | None:
    if not folder.exists():
        return None
    record, wrong = _examine(folder)
    if wrong is not None:
        _log.warning("%s; stage %s is computed again", wrong, identity["name"])
        return None
    changed = [key for key in ("name", "inputs", "settings") if record[key] != identity[key]]
    if changed:
        _log.info("stage %s is computed again: its %s changed", identity["name"], " and ".join(changed))
        return None
    return _stage(folder, record, fresh=False)


def _examine(folder: Path) -> tuple[dict[str, Any], str | None]:
    """Return the record of a stage and what is wrong with it, if anything."""
    path = folder / STAGE_FILE
    try:
        record = json.loads(path.read_bytes())
        agreed = record.pop("checksum") == _checksum(record)
    except FileNotFoundError:
        return {}, f"{path} is missing"
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {}, f"{path} cannot be read"
    if not agreed:
        return {}, f"{path} was altered: its checksum does not agree"
    for name, checksum in record["outputs"].items():
        output = folder / name
        try:
            if digest_file(output) != checksum:
                return {}, f"{output} was altered or truncated: its checksum does not agree"
        except OSError:
            return {}, f"{output} is missing or cannot be read"
    return record, None


def _checksum(record: dict[str, Any]) -> str:
    return digest_text(canonical_json(record))


def _stage(folder: Path, record: dict[str, Any], *, fresh: bool) -> Stage:
    return Stage(
        name=record["name"],
        folder=folder,
        digest=digest_text(canonical_json(record["outputs"])),
        seconds=record["seconds"],
        notes=record["notes"],
        fresh=fresh,
        outputs=record["outputs"],
        numerics=record.get("numerics", ""),
    )
