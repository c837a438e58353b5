"""What the downstream measures share: the corpus as a training set, its folds, and how their scores are written."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.mentions import mask_occupation
from fairloop.lexicon import occupation
from fairloop.measures.measurement import Measurement
from fairloop.seeding import random_generator
from fairloop.statistics.bootstrap import cluster_numbers
from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Answer = TypeVar("Answer")

FOLDS = 10
"""Each fold is left out once, to see how much what is learned depends on the sentences."""


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


def columns_of_refits(
    columns: Callable[[Answer], Floats], refits: Sequence[Answer] | None
) -> NDArray[np.float64] | None:
    """Return the columns [K, n, k] of each refit's answers; None if the classifier is given."""
    if refits is None:
        return None
    return np.stack([columns(one) for one in refits]) if refits else np.empty((0, 0, 1))


def learned(name: str, accuracy: Estimate, chance: float) -> Measurement:
    """Return 1 if the accuracy's interval lies above chance, else 0: then the bias is that of a guess."""
    if not accuracy.defined:
        return Measurement.of(name, Estimate.undefined())
    return Measurement(name, float(accuracy.low > chance), None, None, accuracy.n)


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
