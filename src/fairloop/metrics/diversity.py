"""Diversity of a corpus: recursion also degrades text, and a collapse must be seen.

distinct-n (Li et al. 2016) is the number of different n-grams over the number of all n-grams of the corpus; n-grams do
not cross sentences. Concentration: how often the commonest named person is among sentences that name somebody, the
effective number of named persons (1 / sum of squared shares: Simpson 1949, Hill 1973, order 2), and how far the corpus
repeats itself (compression ratio, Shaib et al. 2024). All but the shares depend on the size of a corpus: compare
corpora of equal size.
"""

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from fairloop.corpus.persons import named_person
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Metric, of_sample
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean, estimate_share, jackknife
from fairloop.statistics.units import cluster_numbers, divide

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_MOST_BLOCKS = 64
"""So many times a corpus is compressed with a part left out; where there are more units, neighbours make one part."""


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; inner apostrophes and hyphens belong to the word."""
    return _WORD.findall(text.lower())


def measure_diversity(texts: Sequence[str], *, groups: Sequence[Hashable] | None = None) -> list[Measurement]:
    """Measure sentences.

    A duplicate is a sentence that has the words of an earlier one. Shares of sentences have Wilson's interval, all
    others that of the jackknife, over sentences, or over groups where given: resampling with replacement repeats
    sentences, and so makes any corpus look less diverse.

    Args:
        texts: [n] sentences.
        groups: [n], sentences whose prompts shared examples are left out together.

    Returns:
        `diversity/distinct_1`, `diversity/distinct_2`, `diversity/duplicate_share`, `diversity/mean_length` (words),
        `diversity/named_share`, `diversity/top_name_share`, `diversity/effective_names`, `diversity/compression_ratio`.
    """
    if groups is not None and len(groups) != len(texts):
        raise ValueError(f"{len(groups)} groups for {len(texts)} sentences")
    sentences = [tuple(words(text)) for text in texts]
    units = list(range(len(sentences))) if groups is None else cluster_numbers(groups).tolist()
    bigrams = [list(pairwise(sentence)) for sentence in sentences]
    different = _distinct_share([[sentence] for sentence in sentences], units)
    lengths = [len(sentence) for sentence in sentences]
    persons = [named_person(text) for text in texts]
    estimates = {
        "diversity/distinct_1": _distinct_share(sentences, units),
        "diversity/distinct_2": _distinct_share(bigrams, units),
        "diversity/duplicate_share": different.scaled(-1, 1),
        "diversity/mean_length": estimate_mean(lengths, clusters=groups),
        "diversity/named_share": estimate_share([float(bool(person)) for person in persons], clusters=groups),
        "diversity/top_name_share": _top_share(persons, groups),
        "diversity/effective_names": _effective_number(persons, units),
        "diversity/compression_ratio": _compression_ratio(texts, units),
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


def _top_share(persons: Sequence[str], groups: Sequence[Hashable] | None) -> Estimate:
    """Return the share of the commonest named person; an empty text names nobody.

    The interval is that of the share of this one person: it does not know that the commonest was chosen.
    """
    named = Counter(filter(None, persons))
    if not named:
        return Estimate.undefined()
    commonest = max(named, key=lambda person: (named[person], person))
    hits = [float(person == commonest) for person in persons]
    return estimate_share(hits, [float(bool(person)) for person in persons], clusters=groups)


def _effective_number(persons: Sequence[str], units: Sequence[int]) -> Estimate:
    """Return 1 / sum of squared shares of the named persons: as many equally common ones would repeat as often."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for unit, person in zip(units, persons, strict=True):
        counts[unit][person] += bool(person)
    whole = Counter[str]()
    for count in counts.values():
        whole.update(count)
    squares, total = sum(count**2 for count in whole.values()), whole.total()
    if total == 0:
        return Estimate.undefined()
    left_out = [
        _quotient(
            (total - count.total()) ** 2,
            squares + sum((whole[name] - own) ** 2 - whole[name] ** 2 for name, own in count.items()),
        )
        for count in counts.values()
        if count.total()
    ]
    # On the scale of logarithms, where its spread is nearly symmetric.
    logarithm = jackknife(math.log(total**2 / squares), np.log(left_out), total, bounds=(0, math.inf))
    return replace(logarithm, value=total**2 / squares, low=math.exp(logarithm.low), high=math.exp(logarithm.high))


def _quotient(above: float, below: float) -> float:
    return above / below if below else math.nan


def _compression_ratio(texts: Sequence[str], units: Sequence[int]) -> Estimate:
    """Return the bytes of the corpus, a line for each sentence, over their bytes compressed (zlib, level 9)."""
    lines = [text.encode() + b"\n" for text in texts]
    if not lines:
        return Estimate.undefined()
    count = max(units) + 1
    blocks = [unit * min(count, _MOST_BLOCKS) // count for unit in units]

    def ratio(kept: Sequence[bytes]) -> float:
        whole = b"".join(kept)
        return _quotient(len(whole), len(zlib.compress(whole, 9)) if whole else 0)

    left_out = [
        ratio([line for line, own in zip(lines, blocks, strict=True) if own != block])
        for block in range(max(blocks) + 1)
    ]
    return jackknife(ratio(lines), left_out, len(texts), bounds=(0, math.inf))


METRIC = Metric(
    "diversity",
    (
        Declared("diversity/distinct_2", "distinct-2", goal="maximize", headline=True, place=12),
        Declared("diversity/distinct_1", "distinct-1", goal="maximize"),
        Declared("diversity/duplicate_share", "share of duplicates", "duplicates", goal="minimize"),
        Declared("diversity/mean_length", "mean length in words", "mean length"),
        Declared("diversity/named_share", "share of sentences that name a person", "named"),
        Declared(
            "diversity/top_name_share",
            "share of the commonest named person",
            "top-name share",
            goal="minimize",
            headline=True,
            place=13,
        ),
        Declared(
            "diversity/effective_names",
            "effective number of named persons",
            "effective names",
            goal="maximize",
            headline=True,
            place=14,
        ),
        Declared(
            "diversity/compression_ratio",
            "compression ratio",
            goal="minimize",
            headline=True,
            place=15,
        ),
    ),
    of_sample(measure_diversity),
    description="Diversity of a corpus: distinct-1 and distinct-2, the share of sentences that repeat an earlier one, "
    "the mean length in words, the share of sentences that name a person, the share of the commonest of these persons, "
    "their effective number (inverse Simpson), and the compression ratio of the corpus.",
    citation="Li, Galley, Brockett, Gao and Dolan (2016): A Diversity-Promoting Objective Function for Neural "
    "Conversation Models. NAACL. Hill (1973): Diversity and Evenness. Ecology 54. Shaib, Barrow, Sun, Siu, Wallace and "
    "Nenkova (2024): Standardizing the Measurement of Text Diversity. arXiv:2403.00553.",
    urls=("https://aclanthology.org/N16-1014", "https://doi.org/10.2307/1934352", "https://arxiv.org/abs/2403.00553"),
)
