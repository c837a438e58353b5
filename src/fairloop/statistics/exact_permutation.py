"""Exact p-values of the two-sample permutation test of a sum of scores.

Of N scores, n belong to the first sample; the statistic is their sum T, and the one-sided p-value is the share of
all C(N, n) ways to choose n of the N scores whose sum is at least T. For equal sample sizes this is the test of WEAT
and SEAT (Caliskan et al. 2017; May et al. 2019).

Two ways, neither of which samples:

- *Counting* (up to 40 scores). Split the scores into two halves, list the sums of all subsets of each, and count the
  pairs of subsets that have n members in all and a sum of at least T, by binary search: 2^(N/2) sums, not C(N, n).
- *The characteristic function* of the permutation distribution (Pagano and Tritchler 1983, "On obtaining permutation
  distributions in polynomial time", JASA 78). It follows, at each frequency, from a recursion over the scores. T is
  bounded, so its tail probability is a Fourier series whose terms are those of the characteristic function on a
  grid: there is no aliasing, and the terms vanish like a normal distribution's. The distribution is tilted
  exponentially towards T first, so that small p-values keep their relative accuracy.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: Largest number of scores that is counted: 2^20 subset sums in each half.
COUNTED_UP_TO = 40
#: Two sums closer than this share of the largest possible sum are equal: they differ by rounding.
_TIE = 1e-12
_FREQUENCIES_AT_ONCE = 64
_MOST_FREQUENCIES = 8192
_NEGLIGIBLE = 1e-13


@dataclass(frozen=True)
class PermutationTest:
    """The result of a permutation test.

    Attributes:
        p_value: P(T' >= T) over all permutations, the observed one included.
        partitions: C(N, n).
        method: `counted` or `characteristic_function`.
    """

    p_value: float
    partitions: int
    method: Literal["counted", "characteristic_function"]


def exact_permutation_test(
    first: np.ndarray, second: np.ndarray, *, counted_up_to: int = COUNTED_UP_TO
) -> PermutationTest:
    """Test whether the scores of the first sample are larger than those of the second (one-sided).

    Args:
        first: Scores of the first sample, shape [n].
        second: Scores of the second sample, shape [N - n].
        counted_up_to: Use counting up to this many scores in all, the characteristic function beyond.

    Raises:
        ValueError: if a sample is empty or a score is not finite.
    """
    scores = np.concatenate([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    chosen, total = len(first), len(scores)
    if not 0 < chosen < total or not np.isfinite(scores).all():
        raise ValueError("a permutation test needs two samples that are not empty, of finite scores")
    partitions = math.comb(total, chosen)
    scores = scores - scores.mean()
    observed = float(scores[:chosen].sum())
    if np.abs(scores).max() <= 1e-15:
        return PermutationTest(1.0, partitions, "counted")
    if total <= counted_up_to:
        return PermutationTest(_count(scores, chosen, observed) / partitions, partitions, "counted")
    p_value = _tail_probability(scores, chosen, observed)
    return PermutationTest(min(1.0, max(p_value, 1 / partitions)), partitions, "characteristic_function")


def _count(scores: np.ndarray, chosen: int, observed: float) -> int:
    """Count the subsets of `chosen` scores whose sum is at least `observed`."""
    half = len(scores) // 2
    left, right = _sums_by_size(scores[:half]), _sums_by_size(scores[half:])
    threshold = observed - _TIE * float(np.abs(scores).sum())
    count = 0
    for size, sums in enumerate(left):
        if 0 <= chosen - size < len(right):
            others = np.sort(right[chosen - size])
            # Sorted needles walk through `others` in order, which is several times faster than at random.
            below = np.searchsorted(others, threshold - np.sort(sums), side="left")
            count += len(sums) * len(others) - int(below.sum())
    return count


def _sums_by_size(scores: np.ndarray) -> list[np.ndarray]:
    """Return the sums of all subsets of `scores`, grouped by the number of members."""
    groups = [np.zeros(1)] + [np.empty(0)] * len(scores)
    for score in scores:
        groups = [groups[0]] + [
            np.concatenate([groups[size], groups[size - 1] + score]) for size in range(1, len(groups))
        ]
    return groups


def _tail_probability(scores: np.ndarray, chosen: int, observed: float) -> float:
    """Return P(T >= observed) from the characteristic function of T, tilted towards `observed`."""
    ordered = np.sort(scores)
    lowest, highest = float(ordered[:chosen].sum()), float(ordered[-chosen:].sum())
    period = (highest - lowest) * 1.01
    upper = highest - observed + 0.005 * (highest - lowest)
    tilt = _tilt(scores, chosen, observed) if observed > 0 else 0.0
    mass, log_scale = _characteristic_function(scores, chosen, np.array([complex(tilt, 0.0)]))
    log_mass = log_scale + math.log(abs(mass[0]))
    total = 0.0
    for start in range(0, _MOST_FREQUENCIES, _FREQUENCIES_AT_ONCE):
        numbers = np.arange(start, start + _FREQUENCIES_AT_ONCE)
        exponents = tilt + 1j * (2 * np.pi / period) * numbers
        values, log_scale = _characteristic_function(scores, chosen, exponents)
        values = values * np.exp(log_scale - log_mass - 1j * exponents.imag * observed)
        with np.errstate(invalid="ignore", divide="ignore"):
            weights = (1 - np.exp(-exponents * upper)) / (period * exponents)
        if exponents[0] == 0:
            weights[0] = upper / period
        terms = (weights * values).real
        total += float(terms.sum() * 2 - (terms[0] if start == 0 else 0.0))
        if np.abs(values[-8:]).max() < _NEGLIGIBLE:
            break
    return float(np.exp(log_mass - tilt * observed) * total)


def _characteristic_function(scores: np.ndarray, chosen: int, exponents: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (f, l) such that E[exp(exponent T)] = f exp(l), at complex exponents.

    The recursion draws without replacement, score by score: with i scores to go of which n - j must still be drawn,
    the next is drawn with probability (n - j) / i. All quantities are means of numbers of known size, so nothing
    cancels; they are rescaled on the way, for a tilt can make them large.
    """
    total = len(scores)
    state = np.zeros((chosen + 1, len(exponents)), dtype=np.complex128)
    state[0] = 1
    drawn = np.arange(chosen + 1)[:, None]
    log_scale = 0.0
    for place, score in enumerate(scores):
        share = np.clip((chosen - drawn) / (total - place), 0.0, 1.0)
        moved = state[:-1] * share[:-1] * np.exp(exponents * score)
        state *= 1 - share
        state[1:] += moved
        if place % 16 == 15:
            size = float(np.abs(state).max())
            state /= size
            log_scale += math.log(size)
    return state[chosen], log_scale


def _tilt(scores: np.ndarray, chosen: int, observed: float) -> float:
    """Return t such that independent draws with odds c exp(t s) have n members and the sum `observed` on average.

    This is the saddle point of the independent version of the problem; any t gives the same probability, and one
    near the saddle point gives it accurately.
    """
    spread = float(scores.std())

    def mean_sum(tilt: float) -> float:
        low, high = -700.0 - abs(tilt) * float(np.abs(scores).max()), 700.0 + abs(tilt) * float(np.abs(scores).max())
        for _ in range(80):
            middle = (low + high) / 2
            shares = 1 / (1 + np.exp(-np.clip(middle + tilt * scores, -700, 700)))
            low, high = (middle, high) if shares.sum() < chosen else (low, middle)
        return float((shares * scores).sum())

    below, above = 0.0, 50.0 / spread
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if mean_sum(middle) < observed else (below, middle)
    return below
