"""Corpora as `datasets.Dataset` tables, kept as Parquet files whose bytes depend on the rows alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.corpus.schema import COLUMNS, arrow_schema, features
from fairloop.errors import Fault

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
    import pyarrow.parquet as pq

    pq.write_table(_plain_table(corpus), path, compression="zstd", row_group_size=65_536, store_schema=False)


def load_corpus(path: Path) -> "Dataset":
    """Read a corpus file into memory.

    Raises:
        Fault: the file is missing, damaged or not a corpus.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise Fault(f"{path}: cannot be read as a corpus ({error})") from error
    if table.schema.remove_metadata() != arrow_schema():
        found = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        raise Fault(f"{path}: is not a corpus: its columns are {found}")
    return _dataset(table)


def _dataset(table: "pa.Table") -> "Dataset":
    from datasets import Dataset, DatasetInfo

    return Dataset(table, info=DatasetInfo(features=features()))


def _plain_table(corpus: "Dataset") -> "pa.Table":
    """Return the rows as one contiguous Arrow table: no indices, chunks, metadata or type variants are left."""
    table = corpus.with_format("arrow")[:]
    table = table.select(list(COLUMNS)).replace_schema_metadata(None)
    return table.cast(arrow_schema()).combine_chunks()
