"""What the downstream measures share: the corpus as a training set, its folds, and how their scores are written."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.mentions import mask_occupation
from fairloop.lexicon import occupation
from fairloop.measures.measurement import Measurement
from fairloop.seeding import random_generator
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import FEWEST_UNITS
from fairloop.statistics.student import student_quantile
from fairloop.statistics.units import cluster_numbers

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Answer = TypeVar("Answer", bound="Scored")

FOLDS = 10
"""Each fold is left out once, to see how much what is learned depends on the sentences."""


RESAMPLES = 200
"""Draws of the training noise behind each interval: they know its deviation to 5%."""


@dataclass(frozen=True)
class TrainingSet:
    """A corpus as a training set.

    Attributes:
        texts: [n] sentences, the occupation's own words masked.
        occupations: [n], the occupation that each is about.
        groups: [n], sentences whose prompts shared examples have the same number and stay together.
    """

    texts: list[str]
    occupations: list[str]
    groups: Places

    @classmethod
    def of(
        cls, texts: Sequence[str], occupations: Sequence[str], groups: Sequence[Hashable] | None = None
    ) -> "TrainingSet":
        """Mask the sentences; without `groups` each stands for itself."""
        if len(texts) != len(occupations):
            raise ValueError(f"{len(texts)} texts for {len(occupations)} occupations")
        if groups is not None and len(groups) != len(texts):
            raise ValueError(f"{len(groups)} groups for {len(texts)} texts")
        masked = [mask_occupation(text, name) for text, name in zip(texts, occupations, strict=True)]
        numbers = np.arange(len(texts)) if groups is None else cluster_numbers(groups)
        return cls(masked, list(occupations), numbers)

    @property
    def classes(self) -> tuple[str, ...]:
        """The occupations, sorted."""
        return tuple(sorted(set(self.occupations)))

    @property
    def truth(self) -> Places:
        """[n], the place of each sentence's occupation among `classes`."""
        return np.searchsorted(np.array(self.classes, dtype=str), np.array(self.occupations, dtype=str))

    def can_be_learned(self, kept: Places | None = None) -> bool:
        """Whether there is something to learn about stereotypes: a male- and a female-majority occupation."""
        names = self.occupations if kept is None else [self.occupations[place] for place in kept]
        return {"male", "female"} <= {occupation(name).majority for name in set(names)}

    def folds(self) -> list[tuple[Places, Places]]:
        """Return, for each of `FOLDS` parts of the groups, the places of the sentences kept and left out.

        Chance deals the groups, always in the same way. Empty where a part cannot be left out: fewer than two groups,
        or what is kept lacks a majority.
        """
        count = int(self.groups.max()) + 1 if len(self.groups) else 0
        parts = min(FOLDS, count)
        if parts < 2:
            return []
        part = np.empty(count, dtype=np.int64)
        part[random_generator(0, "downstream-folds").permutation(count)] = np.arange(count) % parts
        of_sentence = part[self.groups]
        found = [(np.flatnonzero(of_sentence != one), np.flatnonzero(of_sentence == one)) for one in range(parts)]
        return found if all(self.can_be_learned(kept) for kept, _ in found) else []


def spread(vectors: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return mean and deviation [d] of vectors [n, d]; the deviation is 1 where there is none but rounding."""
    table = np.asarray(vectors, dtype=np.float64)
    mean, scale = table.mean(axis=0), table.std(axis=0)
    # MiniLM has dimensions that are the same for every sentence.
    scale[scale <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1.0
    return mean, scale


class Scored(Protocol):
    """A model's answers to the questions of a task, as scores to which noise can be added."""

    @property
    def scores(self) -> Floats:
        """Log probabilities, or what else is nearly linear in the training data."""
        ...

    def scored(self, scores: Floats) -> Self:
        """Return the answers of a model with other scores."""
        ...


def over_corpora(
    statistics: Callable[[Answer], Mapping[str, float]],
    answers: Answer,
    refits: Sequence[Answer],
    *,
    seed: int,
    resamples: int,
    least: Mapping[str, float],
) -> dict[str, Estimate]:
    """Return statistics of a model's answers with the intervals of training it on other corpora of the same source.

    The questions are the same for every corpus and so are given: their choice would make the intervals two to three
    times as wide as what tells corpora apart. How much the *scores* of the answers depend on the corpus is seen from
    the folds, by the delete-a-group jackknife (Kott 2001). A statistic that counts who is chosen is not smooth, and the
    jackknife of such a one is twice too large; so noise with the scores' jackknife covariance is added to the scores,
    and the deviation of the statistic under it is taken, with Student's t.

    Args:
        statistics: of one model's answers, by name; NaN where undefined.
        answers: of the model that was trained on everything.
        refits: [folds], those of the models that were trained without one fold each; no intervals with fewer than four.
        seed: decides the noise.
        resamples: how often it is drawn.
        least: the least possible value of each statistic; the greatest is 1.

    Returns:
        Estimates with n = 1 (see `Estimate.counting`), whose units are the folds.
    """
    values, folds = statistics(answers), len(refits)
    if folds < FEWEST_UNITS:
        return {name: Estimate(one, math.nan, math.nan, 1, folds) for name, one in values.items()}
    scores = np.stack([one.scores for one in refits])
    apart = (scores - scores.mean(axis=0)) * math.sqrt((folds - 1) / folds)
    noise = random_generator(seed, "training-noise").normal(size=(resamples, folds))
    # Of one length: else whole draws are noisier than others, for all questions alike, and the folds are few.
    noise *= math.sqrt(folds) / np.linalg.norm(noise, axis=1, keepdims=True)
    drawn = [statistics(answers.scored(answers.scores + np.tensordot(one, apart, axes=1))) for one in noise]
    quantile = student_quantile(0.975, folds - 1)
    found = {}
    for name, value in values.items():
        spread = np.array([one[name] for one in drawn])
        half = quantile * float(np.std(spread, ddof=1)) if np.isfinite(spread).all() else math.nan
        known = math.isfinite(value) and half > 1e-12
        low, high = (max(least[name], value - half), min(1.0, value + half)) if known else (math.nan, math.nan)
        found[name] = Estimate(value, low, high, 1, folds)
    return found


def learned(name: str, accuracy: Estimate, chance: float) -> Measurement:
    """Return 1 if the accuracy's interval lies above chance, else 0: then the bias is that of a guess.

    An accuracy that no fold changes has no interval, and counts as it is; so does not one without folds.
    """
    if not accuracy.defined:
        return Measurement.of(name, Estimate.undefined())
    folded = accuracy.units is not None and accuracy.units >= FEWEST_UNITS
    least = accuracy.value if folded and math.isnan(accuracy.low) else accuracy.low
    return Measurement(name, float(least > chance), None, None, accuracy.n)


def undefined(names: Sequence[str]) -> list[Measurement]:
    """Return the measurements of a corpus that defines none of them."""
    return [Measurement.of(name, Estimate.undefined()) for name in names]


def one_thread() -> AbstractContextManager[Any]:
    """Keep linear algebra on one thread: the last bits depend on the number of threads, and the matrices are small."""
    limits: AbstractContextManager[Any] = _thread_pools().limit(limits=1)
    return limits


@cache
def _thread_pools() -> Any:
    """Return the libraries' threads; to find them takes as long as a small fit."""
    import scipy.linalg  # noqa: F401 (before the search, so that its library is found)
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
