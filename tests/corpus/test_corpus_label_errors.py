"""How often labels err on each family's sentences: the packaged counts are those of the sentences labelled by hand."""

import csv
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from fairloop.corpus.label_errors import known_errors, label_errors, read_errors
from fairloop.corpus.quality import GENDERED, quality, read_rows
from fairloop.errors import UserError
from fairloop.statistics.mislabelled import LabelErrors

DATA = Path(__file__).parent / "data"


def test_the_packaged_counts_are_those_of_the_sentences_labelled_by_hand():
    table = files("fairloop.corpus").joinpath("data/label_errors.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["model"] for row in rows} == {path.stem.removeprefix("generated_") for path in DATA.glob("generated_*")}
    for row in rows:
        untouched = DATA / f"untouched_{row['model']}.csv"
        assert row["sentences"] == (untouched.stem if untouched.exists() else f"generated_{row['model']}")
        counted = label_errors(read_rows(DATA / f"{row['sentences']}.csv"))
        assert known_errors()[row["model"]] == replace(counted, rows=None)


def test_what_became_of_males_and_females_is_counted_apart():
    sentences = [
        ("The barber finished his shift.", "male"),
        ("The barber finished her shift.", "male"),  # taken for female
        ("The barber, a quiet soul, left.", "female"),  # missed
        ("The barber finished her shift.", "female"),
        ("The barber finished his shift.", "none"),  # made up
        ("The barber cuts hair.", "mixed"),
    ]
    found = label_errors([{"text": text, "occupation": "barber", "gender": gender} for text, gender in sentences])
    assert found.rows == ((1, 1, 0), (0, 1, 1), (1, 0, 1))
    assert found == LabelErrors(4, 2, 1, 2, 1, found.rows)


def test_recall_is_that_of_the_command_that_prints_it_where_nothing_is_swapped():
    rows = read_rows(DATA / "generated_qwen_2_5_coder_0_5b_instruct.csv")
    assert label_errors(rows).recall == quality(rows)[GENDERED].recall.value


def test_files_are_counted_together_and_must_hold_somebody(tmp_path):
    paths = [DATA / "generated_gemma_3_270m.csv", DATA / "generated_qwen_2_5_coder_0_5b_instruct.csv"]
    found = read_errors(paths)
    assert found == label_errors([row for path in paths for row in read_rows(path)])
    nobody = tmp_path / "nobody.csv"
    nobody.write_text("text,occupation,gender\nA barber cuts hair.,barber,none\n")
    with pytest.raises(UserError, match="--labels"):
        read_errors([nobody])
