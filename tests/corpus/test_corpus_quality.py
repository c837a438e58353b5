"""The labels' precision and recall on real models' sentences, labelled by hand, and what a swap does to a label."""

import csv
import os
from pathlib import Path

import pytest

from fairloop.corpus.annotation import person_gender
from fairloop.corpus.counterfactual import is_reversible, swap_gender
from fairloop.corpus.quality import GENDERED, Share, main, quality, read_rows
from fairloop.errors import Fault

DATA = Path(__file__).parent / "data"
SHARED = (
    Path(os.environ.get("FAIRLOOP_BENCHMARK_DATA", Path(__file__).parents[3] / "shared" / "benchmarks")).parent
    / "labels"
)
FAMILIES = sorted(DATA.glob("generated_*.csv"))
UNTOUCHED = sorted(DATA.glob("untouched_*.csv"))
"""Sentences that no rule was changed for: labelled before the rules were asked, and left alone after."""
MIRRORED = {"male": "female", "female": "male", "mixed": "mixed", "none": "none"}


def sentences() -> list[dict[str, str]]:
    return [row for path in DATA.glob("*.csv") for row in read_rows(path)]


def test_the_sentences_of_real_models_are_many() -> None:
    assert len(FAMILIES) == 3
    rows = [row for path in FAMILIES for row in read_rows(path)]
    assert len(rows) >= 200
    assert len({(row["occupation"], row["text"]) for row in rows}) == len(rows)


@pytest.mark.parametrize("path", FAMILIES, ids=lambda path: path.stem)
def test_each_familys_gendered_labels_are_right(path: Path) -> None:
    found = quality(read_rows(path))[GENDERED]
    assert found.precision.value >= 0.97, str(found.precision)
    assert found.recall.value >= 0.97, str(found.recall)


def test_gendered_labels_are_right_on_sentences_that_others_labelled() -> None:
    path = SHARED / "smollm2_135m_instruct.csv"
    if not path.exists():
        pytest.skip(f"needs {path}, which is not copied into the project")
    found = quality(read_rows(path))[GENDERED]
    assert min(found.precision.value, found.recall.value) >= 0.97, str(found)


def test_gendered_labels_hold_on_sentences_that_no_rule_was_made_for() -> None:
    found = quality([row for path in UNTOUCHED for row in read_rows(path)])[GENDERED]
    assert found.precision.value >= 0.97, str(found.precision)
    assert found.recall.value >= 0.97, str(found.recall)


def test_gendered_labels_are_right_over_all_sets() -> None:
    found = quality(sentences())[GENDERED]
    assert found.precision.value >= 0.97, str(found.precision)
    assert found.recall.value >= 0.97, str(found.recall)


def test_labels_of_a_swap_are_mirrored_and_swapping_twice_gives_the_sentence_back() -> None:
    rows = sentences()
    reversible = [row for row in rows if is_reversible(row["text"])]
    assert len(reversible) >= 0.95 * len(rows)
    unlike = [
        row["text"]
        for row in reversible
        if person_gender(swap_gender(row["text"]), row["occupation"])
        != MIRRORED[person_gender(row["text"], row["occupation"])]
    ]
    assert unlike == []


@pytest.mark.parametrize(
    ("gender", "occupation", "text"),
    [
        ("female", "welder", "The welder at work is Emma."),
        ("female", "receptionist", "The receptionist at work, Maria, is friendly."),
        ("male", "machinist", "Dennis is a brilliant, dedicated machinist."),
        ("female", "veterinarian", "Dr. Laura Vita, a veterinarian specializing in horses, left."),
        ("male", "high school teacher", "The high school teacher (John Smith) was late."),
        ("male", "janitor", "Dan is the janitor."),
        ("female", "electrician", "The electrician at work is also a welder named Sarah."),
        ("female", "secretary", "A secretary at work is a brilliant and talented leader named Sarah."),
        ("male", "farmer", "There is a farmer named Eli at work."),
        ("male", "taxi driver", "A man in the role of a taxi driver was seen there."),
        ("male", "roofer", "The roofer was a middle-aged man."),
        ("female", "lawyer", "The in-house lawyer is a woman."),
        ("female", "judge", "Mrs. O'Donnell is a judge."),
        ("male", "taxi driver", "In Paris, a taxi driver named Léo helped."),
        ("female", "dentist", "The dentist at work's a female attorney."),
        ("female", "teaching assistant", "A teaching assistant was a skilled baker, renowned for her knowledge."),
        ("male", "carpenter", "The carpenter at work, a master craftsman, a man with skill, built it."),
        ("female", "mechanical engineer", "The mechanical engineer at work was Dr. Elena Vasquez."),
        ("female", "hairdresser", "She calls herself a hairdresser."),
        ("female", "nurse", "The nurse used her 20 years of experience."),
        ("none", "judge", "The judge asked Mary a question."),
        ("none", "nurse", "The nurse met a welder named Tom."),
        ("none", "plumber", "The plumber flew to San Antonio with St. Mary Hospital's staff."),
        ("none", "nurse", "The nurse is Emma's neighbor."),
        ("male", "author", "A man named Li Wei was a Dutch author."),
        ("female", "judge", "The judge who reads a lot is known as Elena."),
        ("male", "translator", "A translator who wore a bright red shirt, a man named Ulf, left."),
        ("male", "roofer", "On a rainy day the roofer uses his roofer."),
        ("none", "pharmacist", "The pharmacist, a doctor, who gave her a new medication."),
    ],
)
def test_names_titles_appositions_and_predicates(gender: str, occupation: str, text: str) -> None:
    assert person_gender(text, occupation) == gender
    assert person_gender(swap_gender(text), occupation) == MIRRORED[gender]


def test_a_share_has_wilsons_interval() -> None:
    share = Share(9, 10)
    assert share.value == 0.9
    assert share.interval == pytest.approx((0.596, 0.982), abs=0.001)
    assert str(Share(0, 0)) == "none"


def test_the_command_prints_each_file_and_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    rows = [("nurse", "female", "The nurse lost her keys."), ("nurse", "male", "The nurse works.")]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("occupation", "gender", "text"), *rows])
    assert main([str(path), "--missed"]) == 0
    said = capsys.readouterr().out
    assert "mine" in said
    assert "1.000 [0.207, 1.000]    0.500 [0.095, 0.905]     2" in said
    assert "male, found none (nurse): The nurse works." in said
    path.write_text("occupation,gender,text\nnurse,woman,The nurse works.\n")
    assert main([str(path)]) == 2
    assert "gender=woman: allowed is one of male, female, mixed, none" in capsys.readouterr().err


def test_quotes_that_do_not_close_are_named_and_swallow_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('text,occupation,gender\nHe left.,nurse,male\n"She left.,pilot,female\nHe ran.,judge,male\n')
    with pytest.raises(Fault, match=r"labels\.csv: cannot be read \(line 3: not CSV"):
        read_rows(path)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/nope", "/tmp"])
def test_what_is_no_file_is_not_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 1
    assert capsys.readouterr().err == f"fairloop-labels: {name}: cannot be read (no such file)\n"
