"""Where a sentence names an occupation, and sentences with the occupation's name taken out."""

import re
from dataclasses import dataclass
from functools import cache

from fairloop.lexicon import occupation as find
from fairloop.lexicon import word_table
from fairloop.lexicon.data_files import read_table
from fairloop.lexicon.gendered import Side


@dataclass(frozen=True)
class Mention:
    """One mention of an occupation: `text[start:end]`; `side` is set for gendered forms such as "policewoman"."""

    start: int
    end: int
    plural: bool
    side: Side | None = None


def find_mentions(text: str, occupation: str) -> list[Mention]:
    """Return every mention of the occupation: its name, plural, spelling variants and gendered forms, in any case.

    Raises:
        UserError: the occupation is not in the table.
    """
    pattern, forms = _forms(occupation)
    return [
        Mention(match.start(), match.end(), *forms[re.sub(r"[\s\-‐‑]+", " ", match.group().lower()).replace("’", "'")])
        for match in pattern.finditer(text)
    ]


def mask_occupation(text: str, occupation: str) -> str:
    """Return the text with the occupation's name replaced by "person" or "people", the article put right.

    Gendered forms become "man", "woman", "men" or "women": the mask takes the occupation away, not the gender.

    Raises:
        UserError: the occupation is not in the table.
    """
    pieces: list[str] = []
    end = 0
    for mention in find_mentions(text, occupation):
        before = text[end : mention.start]
        before = re.sub(r"\b(A)n(\s+)\Z", r"\1\2", before, flags=re.IGNORECASE)
        pieces += [before, _mask(mention, text[mention.start : mention.end])]
        end = mention.end
    return "".join(pieces) + text[end:]


def _mask(mention: Mention, found: str) -> str:
    words = {None: ("person", "people"), "male": ("man", "men"), "female": ("woman", "women")}[mention.side]
    mask = words[mention.plural]
    if found.isupper() and len(found) > 3:
        return mask.upper()
    return mask.capitalize() if found[0].isupper() and not found.isupper() else mask


@cache
def _forms(occupation: str) -> tuple[re.Pattern[str], dict[str, tuple[bool, Side | None]]]:
    entry = find(occupation)
    forms: dict[str, tuple[bool, Side | None]] = {}
    spellings = [(entry.name, entry.plural)]
    spellings += [
        (row["singular"], row["plural"])
        for row in read_table("occupation_spellings")
        if row["occupation"] == occupation
    ]
    for singular, plural in spellings:
        forms[_normal(singular)] = (False, None)
        forms[_normal(plural)] = (True, None)
    table = word_table()
    for word, denoted in table.occupation.items():
        if denoted == occupation:
            forms[word] = (word.endswith(("men", "s")) and not word.endswith("ss"), table.side[word])
    longest_first = sorted(forms, key=len, reverse=True)
    body = "|".join(re.escape(form).replace(r"\ ", r"[\s\-‐‑]+").replace("'", "['’]") for form in longest_first)
    return re.compile(rf"(?<![^\W\d_])(?:{body})(?![^\W\d_])", re.IGNORECASE), forms


def _normal(form: str) -> str:
    return re.sub(r"[\s\-]+", " ", form.lower())
