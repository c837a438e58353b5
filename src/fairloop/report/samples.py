"""Sample sentences of each generation, from the corpora that a cell's stages keep. The text is data, never markup."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SENTENCES = 8
"""How many sentences of a corpus are shown."""

REJECTED = 3
"""How many rejected texts of a reason are shown; the cell keeps more."""

_LONGEST = 600
# Control characters but tab and line feed, and the marks that reverse the direction of what follows.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

Spans = Callable[[str], Iterable[tuple[int, int, str]]]


@dataclass(frozen=True)
class Piece:
    """A part of a sentence; `gender` is empty unless it is a gendered word."""

    text: str
    gender: str = ""


@dataclass(frozen=True)
class Sample:
    """One sentence in pieces, with its labels."""

    pieces: tuple[Piece, ...]
    occupation: str
    gender: str
    stereotype: int


@dataclass(frozen=True)
class SampledCorpus:
    """Some sentences of one stage's table: a corpus, or pairs (`kind`). `problem` says why there are none.

    `rejected`: the first texts of the generator that could not be used, by reason.
    """

    stage: str
    generation: int | None
    sentences: int
    samples: tuple[Sample, ...]
    problem: str = ""
    kind: str = "Corpus"
    unit: str = "sentences"
    rejected: tuple[tuple[str, tuple[str, ...]], ...] = ()


def sample_corpora(cell: Path, count: int = SENTENCES) -> list[SampledCorpus]:
    """Return evenly spaced sentences of every `<cell>/stages/*/corpus.parquet`, in the order of the stages.

    Of a Fair-Gender cell those of its last table of pairs: both sentences of each, and why one was dropped.
    """
    spans = _gendered_spans()
    corpora = [_sample(path, count, spans) for path in sorted(cell.glob("stages/*/corpus.parquet"))]
    return [*corpora, *(_sample_pairs(path, count, spans) for path in sorted(cell.glob("stages/*/pairs.parquet"))[-1:])]


def visible(text: str) -> str:
    """Return a text with unseen characters shown as the replacement character, cut at 600 characters."""
    shown = _UNSEEN.sub("\ufffd", text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _sample(path: Path, count: int, spans: Spans | None) -> SampledCorpus:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stage = path.parent.name
    try:
        table = pq.read_table(path, columns=["text", "occupation", "gender", "stereotype", "generation"])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return SampledCorpus(stage, None, 0, (), "this corpus cannot be read")
    rows = _spaced(table, count)
    samples = tuple(
        Sample(
            tuple(_pieces(visible(row["text"] or ""), spans)),
            visible(row["occupation"] or ""),
            row["gender"] or "",
            row["stereotype"] or 0,
        )
        for row in rows
    )
    generation = rows[0]["generation"] if rows else None
    return SampledCorpus(stage, generation, len(table), samples, rejected=_rejected(path.parent / "rejected.json"))


def _rejected(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    try:
        kept = json.loads(path.read_bytes())
        return tuple((visible(reason), tuple(map(visible, texts[:REJECTED]))) for reason, texts in kept.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return ()  # an older cell has none; a damaged file is named where the cell is read


def _sample_pairs(path: Path, count: int, spans: Spans | None) -> SampledCorpus:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stage = path.parent.name
    try:
        table = pq.read_table(path, columns=["male", "female", "target", "dropped"])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return SampledCorpus(stage, None, 0, (), "these pairs cannot be read", "Pairs", "pairs")
    samples = tuple(
        Sample(
            tuple(_pieces(visible(row[side] or ""), spans)),
            visible(row["target"] or ""),
            f"dropped: {visible(row['dropped'])}" if row["dropped"] else "",
            0,
        )
        for row in _spaced(table, count)
        for side in ("male", "female")
    )
    return SampledCorpus(stage, None, len(table), samples, kind="Pairs", unit="pairs")


def _spaced(table: Any, count: int) -> list[dict[str, Any]]:
    """Return at most `count` rows of an Arrow table, evenly spaced."""
    places = np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)
    rows: list[dict[str, Any]] = table.take(np.unique(places).tolist()).to_pylist() if len(table) else []
    return rows


def gendered_pieces(text: str) -> tuple[Piece, ...]:
    """Return a text in pieces, its gendered words apart; unseen characters are shown as such."""
    return tuple(_pieces(visible(text), _gendered_spans()))


def _pieces(text: str, spans: Spans | None) -> Iterable[Piece]:
    end = 0
    for start, stop, gender in sorted(spans(text)) if spans else ():
        if not end <= start < stop <= len(text):
            continue
        if start > end:
            yield Piece(text[end:start])
        yield Piece(text[start:stop], gender)
        end = stop
    if end < len(text) or not text:
        yield Piece(text[end:])


def _gendered_spans() -> Spans | None:
    """Return the finder of gendered words as (start, end, gender); None where `corpus` cannot be imported."""
    try:
        from fairloop.corpus.words import gendered_spans
    except ImportError:
        return None
    return lambda text: [(span.start, span.end, span.side) for span in gendered_spans(text)]
