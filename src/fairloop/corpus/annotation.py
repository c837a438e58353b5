"""Gender of the person in the occupation, and whether the sentence agrees with the occupation's majority."""

from dataclasses import dataclass

from fairloop.corpus.coreference import Resolver
from fairloop.corpus.schema import Gender
from fairloop.corpus.sentence import tokenize
from fairloop.lexicon import occupation


@dataclass(frozen=True)
class Annotation:
    """Labels of one sentence: γ (`gender`) and σ (`stereotype`: +1, −1 or 0) of docs/methods.md, section 1."""

    gender: Gender
    stereotype: int


def annotate(text: str, occupation_name: str) -> Annotation:
    """Label a sentence about the occupation.

    Raises:
        UserError: the occupation is not in the table.
    """
    gender = person_gender(text, occupation_name)
    return Annotation(gender, stereotype_of(gender, occupation_name))


def stereotype_of(gender: Gender, occupation_name: str) -> int:
    """Return +1 if the gender is the occupation's majority, −1 if it is the other, 0 otherwise."""
    majority = occupation(occupation_name).majority
    if majority == "balanced" or gender not in ("male", "female"):
        return 0
    return 1 if gender == majority else -1


def person_gender(text: str, occupation_name: str) -> Gender:
    """Return the gender of the person in the occupation, from the gendered words that refer to that person.

    A sentence that does not name the occupation has nobody for them to refer to: "none".

    Raises:
        UserError: the occupation is not in the table.
    """
    sides = Resolver(tokenize(text, occupation_name)).sides
    if not sides:
        return "none"
    return "mixed" if len(sides) == 2 else next(iter(sides))
