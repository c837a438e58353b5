"""Sentence templates for the seed corpus and for the downstream tests' counterfactual pairs.

A template is a sentence with slots in braces:

| slot | filled with |
| --- | --- |
| `{job}`, `{jobs}`, `{a job}`, `{A job}` | the occupation, its plural, with its article |
| `{base}`, `{present}`, `{past}`, `{gerund}`, `{Gerund}` | an activity in that form |
| `{name}` | a first name |
| `{other}` | a second occupation, for who-does-what sentences |
| `{when}`, `{years}`, `{surname}` | a filler from `fillers.csv` |
| any other | a gendered word as the version about a man has it: `{he}`, `{His}`, `{wife}`, `{Mr}` |
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fairloop.lexicon.data_files import read_table
from fairloop.lexicon.gendered import GenderedPair, Side, word_table
from fairloop.lexicon.occupations import Activity, Occupation, with_article

Use = Literal["gendered", "neutral", "heldout", "resolution", "applicant"]

_SLOT = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True)
class Template:
    """One sentence with slots; `use` says whether it is for gendered or neutral seed sentences or is held out.

    Held out are those for occupation prediction ("heldout"), who-does-what pronoun resolution ("resolution") and
    hiring ("applicant").
    """

    id: str
    use: Use
    text: str

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the names of the slots in order."""
        return tuple(_SLOT.findall(self.text))

    def fill(
        self,
        occupation: Occupation,
        activity: Activity,
        *,
        side: Side = "male",
        name: GenderedPair | None = None,
        filler: dict[str, str] | None = None,
    ) -> str:
        """Return the sentence with every slot filled.

        Args:
            occupation: the occupation it is about.
            activity: what the person does.
            side: the gender of the person, for gendered templates.
            name: the pair of names of which `side`'s is used; needed where there is a `{name}`.
            filler: the texts for `{other}`, `{when}`, `{years}` and `{surname}`.
        """
        values = {
            "job": occupation.name,
            "jobs": occupation.plural,
            "a job": with_article(occupation.name),
            "A job": _capital(with_article(occupation.name)),
            "base": activity.base,
            "present": activity.present,
            "past": activity.past,
            "gerund": activity.gerund,
            "Gerund": _capital(activity.gerund),
            **(filler or {}),
        }
        if name is not None:
            values["name"] = name.male if side == "male" else name.female

        def replace(match: re.Match[str]) -> str:
            slot = match.group(1)
            return values[slot] if slot in values else _gendered(slot, side)

        return _SLOT.sub(replace, self.text)


@cache
def templates(use: Use) -> tuple[Template, ...]:
    """Return the templates of that use, in the order of the file."""
    rows = read_table("templates")
    return tuple(Template(row["id"], row["use"], row["text"]) for row in rows if row["use"] == use)  # type: ignore[arg-type]


@cache
def fillers() -> dict[str, tuple[str, ...]]:
    """Return the texts for each filler slot."""
    found: dict[str, list[str]] = {}
    for row in read_table("fillers"):
        found.setdefault(row["slot"], []).append(row["text"])
    return {slot: tuple(texts) for slot, texts in found.items()}


def _gendered(slot: str, side: Side) -> str:
    # Templates only use "his" before a noun, so the lookup's first partner is the right one.
    word = slot.lower() if side == "male" else word_table().swapped[slot.lower()]
    return _capital(word) if slot[0].isupper() else word


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
