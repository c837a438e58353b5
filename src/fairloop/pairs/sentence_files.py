"""Files of sentences that a user gives: one a line, a CSV table, a Parquet table or a recursion's corpus."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

from fairloop.errors import UserError, first_line
from fairloop.files import is_text, lines_of, read_parquet
from fairloop.generation.screening import clean
from fairloop.lexicon import TargetKind

KEY = "debias.swap_file"
_SHOWN = 5
"""Broken rows that the error line names."""
_COLUMNS = {"text", "target", "target_kind", "counterpart"}


@dataclass(frozen=True)
class GivenSentence:
    """A sentence, and what its row says about it besides.

    Attributes:
        text: the sentence.
        target: its target word, or None if it is to be found.
        target_kind: what the given target is.
        counterpart: a proposed counterpart, or None.
    """

    text: str
    target: str | None = None
    target_kind: TargetKind = "occupation"
    counterpart: str | None = None


class _Broken(Exception):
    """What is wrong with a row."""


def read_sentences(path: str, key: str = KEY, fewest: int = 1) -> list[GivenSentence]:
    """Read every sentence of a file.

    `.txt`: a sentence in each line, empty lines are passed over. `.csv`: the column `text`, and if wanted `target`,
    `target_kind` (occupation, trait, activity) and `counterpart`. `.parquet`: the same columns, or a corpus of
    the recursion, whose `occupation` is the target.

    Args:
        path: the file.
        key: the configuration key that names it, for messages.
        fewest: how many sentences it must hold.

    Raises:
        UserError: there is no such file, it is of another form, or rows are broken: one line names them all by number,
            the first ones with what is wrong; or it holds too few sentences.
    """
    file = Path(path).expanduser()
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UserError.of(key, path, f"a file whose name ends in {', '.join(sorted(_READERS))}")
    if not file.is_file():
        raise UserError.of(key, path, "there is no such file")
    broken: list[str] = []
    sentences = []
    for place, row in reader(file, key):
        try:
            sentences.append(_sentence(row))
        except _Broken as error:
            broken.append(f"{place}: {error}")
    if broken:
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        rows = "1 broken row" if len(broken) == 1 else f"{len(broken)} broken rows"
        raise UserError(f"{key}={path}: {rows}: {'; '.join(broken[:_SHOWN])}{more}")
    if len(sentences) < fewest:
        held = f"only {len(sentences)} of the {fewest} sentences that are needed" if sentences else "no sentence"
        raise UserError.of(key, path, f"it holds {held}")
    return sentences


def texts_of(path: str, key: str) -> list[str]:
    """Return the texts alone; raises as `read_sentences`."""
    return [sentence.text for sentence in read_sentences(path, key)]


def check_sentences(path: str, key: str = KEY, fewest: int = 1) -> None:
    """Raise what `read_sentences` raises; a file that did not change is read once, however many cells name it."""
    file = Path(path).expanduser()
    found = file.stat() if file.is_file() else None
    _checked(path, key, fewest, *((found.st_size, found.st_mtime_ns) if found else (0, 0)))


@lru_cache(maxsize=8)
def _checked(path: str, key: str, fewest: int, size: int, changed: int) -> None:
    read_sentences(path, key, fewest)


Row = dict[str, Any] | _Broken


def _sentence(row: Row) -> GivenSentence:
    if isinstance(row, _Broken):
        raise row
    text = row.get("text")
    if not isinstance(text, str) or not clean(text):
        raise _Broken("no text")
    if "\ufffd" in text:
        raise _Broken("not UTF-8")
    kind = row.get("target_kind") or "occupation"
    if kind not in get_args(TargetKind):
        raise _Broken(f"target_kind is {kind!r}, not one of {', '.join(get_args(TargetKind))}")
    counterpart = row.get("counterpart")
    return GivenSentence(
        clean(text), row.get("target") or None, cast(TargetKind, kind), clean(counterpart) if counterpart else None
    )


def _lines(file: Path, key: str) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines_of(_text(file)), start=1):
        if line.strip():
            yield f"line {number}", {"text": line}


def _csv_rows(file: Path, key: str) -> Iterator[tuple[str, Row]]:
    reader = csv.reader(io.StringIO(_text(file), newline="\n"), strict=True)
    try:
        header = _checked_header(file, next(reader, []), key)
    except csv.Error as error:
        raise UserError(f"{key}={file}: line 1: not CSV ({error})") from error
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield f"line {line}", _Broken(f"not CSV ({error})")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield f"line {line}", _Broken(f"{len(cells)} fields, the header has {len(header)}")
        else:
            yield f"line {line}", dict(zip(header, cells, strict=True))


def _parquet_rows(file: Path, key: str) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        wanted = [name for name in schema.names if name in _COLUMNS or name == "occupation"]
        _checked_header(file, wanted, key)
        for name in wanted:
            kind = schema.field(name).type
            if not (is_text(kind) or pa.types.is_null(kind)):
                raise UserError.of(key, file, f"columns of text: {name} is of {str(kind)[:40]}")
        table = read_parquet(file, wanted)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError.of(key, file, f"cannot be read as Parquet ({first_line(error)})") from error
    for number, row in enumerate(table.to_pylist(), start=1):
        occupation = row.pop("occupation", None)
        yield f"row {number}", {"target": occupation} | row


def _checked_header(file: Path, header: list[str], key: str) -> list[str]:
    names = [name.strip().removeprefix("\ufeff") for name in header]
    if "text" not in names or len(set(names)) < len(names):
        raise UserError.of(
            key, file, f"the columns are {', '.join(names) or 'none'}: one must be named text, none twice"
        )
    return names


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace")


_READERS: dict[str, Callable[[Path, str], Iterator[tuple[str, Row]]]] = {
    ".txt": _lines,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
