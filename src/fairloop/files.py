"""The one place that writes files: a file or a folder is there whole, or it is not there.

Everything is written aside under a name that begins with `ASIDE`, flushed to the disk, and then renamed. A process
that is killed leaves at most such a name behind; `clean_aside` removes them when no other process can be writing.
"""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairloop.errors import Fault

ASIDE = ".aside-"


def lines_of(text: str) -> list[str]:
    """Return the lines of a text: they end with `\\n` or `\\r\\n`, and a sentence may hold any other character."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def csv_rows(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the header and the rows of a CSV text, each a dictionary by the header's names.

    Raises:
        ValueError: quotes that do not close, or a row of another length than the header; the line says where.
    """
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    header: list[str] = []
    rows = []
    began = 1
    try:
        for cells in reader:
            if not header:
                header = cells
            elif cells and len(cells) != len(header):
                raise ValueError(f"line {began} has {len(cells)} fields, the header {len(header)}")
            elif cells:
                rows.append(dict(zip(header, cells, strict=True)))
            began = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {began}: not CSV ({error})") from error
    return header, rows


_DEEPEST = 10_000
"""So many signs that begin a level no configuration has, and three times as many levels break YAML's loader in C."""


def read_yaml(text: str) -> Any:
    """Return what a text in YAML holds, as plain data.

    Raises:
        ValueError: it is not YAML, holds something other than plain data, or is nested too deep to be read.
    """
    import yaml

    if sum(map(text.count, "[{-?:")) > _DEEPEST:
        raise ValueError("not YAML of a configuration")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("not YAML") from error


MOST_ROWS, MOST_CHARACTERS = 1_000_000, 200_000_000


def read_parquet(path: Path, columns: Sequence[str]) -> Any:
    """Return columns of a Parquet file as an Arrow table, if they are of a bounded size.

    A few kilobytes can stand for gigabytes: the sizes that the file states are added up before it is read, texts that
    repeat are read once, and counted before anybody copies them.

    Raises:
        ValueError: it is larger than `MOST_ROWS` and `MOST_CHARACTERS`, or a text is not UTF-8.
        OSError, pyarrow.ArrowException: it cannot be read, or is no Parquet file.
    """
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    parts = (group.column(number) for group in groups for number in range(metadata.num_columns))
    stated = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
    too_large = ValueError(f"at most {MOST_ROWS} rows and {MOST_CHARACTERS} characters")
    if metadata.num_rows > MOST_ROWS or stated > MOST_CHARACTERS:
        raise too_large
    schema = metadata.schema.to_arrow_schema()
    texts = [name for name in columns if is_text(schema.field(name).type)]
    table = pq.read_table(path, columns=list(columns), read_dictionary=texts)
    if sum(_characters(chunk) for name in texts for chunk in table.column(name).chunks) > MOST_CHARACTERS:
        raise too_large
    table.validate(full=True)
    return table


def load_table(path: Path, schema: Any, what: str, renamed: Mapping[str, str] | None = None) -> Any:
    """Return an Arrow table that `save_table` wrote; `renamed` are new names of columns by their old ones.

    Raises:
        Fault: the file is missing, damaged or not `what`: its columns are not those of the Arrow schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise Fault(f"{path}: cannot be read as {what} ({error})") from error
    table = table.rename_columns([(renamed or {}).get(name, name) for name in table.column_names])
    if table.schema.remove_metadata() != schema:
        found = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        raise Fault(f"{path}: is not {what}: its columns are {found}")
    return table


def save_table(table: Any, path: Path) -> None:
    """Write an Arrow table to a Parquet file, in a folder that is written aside; equal rows give equal bytes."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", row_group_size=65_536, store_schema=False)


def is_text(kind: Any) -> bool:
    """Tell whether an Arrow type is one of text."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _characters(chunk: Any) -> int:
    """Return how many bytes of text a dictionary with its indices, or plain texts, stand for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(chunk.type):
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
    else:
        lengths = pc.binary_length(chunk)
    return int(pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0)


# What the surroundings can do to a writer. Other errors of the system are left to the caller, who knows what they mean.
_SURROUNDINGS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk reports an input/output error",
    errno.EISDIR: "a folder lies in its place: remove it",
    errno.ELOOP: "a link lies in its place or on the way: remove it",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a part of this path is a file, not a folder",
    errno.EMFILE: "too many open files",
    errno.ENAMETOOLONG: "the name is too long for the file system",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DISK = _FULL | {errno.EFBIG, errno.EROFS}


def explain(error: OSError, path: Path | str) -> Fault | None:
    """Return the line for a full disk, a missing permission and the like; None for any other error."""
    reason = _SURROUNDINGS.get(error.errno or 0)
    return Fault(f"cannot write {path}: {reason}") if reason else None


def cache_folder() -> Path:
    """Return the folder for what can be made again: `FAIRLOOP_CACHE`, or `~/.cache/fairloop`."""
    return Path(os.environ.get("FAIRLOOP_CACHE") or Path.home() / ".cache" / "fairloop")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn what the surroundings do to a writer of `path` into a `Fault` of one line that names the path."""
    try:
        yield
    except OSError as error:
        fault = explain(error, path)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def computing_into(folder: Path) -> Iterator[None]:
    """Turn a full disk into a `Fault` that names what is on it, whichever library met it while it wrote.

    A computation also writes into the cache and into the temporary folder, which may lie on other disks.
    Only the disk: other errors of a computation, which also reads, are not about this folder.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            place = error.filename or (_fullest(folder) if error.errno in _FULL else folder)
            raise Fault(f"cannot write {place}: {_SURROUNDINGS[error.errno]}") from error
        if os.strerror(errno.ENOSPC) in str(error):  # torch and safetensors wrap the system's error in their own
            raise Fault(f"cannot write {_fullest(folder)}: {_SURROUNDINGS[errno.ENOSPC]}") from error
        raise


def _fullest(folder: Path) -> Path:
    """Return which of a computation's places has the least room left: the given folder unless another disk is fuller.

    Of places on one disk the first counts: what others write moves the room between two readings.
    """
    disks: dict[int, Path] = {}
    for place in (folder, cache_folder(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            disks.setdefault(_disk(place), place)
    return min(disks.values(), key=_room, default=folder)


def _disk(place: Path) -> int:
    return _existing(place).stat().st_dev


def _room(place: Path) -> int:
    """Return the bytes that are left; none where no file can be made, however many bytes are free."""
    try:
        found = os.statvfs(_existing(place))
    except OSError:
        return sys.maxsize
    return 0 if found.f_files and not found.f_favail else found.f_bavail * found.f_frsize


def _existing(place: Path) -> Path:
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole: aside, flushed to the disk, renamed. Its folder is made if it is missing.

    Raises:
        Fault: the disk is full, permission is missing, or the like; the old file, if any, is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=ASIDE, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, path)  # noqa: PTH105 (one way to replace a file, for paths and strings alike)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside)  # noqa: PTH108
            raise
        _flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8, line ends untouched."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole, always in the same bytes: sorted keys, two spaces, a final newline, no NaN.

    Raises:
        ValueError: the data holds NaN or an infinity, which JSON does not have.
    """
    write_text(path, json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(data: Any) -> str:
    """Return one line of JSON that equal data share: sorted keys, and 1.0 the same as 1.

    Raises:
        ValueError: the data holds NaN or an infinity.
        TypeError: the data holds something that is not plain (a path, an array), or a key that is not a string.
    """
    return json.dumps(_canonical(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _canonical(data: Any) -> Any:
    if isinstance(data, dict):
        strange = [key for key in data if not isinstance(key, str)]
        if strange:
            raise TypeError(f"keys must be strings, not {strange[0]!r}")
        return {key: _canonical(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_canonical(item) for item in data]
    if isinstance(data, float) and data.is_integer():
        return int(data)
    return data


def digest_text(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, in the order of their names; links are not followed."""
    return sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)


@contextmanager
def folder_written_aside(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` at once, flushed to the disk, when the block ends.

    What lies at `target` is replaced. When the block raises, the folder is removed and `target` is untouched.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{ASIDE}{target.name}-", dir=target.parent))
        aside.chmod(0o777 & ~_umask())
    try:
        yield aside
        with writing(target):
            _flush_tree(aside)
            remove(target)
            aside.rename(target)
            _flush_folder(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def link_tree(source: Path, target: Path) -> None:
    """Let an existing empty folder hold the files of another one: by hard links, or copies where links cannot be."""
    for path in files_below(source):
        place = target / path.relative_to(source)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, place)


def remove(place: Path) -> None:
    """Remove what lies at a place, if anything: of a link only the link; a folder at once.

    A folder is renamed first, so that no half of it is ever seen.
    """
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    doomed = Path(tempfile.mkdtemp(prefix=ASIDE, dir=place.parent))
    place.rename(doomed)  # onto an empty folder: allowed
    shutil.rmtree(doomed, ignore_errors=True)


def clean_aside(folder: Path) -> None:
    """Remove what killed processes left half written in a folder. Call only while no other process writes there."""
    if not folder.is_dir():
        return
    for left in folder.iterdir():
        if left.name.startswith(ASIDE):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _flush_tree(folder: Path) -> None:
    for path in files_below(folder):
        if not path.is_symlink():
            _flush(path, os.O_RDONLY)
    for root, _, _ in os.walk(folder):
        _flush_folder(Path(root))


def _flush_folder(folder: Path) -> None:
    # Some file systems do not flush folders (EINVAL): the rename is then as durable as they make it.
    with suppress(OSError):
        _flush(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # mkstemp and mkdtemp keep files private; the store's files follow the user's umask like any other file.
    # The mask can only be read by setting it; POSIX offers nothing better.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
