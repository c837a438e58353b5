"""Pairs of sentences (x_m, x_f) that differ only in gendered words: the table of them, its coverage, its verification.

See docs/methods.md, section 7. A row of the table is a pair with its scores and the reason it was dropped; a table is
kept as a Parquet file whose bytes depend on the rows alone.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fairloop.files import load_table, save_table
from fairloop.lexicon import TargetKind, occupations
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement

if TYPE_CHECKING:
    import pyarrow as pa

Source = Literal["llm", "template", "swap"]

MEASURES = (
    Declared("pairs/written", "pairs written", count=True),
    Declared("pairs/kept", "pairs kept", count=True),
)


@dataclass(frozen=True)
class Pair:
    """One sentence about a man and its counterpart about a woman.

    Attributes:
        item: number of the pair, distinct within a table.
        male: x_m.
        female: x_f: `male` with its gendered words replaced.
        target: the target word or phrase, as it stands in both sentences.
        target_kind: what the target is.
        attribute: the pair of gendered words that the sentences are built on, "father/mother".
        source: where the pair comes from.
    """

    item: int
    male: str
    female: str
    target: str
    target_kind: TargetKind
    attribute: str
    source: Source


@dataclass(frozen=True)
class PairRow:
    """A pair with what is known about it; None is a score that was not computed.

    Attributes:
        pair: the pair.
        replaced: whether the counterpart was replaced by the swapped sentence (see `verification.counterpart_of`).
        fluency: mean log probability (natural) per token, averaged over the two sentences.
        toxicity: of the more toxic sentence, in [0, 1].
        similarity: highest Jaccard similarity to a pair that was kept before it.
        plausibility: lower of the two sentences' pseudo-log-likelihoods per token under the frozen PLM.
        target_rank: worse of the target's two ranks in context under the frozen PLM, 1 is best.
        aligned: whether the pair agrees with what the frozen PLM knows.
        effect: estimated causal effect of learning from the pair on held-out language modelling; above zero is harmful.
        bias_effect: the same on the bias of the pool of pairs; above zero is harmful.
        dropped: why the pair was dropped, empty if it was kept.
    """

    pair: Pair
    replaced: bool = False
    fluency: float | None = None
    toxicity: float | None = None
    similarity: float | None = None
    plausibility: float | None = None
    target_rank: float | None = None
    aligned: bool | None = None
    effect: float | None = None
    bias_effect: float | None = None
    dropped: str = ""


# Every column of a table and its type: the fields of Pair, then the other fields of PairRow.
COLUMNS: dict[str, str] = {
    "item": "int32",
    "male": "string",
    "female": "string",
    "target": "string",
    "target_kind": "string",
    "attribute": "string",
    "source": "string",
    "replaced": "bool",
    "fluency": "float64",
    "toxicity": "float64",
    "similarity": "float64",
    "plausibility": "float64",
    "target_rank": "float64",
    "aligned": "bool",
    "effect": "float64",
    "bias_effect": "float64",
    "dropped": "string",
}
_RENAMED = {"mended": "replaced"}
_OF_PAIR = tuple(field.name for field in fields(Pair))
_OF_ROW = tuple(field.name for field in fields(PairRow) if field.name != "pair")


def kept(rows: Iterable[PairRow]) -> list[Pair]:
    """Return the pairs that were not dropped."""
    return [row.pair for row in rows if not row.dropped]


def pair_counts(rows: Sequence[PairRow]) -> list[Measurement]:
    """Return how many pairs were written, and how many of them were kept, as measures."""
    found = {"pairs/written": len(rows), "pairs/kept": len(kept(rows))}
    return [Measurement(name, float(count), None, None, len(rows)) for name, count in found.items()]


def reasons(rows: Iterable[PairRow]) -> dict[str, int]:
    """Return how many pairs were dropped for each reason, the commonest first."""
    return dict(Counter(row.dropped for row in rows if row.dropped).most_common())


# --- the table ------------------------------------------------------------------------------------------------------


def save_pairs(rows: Iterable[PairRow], path: Path) -> None:
    """Write a Parquet file; equal rows give equal bytes."""
    save_table(_arrow_table(rows), path)


def load_pairs(path: Path) -> list[PairRow]:
    """Read the rows of a Parquet file.

    Raises:
        Fault: the file is missing, damaged or not a table of pairs.
    """
    table = load_table(path, _arrow_schema(), "a table of pairs", _RENAMED)
    return [
        PairRow(Pair(**{name: row[name] for name in _OF_PAIR}), **{name: row[name] for name in _OF_ROW})
        for row in table.to_pylist()
    ]


def _arrow_table(rows: Iterable[PairRow]) -> "pa.Table":
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows:
        for name in _OF_PAIR:
            columns[name].append(getattr(row.pair, name))
        for name in _OF_ROW:
            columns[name].append(getattr(row, name))
    return pa.table(columns, schema=_arrow_schema())


def _arrow_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, getattr(pa, kind.replace("bool", "bool_"))()) for name, kind in COLUMNS.items()])


# --- coverage -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Balance:
    """How evenly pairs are spread over attributes, or over targets.

    Attributes:
        smallest: pairs of the rarest.
        largest: pairs of the commonest.
        evenness: entropy of the shares over its maximum (Pielou's index): 1 is even; 1 for a single one as well.
    """

    smallest: int
    largest: int
    evenness: float


@dataclass(frozen=True)
class Coverage:
    """How many pairs there are of each attribute and target.

    Attributes:
        attributes: names of the columns, "he/she".
        targets: names of the rows, in lower case; an occupation in the plural counts as its singular.
        kinds: what each target is.
        counts: [targets, attributes].
    """

    attributes: tuple[str, ...]
    targets: tuple[str, ...]
    kinds: tuple[TargetKind, ...]
    counts: np.ndarray

    @property
    def over_attributes(self) -> Balance:
        """The balance of the column sums."""
        return _balance(self.counts.sum(axis=0))

    @property
    def over_targets(self) -> Balance:
        """The balance of the row sums."""
        return _balance(self.counts.sum(axis=1))

    @property
    def empty(self) -> float:
        """Share of attribute-target combinations without a pair."""
        return float((self.counts == 0).mean()) if self.counts.size else 0.0


def coverage(pairs: Sequence[Pair]) -> Coverage:
    """Count pairs by attribute, in order of name, and by target, in order of kind and name."""
    columns = sorted({pair.attribute for pair in pairs})
    places = [(pair.target_kind, _target_name(pair)) for pair in pairs]
    rows = sorted(set(places))
    column_of = {name: number for number, name in enumerate(columns)}
    row_of = {row: number for number, row in enumerate(rows)}
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for pair, place in zip(pairs, places, strict=True):
        counts[row_of[place], column_of[pair.attribute]] += 1
    return Coverage(tuple(columns), tuple(name for _, name in rows), tuple(kind for kind, _ in rows), counts)


def _target_name(pair: Pair) -> str:
    name = " ".join(pair.target.lower().replace("-", " ").split())
    return _singular().get(name, name) if pair.target_kind == "occupation" else name


@cache
def _singular() -> dict[str, str]:
    return {entry.plural: entry.name for entry in occupations()}


def _balance(counts: np.ndarray) -> Balance:
    if len(counts) == 0 or counts.sum() == 0:
        return Balance(0, 0, 1.0)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    return Balance(
        int(counts.min()), int(counts.max()), entropy / float(np.log(len(counts))) if len(counts) > 1 else 1.0
    )
