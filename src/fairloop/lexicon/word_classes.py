"""Closed lists of words that rules about sentences need, from `word_classes.csv`."""

from functools import cache

from fairloop.lexicon.data_files import read_table


@cache
def _classes() -> dict[str, frozenset[str]]:
    return {row["class"]: frozenset(row["words"].split()) for row in read_table("word_classes")}


def word_class(name: str) -> frozenset[str]:
    """Return the words of a class, in lower case; raise `KeyError` where there is no such class."""
    return _classes()[name]
