"""Find a benchmark's data: a given folder, then the local cache, then the publisher; and read it with clear errors."""

import functools
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fairloop.errors import Fault, UserError
from fairloop.files import cache_folder, canonical_json, csv_rows, digest_text, lines_of, write_bytes

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class DataFile:
    """One file of a publisher.

    Attributes:
        name: File name within the data set's folder.
        url: Where it is fetched, at a pinned revision where the publisher has one.
        sha256: Checksum of the publisher's contents. Empty if none is known.
        optional: A known variant that is accepted in a given folder but not fetched.
        git_blob: Where no SHA-256 is known: the name that Git gives the contents at the pinned revision, a SHA-1.
    """

    name: str
    url: str
    sha256: str
    optional: bool
    git_blob: str = ""

    @property
    def pinned(self) -> bool:
        """Whether a checksum is known."""
        return bool(self.sha256 or self.git_blob)

    def is_published(self, path: Path) -> bool:
        """Tell whether a file has the publisher's contents; where no checksum is known it is taken for that."""
        if self.sha256:
            return file_digest(path) == self.sha256
        return not self.git_blob or git_blob(_bytes(path)) == self.git_blob


@dataclass(frozen=True)
class DataSet:
    """The files of one benchmark; they are listed in its `sources.csv` (see `packaged`) with licence and source.

    Attributes:
        name: Folder name, in the cache too.
        any_of: True if one of the files is enough (variants of the same data, or independent tests).
        only: The files that are read; empty for all.
    """

    name: str
    any_of: bool = False
    only: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The data set's files that are read, as listed."""
        return tuple(
            DataFile(row["file"], row["url"], row["sha256"], row["fetch"] == "no", row.get("git_blob", ""))
            for row in _sources()
            if row["dataset"] == self.name and (not self.only or row["file"] in self.only)
        )

    def is_whole(self, names: Collection[str]) -> bool:
        """Tell whether these are all files that the publisher has, or a variant that holds them all."""
        return any(file.optional and file.name in names for file in self.files) or all(
            file.name in names for file in self.files if not file.optional
        )

    @property
    def licence(self) -> str:
        """The licence under which the publisher gives the data."""
        return next(row["licence"] for row in _sources() if row["dataset"] == self.name)

    @property
    def citation(self) -> str:
        """The publication that the data comes from."""
        return next(row["citation"] for row in _sources() if row["dataset"] == self.name)

    @property
    def cached(self) -> Path:
        """The folder of this data set in the cache."""
        return cache_folder() / "benchmarks" / self.name


@functools.cache
def packaged(file: str) -> tuple[dict[str, str], ...]:
    """Return the rows of every benchmark's CSV file of this name, with the benchmark as `dataset`.

    It lies in `data/<benchmark>/`, or in the folder of a benchmark that is a folder of modules.
    """
    package = resources.files("fairloop.benchmarks")
    folders = [folder for parent in (package / "data", package) for folder in parent.iterdir() if folder.is_dir()]
    return tuple(
        {"dataset": folder.name, **row}
        for folder in sorted(folders, key=lambda one: one.name)
        if (folder / file).is_file()
        for row in csv_rows((folder / file).read_text(encoding="utf-8"))[1]
    )


def _sources() -> tuple[dict[str, str], ...]:
    return packaged("sources.csv")


def names() -> tuple[str, ...]:
    """Return the names of all data sets."""
    return tuple(dict.fromkeys(row["dataset"] for row in _sources()))


def find(dataset: DataSet, given: str | None, *, verify: bool = True) -> Path:
    """Return the folder with the data set's files, fetched if they are nowhere on this machine.

    Args:
        dataset: What is looked for.
        given: `benchmark.data`: a folder with the files, or one with a folder named like the data set. Nothing
            else is tried if it is given.
        verify: Compare the checksums of known files.

    Raises:
        UserError: if the given folder does not exist or lacks the files.
        Fault: if a checksum is wrong, or the publisher cannot be reached.
    """
    if given is not None:
        return _in_given(dataset, Path(given).expanduser(), verify)
    folder = dataset.cached
    for file in dataset.files:
        if not file.optional and not (folder / file.name).is_file():
            fetch(dataset, file)
    if verify:
        _verify(dataset, folder)
    return folder


def contents(dataset: DataSet, given: str | None) -> str | None:
    """Return what names the files that a benchmark reads; None where they are the publisher's, wherever they lie.

    Of a given folder every file of the data set counts. In the cache what has no known checksum was fetched at a pinned
    revision and passes for the publisher's.

    Raises:
        UserError: the given folder does not exist or lacks the files.
    """
    if given is None:
        folder, others = dataset.cached, set[str]()
    else:
        folder = _in_given(dataset, Path(given).expanduser(), verify=False)
        others = {path.name for path in folder.glob("*.jsonl")} if dataset.any_of and not dataset.only else set()
    known = {file.name: file for file in dataset.files if given is not None or file.pinned}
    found = {name: file_digest(folder / name) for name in sorted(others | set(known)) if (folder / name).is_file()}
    published = all(name in known and known[name].pinned and known[name].is_published(folder / name) for name in found)
    whole = given is None or not dataset.any_of or dataset.is_whole(found)
    return None if published and whole else digest_files(found)


def digest_files(digests: Mapping[str, str]) -> str:
    """Return one digest for files by their names and digests."""
    return digest_text(canonical_json(dict(digests)))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; one that has not changed since is not read again."""
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, changed: int) -> str:
    return digest(path)


def _in_given(dataset: DataSet, given: Path, verify: bool) -> Path:
    if not given.is_dir():
        raise UserError.of("benchmark.data", given, "there is no such folder")
    nested = given / dataset.name
    folder = nested if nested.is_dir() else given
    present = [file.name for file in dataset.files if (folder / file.name).is_file()]
    missing = [file.name for file in dataset.files if not file.optional and file.name not in present]
    extra = dataset.any_of and not dataset.only and any(folder.glob("*.jsonl"))
    if (not present and not extra) or (missing and not dataset.any_of):
        wanted = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise UserError.of("benchmark.data", folder, f"{dataset.name} needs {wanted} in this folder")
    if verify:
        _verify(dataset, folder)
    return folder


def _verify(dataset: DataSet, folder: Path) -> None:
    for file in dataset.files:
        path = folder / file.name
        if path.is_file() and not file.is_published(path):
            raise Fault(
                f"{path}: its checksum is not the publisher's: fetch it again (delete it and run fairloop-data), "
                "or accept it with benchmark.verify=false"
            )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error


def git_blob(content: bytes) -> str:
    """Return the name that Git gives a file's contents: SHA-1 of `blob <size>`, a zero byte and the contents."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error


def fetch(dataset: DataSet, file: DataFile) -> Path:
    """Fetch one file from its publisher into the cache, verify it there, and return its path.

    Raises:
        Fault: if the publisher cannot be reached (the line says which file to put where) or sends something else.
    """
    target = dataset.cached / file.name
    where = f"put the file at {target}, or give its folder with benchmark.data=<folder>"
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT_SECONDS) as response:
            content = response.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Fault(f"cannot fetch {file.url} ({reason}): {where}") from error
    wrong_name = not file.sha256 and file.git_blob and git_blob(content) != file.git_blob
    if wrong_name or (file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256):
        raise Fault(f"{file.url} sent a file with another checksum than the one pinned: {where}")
    write_bytes(target, content)
    return target


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        Fault: if it is missing, empty, or not UTF-8; the line names the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    if not text.strip():
        raise Fault(f"{path}: the file is empty")
    return text


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file that must have the given columns, and a value for each in every row."""
    try:
        header, rows = csv_rows(read_text(path))
    except ValueError as error:
        raise Fault(f"{path}: {error}") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise Fault(f"{path}: column {missing[0]} is missing; it has {', '.join(header)}")
    if not rows:
        raise Fault(f"{path}: it has a header and no rows")
    for number, row in enumerate(rows):
        empty = [column for column in columns if not (row[column] or "").strip()]
        if empty:
            raise Fault(f"{path}: row {number} has no {empty[0]}")
    return rows


def read_json(path: Path) -> Any:
    """Read a JSON file; a `Fault` names the file and the line that is damaged."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise Fault(f"{path}: damaged JSON at line {error.lineno}: {error.msg}") from error


def read_json_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read JSON lines, each an object with the given keys; a `Fault` names the file and the line."""
    rows = []
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise Fault(f"{path}: damaged JSON at line {number}: {error.msg}") from error
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise Fault(f"{path}: line {number} has no {missing[0]!r}")
        rows.append(row)
    return rows
