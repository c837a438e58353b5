"""Diversity of a corpus: recursion also degrades text, and a collapse must be seen.

distinct-n (Li et al. 2016) is the number of different n-grams over the number of all n-grams of the corpus; n-grams do
not cross sentences. It falls with the size of the corpus: compare corpora of equal size.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Metric, of_sample
from fairloop.statistics.bootstrap import cluster_numbers, divide
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean, jackknife

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; inner apostrophes and hyphens belong to the word."""
    return _WORD.findall(text.lower())


def measure_diversity(texts: Sequence[str], *, groups: Sequence[Hashable] | None = None) -> list[Measurement]:
    """Measure sentences.

    A duplicate is a sentence that has the words of an earlier one. All intervals are the jackknife's over sentences, or
    over groups where given: resampling with replacement repeats sentences, and so makes any corpus look less diverse.

    Args:
        texts: [n] sentences.
        groups: [n], sentences whose prompts shared examples are left out together.

    Returns:
        `diversity/distinct_1`, `diversity/distinct_2`, `diversity/duplicate_share`, `diversity/mean_length` (words).
    """
    if groups is not None and len(groups) != len(texts):
        raise ValueError(f"{len(groups)} groups for {len(texts)} sentences")
    sentences = [tuple(words(text)) for text in texts]
    units = list(range(len(sentences))) if groups is None else cluster_numbers(groups).tolist()
    bigrams = [list(pairwise(sentence)) for sentence in sentences]
    different = _distinct_share([[sentence] for sentence in sentences], units)
    lengths = [len(sentence) for sentence in sentences]
    estimates = {
        "diversity/distinct_1": _distinct_share(sentences, units),
        "diversity/distinct_2": _distinct_share(bigrams, units),
        "diversity/duplicate_share": different.scaled(-1, 1),
        "diversity/mean_length": estimate_mean(lengths, clusters=groups),
    }
    return [Measurement.of(name, estimate) for name, estimate in estimates.items()]


def _distinct_share(things: Sequence[Sequence[Hashable]], units: Sequence[int]) -> Estimate:
    """Return different things / all things, where `things` has one list per sentence; n is the number of sentences."""
    where: dict[Hashable, set[int]] = defaultdict(set)
    totals: Counter[int] = Counter()
    for unit, sentence in zip(units, things, strict=True):
        totals[unit] += len(sentence)
        for thing in sentence:
            where[thing].add(unit)
    size = sum(totals.values())
    if size == 0:
        return Estimate.undefined()
    # What occurs in one unit only is lost when that unit is left out.
    lost = Counter(next(iter(found)) for found in where.values() if len(found) == 1)
    left_out = divide(
        np.array([len(where) - lost[unit] for unit in totals], dtype=np.float64),
        np.array([size - count for count in totals.values()], dtype=np.float64),
    )
    return jackknife(len(where) / size, left_out, len(things), bounds=(0, 1))


METRIC = Metric(
    "diversity",
    (
        Declared("diversity/distinct_2", "distinct-2", goal="maximize", headline=True, place=12),
        Declared("diversity/distinct_1", "distinct-1", goal="maximize"),
        Declared("diversity/duplicate_share", "share of duplicates", "duplicates", goal="minimize"),
        Declared("diversity/mean_length", "mean length in words", "mean length"),
    ),
    of_sample(measure_diversity),
    description="Diversity of a corpus: distinct-1 and distinct-2, the share of sentences that repeat an earlier one, "
    "and the mean length in words.",
    citation="Li, Galley, Brockett, Gao and Dolan (2016): A Diversity-Promoting Objective Function for Neural "
    "Conversation Models. NAACL.",
    urls=("https://aclanthology.org/N16-1014",),
)
