"""How often the labels of gender err on a family's own sentences, counted against labels by hand.

`data/label_errors.csv` holds the families that were labelled (`tests/corpus/data`; a test counts again): on sentences
that no rule was made for, where there are such. `fairloop-report RUNS_DIR --labels FILE` counts on a user's own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from fairloop.corpus.annotation import person_gender
from fairloop.corpus.quality import read_rows
from fairloop.errors import UserError
from fairloop.files import csv_rows
from fairloop.measures.catalogue import Declared
from fairloop.statistics.mislabelled import LabelErrors

SIDES = ("male", "female")


def label_errors(rows: Sequence[Mapping[str, str]]) -> LabelErrors:
    """Count what became of sentences labelled by hand; rows with `text`, `occupation` and `gender`."""
    said = Counter((_side(row["gender"]), _side(person_gender(row["text"], row["occupation"]))) for row in rows)
    labelled = [(said[true, "male"], said[true, "female"], said[true, ""]) for true in (*SIDES, "")]
    return LabelErrors.apart(*labelled)


def _side(gender: str) -> str:
    return gender if gender in SIDES else ""


def read_errors(paths: Sequence[Path]) -> LabelErrors:
    """Count on the sentences of files, all together.

    Raises:
        Fault: a file cannot be read.
        UserError: it lacks a column or holds an unknown label, or no sentence is male or female by hand.
    """
    found = label_errors([row for path in paths for row in read_rows(path)])
    if not found.gendered:
        raise UserError.of("--labels", paths[0], "sentences of which some are male or female by hand")
    return found


@cache
def known_errors() -> dict[str, LabelErrors]:
    """Return the errors on the sentences of each family that was labelled by hand, by the generator's name."""
    rows = csv_rows(files("fairloop.corpus").joinpath("data/label_errors.csv").read_text(encoding="utf-8"))[1]
    counts = ("gendered", "right", "flipped", "others", "false")
    found = {}
    for row in rows:
        gendered, right, flipped, others, false = (int(row[name]) for name in counts)
        found[row["model"]] = LabelErrors(gendered, right, flipped, others, false)
    return found


MEASURES = (
    Declared(
        "corrected/net_stereotype_rate", "net stereotype rate B, corrected for label errors", "B corrected", ideal=0
    ),
    Declared("corrected/gendered_share", "gendered share, corrected for label errors", "share corrected"),
    Declared("corrected/male_share", "male share, corrected for label errors", "male share corrected"),
    Declared(
        "corrected/net_rate_among_gendered",
        "net rate among gendered, corrected for label errors",
        "net among gendered, corrected",
        ideal=0,
    ),
)
