"""Occupations with their shares of women, gendered words, names, activities and sentence templates.

The data lies in `lexicon/data`, one CSV file a table, with the sources in `data/README.md`.
"""

from fairloop.lexicon.gendered import GenderedPair, WordTable, gendered_pairs, names, word_table
from fairloop.lexicon.occupations import (
    Activities,
    Activity,
    Occupation,
    activities,
    find_occupation,
    occupation,
    occupations,
    with_article,
)
from fairloop.lexicon.templates import Template, fillers, templates

__all__ = [
    "Activities",
    "Activity",
    "GenderedPair",
    "Occupation",
    "Template",
    "WordTable",
    "activities",
    "fillers",
    "find_occupation",
    "gendered_pairs",
    "names",
    "occupation",
    "occupations",
    "templates",
    "with_article",
    "word_table",
]
