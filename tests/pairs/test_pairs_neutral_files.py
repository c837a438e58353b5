"""Files of sentences that are no sentences: one line, status 2, before anything is computed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop.composition import compose_config, composer, resolve
from fairloop.config import check
from fairloop.errors import UserError
from fairloop.pairs.sentence_files import check_sentences, texts_of

FILES = {
    "empty": ("n.txt", b"", "it holds no sentence"),
    "blank lines": ("n.txt", b"\n \n\t\n", "it holds no sentence"),
    "one line": ("n.txt", b"The room is warm.\n", "only 1 of the 2 sentences"),
    "Latin-1": ("n.txt", "The café is warm.\nThe room is cold.\n".encode("latin-1"), "line 1: not UTF-8"),
    "binary": ("n.txt", bytes(range(256)) * 4, "not UTF-8"),
    "a table without texts": ("n.csv", b"sentence\nThe room is warm.\n", "one must be named text"),
    "no table": ("n.parquet", b"PAR1", "cannot be read as Parquet"),
    "another form": ("n.docx", b"PK", "a file whose name ends in .csv, .parquet, .txt"),
}


@pytest.mark.parametrize(("name", "content", "says"), FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("key", ["study.neutral", "study.held_out_neutral"])
def test_a_neutral_file_that_is_none_is_refused_when_the_command_is_read(name, content, says, key, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with composer(), pytest.raises(UserError) as caught:
        check(resolve(compose_config(["study=fair_gender", "plm=minilm", f"{key}={path}"])))
    assert str(caught.value).startswith(f"{key}={path}: ")
    assert says in str(caught.value)


def test_tables_of_neutral_sentences_are_read_as_tables(tmp_path):
    texts = ["The room, small, is warm.", "The room is\u2028cold."]
    (tmp_path / "n.csv").write_text('id,text\n1,"The room, small, is warm."\n2,The room is\u2028cold.\n')
    pq.write_table(pa.table({"text": texts}), tmp_path / "n.parquet")
    (tmp_path / "n.txt").write_text("\n".join(texts), encoding="utf-8-sig")
    for name in ("n.csv", "n.parquet", "n.txt"):
        assert texts_of(str(tmp_path / name), "study.neutral") == ["The room, small, is warm.", "The room is cold."]


def test_a_small_file_that_stands_for_gigabytes_is_refused_at_once(tmp_path):
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1000]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": one}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    with pytest.raises(UserError, match="at most 1000000 rows and 200000000 characters"):
        check_sentences(str(path))


BIG = pa.array(["x" * 1000] * 250_000)
TABLES = {
    "a bomb beside the texts": ({"counterpart": BIG}, "at most 1000000 rows and 200000000 characters"),
    "one that repeats nothing": ({"target": BIG}, "at most 1000000 rows and 200000000 characters"),
    "lists": ({"target": pa.array([["x"]] * len(BIG))}, "target is of list<"),
    "bytes": ({"target": pa.array([b"x"] * len(BIG))}, "target is of binary"),
    "no UTF-8": ({"target": pa.array([b"\xff"] * len(BIG)).view(pa.string())}, "cannot be read as Parquet"),
}


@pytest.mark.parametrize(("columns", "says"), TABLES.values(), ids=TABLES.keys())
def test_every_column_of_a_table_is_text_of_a_bounded_size(columns, says, tmp_path):
    path = tmp_path / "t.parquet"
    texts = {"text": pa.array(["The nurse is here."] * len(BIG))}
    pq.write_table(pa.table(texts | columns), path, compression="zstd", use_dictionary="counterpart" in columns)
    with pytest.raises(UserError, match=says):
        check_sentences(str(path))


def test_texts_of_a_table_may_repeat(tmp_path):
    """As pandas writes categories: an Arrow dictionary."""
    texts = pa.array(["The room is warm.", "The room is cold.", "The room is warm."])
    pq.write_table(pa.table({"text": texts.dictionary_encode()}), tmp_path / "n.parquet")
    assert texts_of(str(tmp_path / "n.parquet"), "study.neutral") == texts.to_pylist()


def test_a_header_whose_quotes_do_not_close_is_named(tmp_path):
    for rows in (1, 50_000):  # in a small file, and beyond the longest field that is read
        (tmp_path / "n.csv").write_text('text,"target\n' + "The nurse is here.,nurse\n" * rows)
        with pytest.raises(UserError, match=r"n\.csv: line 1: not CSV"):
            check_sentences(str(tmp_path / "n.csv"))
