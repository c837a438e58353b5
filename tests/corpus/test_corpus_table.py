"""Corpus files: the same rows, the same bytes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, concatenate_datasets

from fairloop.corpus.schema import COLUMNS, features
from fairloop.corpus.seed import seed_corpus
from fairloop.corpus.table import load_corpus, make_corpus, save_corpus
from fairloop.errors import Fault


def saved(corpus: Dataset, folder: Path) -> bytes:
    path = folder / "corpus.parquet"
    save_corpus(corpus, path)
    return path.read_bytes()


def test_round_trip(tmp_path: Path) -> None:
    corpus = seed_corpus(0.3, 60, 0.25, 0)
    save_corpus(corpus, tmp_path / "a.parquet")
    loaded = load_corpus(tmp_path / "a.parquet")
    assert loaded.features == features()
    assert loaded.to_list() == corpus.to_list()


def test_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    corpus = seed_corpus(0.3, 60, 0.25, 0)
    expected = saved(corpus, tmp_path)
    selected = corpus.shuffle(seed=1).sort("item")
    filtered = concatenate_datasets([corpus, corpus]).filter(lambda row, index: index < 60, with_indices=True)
    pieces = concatenate_datasets([corpus.select(range(20)), corpus.select(range(20, 60))])
    reloaded = load_corpus(tmp_path / "corpus.parquet")
    assert saved(make_corpus(corpus.to_list()), tmp_path) == expected
    assert saved(Dataset.from_list(corpus.to_list()), tmp_path) == expected  # int64 columns
    for variant in (selected, filtered, pieces, reloaded):
        assert saved(variant, tmp_path) == expected
    assert saved(corpus.with_format("numpy"), tmp_path) == expected
    assert saved(corpus.select(range(59)), tmp_path) != expected


def test_an_empty_corpus_is_a_corpus(tmp_path: Path) -> None:
    save_corpus(make_corpus([]), tmp_path / "empty.parquet")
    assert len(load_corpus(tmp_path / "empty.parquet")) == 0


def test_rows_with_other_columns_are_refused() -> None:
    row = seed_corpus(0, 1, 1, 0)[0]
    with pytest.raises(ValueError, match="columns"):
        make_corpus([{**row, "extra": 1}])
    with pytest.raises(ValueError, match="columns"):
        make_corpus([{name: row[name] for name in list(COLUMNS)[1:]}])


def test_files_that_are_no_corpus_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    with pytest.raises(Fault, match=r"other\.parquet"):
        load_corpus(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(Fault, match=r"other\.parquet"):
        load_corpus(path)
    pq.write_table(pa.table({"text": ["x"]}), path)
    with pytest.raises(Fault, match=r"other\.parquet"):
        load_corpus(path)
    save_corpus(seed_corpus(0.3, 60, 0.25, 0), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Fault, match=r"other\.parquet"):
        load_corpus(path)
