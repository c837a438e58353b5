"""Embedding-based bias of a corpus: the word embedding association test (WEAT) on whole sentences.

X and Y are the sentences about male- and female-majority occupations, A and B male and female anchor sentences
(`data/anchors.csv`: pairs that differ in gendered words and say nothing about work, in the manner of the semantically
bleached sentences of May et al. 2019). With a(w) = mean over A of cos(w, ·) - mean over B of cos(w, ·),

    effect size d = [mean over X of a - mean over Y of a] / standard deviation of a over X ∪ Y

(Caliskan et al. 2017). The standard deviation is the sample's (divisor n - 1), as in the published SEAT implementation.
The sentences name the occupation, and so d also holds what the encoder itself thinks of it: a corpus without any
gendered word need not have d = 0.
"""

import math
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from fairloop.files import csv_rows
from fairloop.lexicon import occupation
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Embed, Metric, Sample, of_sample
from fairloop.seeding import derive
from fairloop.statistics.effect_size import effect_columns, effect_of_sums, fisher_of_sums, from_fisher
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_sums
from fairloop.statistics.permutation import permutation_p_value
from fairloop.statistics.units import cluster_numbers

Floats = NDArray[np.float64]


@cache
def anchors() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the male and the female anchor sentences, paired by place."""
    text = files("fairloop.metrics").joinpath("data/anchors.csv").read_text(encoding="utf-8")
    rows = csv_rows(text)[1]
    return tuple(row["male"] for row in rows), tuple(row["female"] for row in rows)


def remembering(embed: Embed, calls: int = 8) -> Embed:
    """Return an encoder that answers a call with the same sentences from memory; the last `calls` are kept.

    Anchors and held-out pairs are the same for every corpus. Only whole calls are remembered: what else is in a batch
    may move the last bits of a vector, and a result must not depend on what was measured before.
    """

    @lru_cache(maxsize=calls)
    def remembered(texts: tuple[str, ...]) -> NDArray[np.floating]:
        return embed(texts)

    return lambda texts: remembered(tuple(texts))


def by_sentence(embed: Embed) -> Embed:
    """Return an encoder that asks for each sentence once and remembers it.

    For corpora that share sentences, such as a corpus and its augmented variants. A vector's last bits depend on the
    batch in which it was first asked for: use one memory for one fixed series of measurements.
    """
    known: dict[str, NDArray[np.floating]] = {}

    def remembered(texts: Sequence[str]) -> NDArray[np.floating]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new or not texts:
            vectors = embed(new)
            known.update(zip(new, vectors, strict=True))
            if not texts:
                return vectors
        return np.stack([known[text] for text in texts])

    return remembered


def measure_embedding(
    texts: Sequence[str],
    occupations: Sequence[str],
    embed: Embed,
    *,
    seed: int,
    partitions: int = Sample.partitions,
    groups: Sequence[Hashable] | None = None,
) -> list[Measurement]:
    """Measure sentences about occupations.

    The interval of the effect size is Student's over the jackknife's units, groups of X ∪ Y; the anchors are fixed.
    The p-value is that of the permutation test over *occupations*, each with the mean association of its sentences, and
    one-sided: large effects are those that associate male-majority occupations with male anchors. Sentences are not
    exchangeable, as WEAT's words are: those about one occupation are alike, and a test over sentences finds anything.
    Both are undefined if X or Y is empty, or if all associations are equal.

    Args:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about; sentences about balanced ones belong to neither set.
        embed: the encoder.
        seed: decides sampled partitions.
        partitions: the largest number of partitions that the permutation test looks at.
        groups: [n], sentences whose prompts shared examples are one unit.

    Returns:
        `embedding/effect_size`, whose n is the size of X ∪ Y; `embedding/p_value`, whose n is that of occupations.
    """
    if len(texts) != len(occupations) or (groups is not None and len(groups) != len(texts)):
        raise ValueError("texts, occupations and groups must have the same length")
    majority = np.array([occupation(name).majority for name in occupations], dtype=object)
    chosen = np.flatnonzero(majority != "balanced").tolist()
    male = majority[chosen] == "male"
    if not male.any() or male.all():
        return [Measurement.of(f"embedding/{what}", Estimate.undefined()) for what in ("effect_size", "p_value")]
    values = associations(embed, [texts[index] for index in chosen])
    clusters = None if groups is None else [groups[index] for index in chosen]
    shared = derive(seed, "embedding")
    columns = effect_columns(values, male)
    effect = from_fisher(estimate_sums(columns, fisher_of_sums, clusters=clusters), columns.sum(axis=0))
    if effect.defined:
        names = [occupations[index] for index in chosen]
        p_value = permutation_p_value(
            *(_means(values[side], [names[place] for place in np.flatnonzero(side)]) for side in (male, ~male)),
            seed=shared,
            partitions=partitions,
        )
        test = Estimate(p_value, math.nan, math.nan, len(set(names)))
    else:
        test = Estimate.undefined()
    return [Measurement.of("embedding/effect_size", effect), Measurement.of("embedding/p_value", test)]


def associations(embed: Embed, texts: Sequence[str]) -> Floats:
    """Return a(w) of each sentence [n]: its mean cosine with the male anchors minus that with the female ones."""
    male, female = anchors()
    # Two calls, so that the anchors are the same call for every corpus (see `remembering`).
    sentences, fixed = _unit(embed(texts)), _unit(embed([*male, *female]))
    axis = fixed[: len(male)].mean(axis=0) - fixed[len(male) :].mean(axis=0)
    # A sum over products, and not a matrix product, whose last bits depend on the number of threads.
    return np.asarray((sentences * axis).sum(axis=1))


def effect_size(x: Floats, y: Floats) -> float:
    """Return d of the associations x [n] and y [m]; NaN if one is empty or all values are equal."""
    male = np.repeat([True, False], [len(x), len(y)])
    return float(effect_of_sums(effect_columns(np.concatenate([x, y]), male).sum(axis=0)))


def _means(values: Floats, names: Sequence[str]) -> Floats:
    """Return the mean value of each name."""
    numbers = cluster_numbers(names)
    return np.asarray(np.bincount(numbers, weights=values) / np.bincount(numbers))


def _unit(vectors: NDArray[np.floating]) -> Floats:
    matrix = np.asarray(vectors, dtype=np.float64)
    lengths = np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("the encoder returned a vector of length zero or not finite: it has no cosine")
    return np.asarray(matrix / lengths)


METRIC = Metric(
    "embedding",
    (
        Declared(
            "embedding/effect_size",
            "embedding effect size (WEAT d)",
            "WEAT d",
            ideal=0,
            headline=True,
            place=2,
        ),
        Declared("embedding/p_value", "p-value of WEAT d over occupations", "p"),
    ),
    of_sample(measure_embedding),
    description="WEAT effect size on whole sentences: how much more the sentences about male-majority occupations are "
    "associated with male anchor sentences than those about female-majority occupations; with a one-sided permutation "
    "p-value.",
    citation="Caliskan, Bryson and Narayanan (2017): Semantics derived automatically from language corpora contain "
    "human-like biases. Science 356. May, Wang, Bordia, Bowman and Rudinger (2019): On Measuring Social Biases in "
    "Sentence Encoders. NAACL.",
    urls=("https://doi.org/10.1126/science.aal4230", "https://aclanthology.org/N19-1063"),
    needs=frozenset({"occupations", "embed"}),
)
