"""Occupations with their shares of women, gendered words, names, activities and sentence templates.

The data lies in `lexicon/data`, one CSV file a table, with the sources in `data/README.md`.
"""

from fairloop.lexicon.gendered import GenderedPair, WordTable, first_names, gendered_pairs, names, word_table
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
from fairloop.lexicon.targets import (
    Attribute,
    HeldoutTemplate,
    PairExample,
    PairTemplate,
    Target,
    TargetKind,
    attributes,
    heldout_templates,
    neutral_sentences,
    pair_examples,
    pair_templates,
    targets,
    toxic_terms,
)
from fairloop.lexicon.templates import Template, fillers, templates

__all__ = [
    "Activities",
    "Activity",
    "Attribute",
    "GenderedPair",
    "HeldoutTemplate",
    "Occupation",
    "PairExample",
    "PairTemplate",
    "Target",
    "TargetKind",
    "Template",
    "WordTable",
    "activities",
    "attributes",
    "fillers",
    "find_occupation",
    "first_names",
    "gendered_pairs",
    "heldout_templates",
    "names",
    "neutral_sentences",
    "occupation",
    "occupations",
    "pair_examples",
    "pair_templates",
    "targets",
    "templates",
    "toxic_terms",
    "with_article",
    "word_table",
]
