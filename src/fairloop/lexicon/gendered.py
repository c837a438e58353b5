"""Gendered words: pronouns, kinship, titles, nouns, occupational forms and first names, in pairs."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from fairloop.lexicon.data_files import read_table

Kind = Literal["pronoun", "kinship", "title", "noun", "name", "occupation"]
Side = Literal["male", "female"]


@dataclass(frozen=True)
class GenderedPair:
    """A male and a female form of the same word, in lower case (names: in title case).

    `one_way` pairs swap only from female to male: the male form has a better partner ("Mrs" to "Mr", but "Mr"
    to "Ms"), or is used for everyone ("actress" to "actor"). `occupation` names the occupation that the pair
    denotes ("policeman" is a "police officer"), or is empty.
    """

    male: str
    female: str
    kind: Kind
    one_way: bool = False
    occupation: str = ""


@dataclass(frozen=True)
class WordTable:
    """Lookup of gendered words by their lower-case form; names are apart, since they count only when capitalised."""

    side: dict[str, Side]
    kind: dict[str, Kind]
    swapped: dict[str, str]
    occupation: dict[str, str]
    name_side: dict[str, Side]
    name_swapped: dict[str, str]


@cache
def gendered_pairs() -> tuple[GenderedPair, ...]:
    """Return all pairs of gendered words, without the names."""
    return tuple(
        GenderedPair(row["male"], row["female"], row["kind"], row["one_way"] == "female", row["occupation"])  # type: ignore[arg-type]
        for row in read_table("gendered_words")
    )


@cache
def names() -> tuple[GenderedPair, ...]:
    """Return the pairs of first names of seed corpora and templates."""
    return tuple(GenderedPair(row["male"], row["female"], "name") for row in read_table("names"))


@cache
def first_names() -> tuple[GenderedPair, ...]:
    """Return all pairs of first names that are recognised: those of `names`, then more by their frequency.

    No name occurs twice, so that swapping names is an involution.
    """
    more = (GenderedPair(row["male"], row["female"], "name") for row in read_table("first_names"))
    return (*names(), *more)


@cache
def word_table() -> WordTable:
    """Return the lookup of all gendered words.

    The cases of the pronouns that share a form (his, her) are left to `corpus.counterfactual`; `swapped`
    holds the first pair's.
    """
    table = WordTable({}, {}, {}, {}, {}, {})
    for pair in gendered_pairs():
        sides: list[tuple[str, str, Side]] = [(pair.female, pair.male, "female")]
        if not pair.one_way:
            sides.append((pair.male, pair.female, "male"))
        for word, other, side in sides:
            table.side.setdefault(word, side)
            table.kind.setdefault(word, pair.kind)
            table.swapped.setdefault(word, other)
            if pair.occupation:
                table.occupation.setdefault(word, pair.occupation)
    for pair in first_names():
        table.name_side[pair.male.lower()] = "male"
        table.name_side[pair.female.lower()] = "female"
        table.name_swapped[pair.male.lower()] = pair.female
        table.name_swapped[pair.female.lower()] = pair.male
    return table
