"""The nearest pairs of each pair, by cosine over the frozen PLM's own representation (docs/methods.md, section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import UserError

if TYPE_CHECKING:
    from fairloop.pairs.pair import Pair
    from fairloop.plm.model import LanguageModel

#: Up to so many pairs every cosine is computed with NumPy: with 768 dimensions about a minute on two cores.
PAIRS_BY_NUMPY = 100_000
#: Cosines held at once: 256 MB.
_COSINES_AT_ONCE = 64_000_000


@dataclass(frozen=True)
class Neighbours:
    """The K nearest pairs of each of n pairs, itself among them.

    Attributes:
        numbers: [n, K], the pair itself first, then by falling cosine; equal cosines by number.
        weights: [n, K], W_ik = max(cos, 0), scaled so that each row adds up to 1.
    """

    numbers: NDArray[np.int64]
    weights: NDArray[np.float64]

    def average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_k W_ik · value_k for each pair i [n]."""
        averages: NDArray[np.float64] = (self.weights * values[self.numbers]).sum(axis=1)
        return averages


def represent(plm: "LanguageModel", pairs: "Sequence[Pair]") -> NDArray[np.float32]:
    """Return one unit vector for each pair [n, d]: the mean of its two sentences' unit vectors (mean-pooled)."""
    sentences = [*(pair.male for pair in pairs), *(pair.female for pair in pairs)]
    vectors = plm.encoder.embed(sentences, normalize=True)
    middle = vectors[: len(pairs)] + vectors[len(pairs) :]
    scaled: NDArray[np.float32] = middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
    return scaled


def nearest(vectors: NDArray[np.float32], count: int) -> Neighbours:
    """Return the `count` nearest of unit vectors [n, d]: an exact search.

    With more than `PAIRS_BY_NUMPY` vectors it is done by faiss, if that is installed: its flat index is exact too.

    Raises:
        UserError: there are fewer vectors than `count` (`debias.neighbours`).
    """
    if count > len(vectors):
        raise UserError.of(
            "debias.neighbours", count, f"at most {len(vectors)}, the pairs that are left to choose from"
        )
    numbers, cosines = _search(np.ascontiguousarray(vectors, dtype=np.float32), count)
    weights = np.maximum(cosines.astype(np.float64), 0.0)
    return Neighbours(numbers, weights / weights.sum(axis=1, keepdims=True))


def _search(vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if len(vectors) > PAIRS_BY_NUMPY:
        try:
            import faiss  # type: ignore[import-not-found]
        except ModuleNotFoundError:
            pass
        else:
            return _by_faiss(faiss, vectors, count)
    numbers = np.empty((len(vectors), count), dtype=np.int64)
    cosines = np.empty((len(vectors), count), dtype=np.float32)
    rows = max(1, _COSINES_AT_ONCE // len(vectors))
    for start in range(0, len(vectors), rows):
        part = vectors[start : start + rows] @ vectors.T
        own = np.arange(start, start + len(part))
        part[np.arange(len(part)), own] = np.inf  # itself first, also before an equal pair
        numbers[own] = _largest(part, count)
        part[np.arange(len(part)), own] = 1.0
        cosines[own] = np.take_along_axis(part, numbers[own], axis=1)
    return numbers, cosines


def _largest(part: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of the largest values of each row, falling; equal ones by number."""
    found = np.sort(np.argpartition(-part, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(part, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _by_faiss(faiss: Any, vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    cosines, numbers = index.search(vectors, count)
    for row, found in enumerate(numbers):
        if found[0] != row:  # equal pairs: itself first
            place = int(np.flatnonzero(found == row)[0]) if row in found else count - 1
            numbers[row, 1 : place + 1] = found[:place].copy()
            numbers[row, 0] = row
    return numbers.astype(np.int64), cosines
