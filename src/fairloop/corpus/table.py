"""Corpora as `datasets.Dataset` tables, kept as Parquet files whose bytes depend on the rows alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.corpus.schema import COLUMNS, arrow_schema, features
from fairloop.files import load_table, save_table

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


def make_corpus(rows: Iterable[Mapping[str, Any]]) -> "Dataset":
    """Return the rows as a corpus; each row has exactly the columns of `corpus.schema.COLUMNS`.

    Raises:
        ValueError: a row lacks a column or has another one.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for number, row in enumerate(rows):
        if row.keys() != COLUMNS.keys():
            raise ValueError(f"row {number} has the columns {sorted(row)}, a corpus has {sorted(COLUMNS)}")
        for name, values in columns.items():
            values.append(row[name])
    return _dataset(pa.table(columns, schema=arrow_schema()))


def save_corpus(corpus: "Dataset", path: Path) -> None:
    """Write the corpus to a Parquet file; equal rows give equal bytes, however the Dataset came about."""
    save_table(_plain_table(corpus), path)


def load_corpus(path: Path) -> "Dataset":
    """Read a corpus file into memory.

    Raises:
        Fault: the file is missing, damaged or not a corpus.
    """
    return _dataset(load_table(path, arrow_schema(), "a corpus"))


def _dataset(table: "pa.Table") -> "Dataset":
    from datasets import Dataset, DatasetInfo

    return Dataset(table, info=DatasetInfo(features=features()))


def _plain_table(corpus: "Dataset") -> "pa.Table":
    """Return the rows as one contiguous Arrow table: no indices, chunks, metadata or type variants are left."""
    table = corpus.with_format("arrow")[:]
    table = table.select(list(COLUMNS)).replace_schema_metadata(None)
    return table.cast(arrow_schema()).combine_chunks()
