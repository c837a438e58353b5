"""Rates that are counted from labels which err, corrected by how often the labels err (Rogan and Gladen 1978).

Labels by hand give the matrix A [3, 3] of what becomes of male, of female and of other sentences: the share of each
that is labelled male, female, neither. The shares that are counted are p' = A^T p, and so p = (A^T)^-1 p': of the
gendered share S and of the male share M among gendered sentences.

The net stereotype rate is B = D_m - D_f, where D_m is the share of male sentences about occupations of men less that
about occupations of women, and D_f the same of female ones; D' = A^T D. Of B' alone only this much is known: if
sentences about either kind of occupation are gendered as often, D_m = -D_f = B / 2, and

    B' = a B,    a = mean of (share found right - share given the other gender) over the two genders.

The net rate among gendered sentences is R = B / S. The scale of B does not move a recursion's slope rho, only its
levels. Where labels by hand do not tell the genders apart, or show too few of one, both rows of A are alike: a share r
of gendered sentences is found and S = (S' - f) / (r - f), f the share of others that is taken for gendered.

Intervals carry what is not known of A: its rows are drawn from their posteriors under Jeffreys' priors, the counted
rates from their own intervals (Lang and Reiczigel 2014, Preventive Veterinary Medicine 113:13-22, show that plugging
them in as known is too short).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.student import student_quantile

Floats = NDArray[np.float64]

DRAWS = 4000
_LEAST = 0.05
"""Below this a share that is divided by counts as this: so bad labels say nothing."""

FEWEST_OF_A_GENDER = 10
"""Of fewer sentences of a gender by hand its own row of the matrix would be little but the prior: both are pooled."""

Row = tuple[int, int, int]
"""How many sentences of one kind were labelled male, female, neither."""


@dataclass(frozen=True)
class LabelErrors:
    """What became of sentences labelled by hand.

    Attributes:
        gendered: how many are male or female by hand.
        right: how many of these were given their gender.
        flipped: how many were given the other one.
        others: how many are not gendered by hand, or mixed.
        false: how many of these were given a gender.
        rows: the same apart, of male, female and other sentences; None where only the sums are known.
    """

    gendered: int
    right: int
    flipped: int
    others: int
    false: int
    rows: tuple[Row, Row, Row] | None = None

    @classmethod
    def apart(cls, male: Row, female: Row, other: Row) -> "LabelErrors":
        """Return the errors of sentences that are male, female and neither by hand."""
        right, flipped = male[0] + female[1], male[1] + female[0]
        rows = (male, female, other)
        return cls(sum(male) + sum(female), right, flipped, sum(other), other[0] + other[1], rows)

    @property
    def by_gender(self) -> bool:
        """Whether enough sentences of either gender were labelled by hand to tell how each is found."""
        return self.rows is not None and min(map(sum, self.rows[:2])) >= FEWEST_OF_A_GENDER

    @property
    def recall(self) -> float:
        """The share of gendered sentences that were found, whatever the gender."""
        return (self.right + self.flipped) / self.gendered

    @property
    def kept(self) -> float:
        """What labels keep of a net rate: the share found right less the share flipped, the mean over genders."""
        return float(_kept(self.matrix))

    @property
    def matrix(self) -> Floats:
        """A [3, 3]: the shares of male, female and other sentences (rows) that are labelled male, female, neither."""
        return np.array([_shares(row) for row in self._counts()])

    def drawn(self) -> Floats:
        """Return draws [DRAWS, 3, 3] of the matrix from its posterior; always the same ones."""
        draw = random_generator(0, "label errors")
        if self.by_gender:
            return np.stack([draw.dirichlet(np.array(row) + 0.5, DRAWS) for row in self._counts()], axis=1)
        (right, flipped, missed), _, (false, _, kept) = self._counts()
        shares = draw.dirichlet([right + 0.5, flipped + 0.5, missed + 0.5], DRAWS)
        rate = draw.beta(2 * false + 0.5, kept + 0.5, DRAWS)
        return np.stack([shares, shares[:, [1, 0, 2]], np.stack([rate / 2, rate / 2, 1 - rate], axis=1)], axis=1)

    def _counts(self) -> tuple[tuple[float, float, float], ...]:
        """Return the rows of the matrix as counts; genders that are not told apart share what is known of both."""
        if self.by_gender and self.rows is not None:
            return self.rows
        missed = self.gendered - self.right - self.flipped
        false = self.false / 2
        other = (false, false, self.others - self.false)
        return (self.right, self.flipped, missed), (self.flipped, self.right, missed), other


def corrected_net_rate(counted: Estimate, errors: LabelErrors) -> Estimate:
    """Return B from B'; also a change of it, or the level at which it rests."""
    return _carried(counted, lambda rate, matrix: rate / _kept(matrix), errors, (-1.0, 1.0))


def corrected_share(counted: Estimate, errors: LabelErrors, male: float = 0.5) -> Estimate:
    """Return S from S', where the counted male share among gendered sentences is M'."""
    return _carried(counted, lambda rate, matrix: 1 - _true(rate, male, matrix)[..., 2], errors, (0.0, 1.0))


def corrected_male_share(counted: Estimate, errors: LabelErrors, share: float) -> Estimate:
    """Return M from M', where the counted gendered share is S'."""

    def male(rate: Floats, matrix: Floats) -> Floats:
        true = _true(np.asarray(share), rate, matrix)
        return np.asarray(true[..., 0] / np.maximum(true[..., 0] + true[..., 1], _LEAST * share))

    return _carried(counted, male, errors, (0.0, 1.0))


def corrected_share_change(counted: Estimate, errors: LabelErrors, male: float = 0.5) -> Estimate:
    """Return a change of S from one of S', at the counted male share M'."""

    def change(rate: Floats, matrix: Floats) -> Floats:
        return np.asarray(_true(np.zeros_like(rate), male, matrix)[..., 2] - _true(rate, male, matrix)[..., 2])

    return _carried(counted, change, errors, (-1.0, 1.0))


def corrected_among(counted: Estimate, share: float, errors: LabelErrors, male: float = 0.5) -> Estimate:
    """Return R from R' = B' / S' where the counted gendered share is S'; also a change of it."""

    def among(rate: Floats, matrix: Floats) -> Floats:
        true = np.maximum(1 - _true(np.asarray(share), male, matrix)[..., 2], _LEAST * share)
        return np.asarray(rate * share / _kept(matrix) / true)

    return _carried(counted, among, errors, (-1.0, 1.0))


def _shares(row: Sequence[float]) -> Floats:
    """Return the shares of a row of counts; of other sentences, if there is none, all are labelled neither."""
    total = sum(row)
    return np.array(row, dtype=np.float64) / total if total else np.array([0.0, 0.0, 1.0])


def _kept(matrix: Floats) -> Floats:
    right = matrix[..., 0, 0] - matrix[..., 0, 1] + matrix[..., 1, 1] - matrix[..., 1, 0]
    return np.asarray(np.maximum(right / 2, _LEAST))


def _true(share: ArrayLike, male: ArrayLike, matrix: Floats) -> Floats:
    """Return the true shares [..., 3] of male, female and other sentences from what is counted: (A^T)^-1 p'."""
    share, male = np.broadcast_arrays(np.asarray(share, dtype=np.float64), np.asarray(male, dtype=np.float64))
    counted = np.stack([share * male, share * (1 - male), 1 - share], axis=-1)
    across = np.swapaxes(matrix, -1, -2)
    # Labels that say next to nothing cannot be inverted: they are left as they are.
    across = np.where(np.abs(np.linalg.det(across))[..., None, None] > _LEAST**2, across, np.eye(3))
    return np.asarray(np.linalg.solve(across, counted[..., None])[..., 0])


def _carried(
    counted: Estimate,
    corrected: Callable[[Floats, Floats], Floats],
    errors: LabelErrors,
    bounds: tuple[float, float],
) -> Estimate:
    """Return the corrected value with what is not known of the rate and of the errors; both ends or none."""
    if not counted.defined or not errors.gendered:
        return Estimate.undefined()
    value = float(corrected(np.array(counted.value), errors.matrix))
    clipped = min(max(value, bounds[0]), bounds[1])
    if not counted.bounded:
        return Estimate(clipped, counted.low, counted.high, counted.n, counted.units)
    freedom = (counted.units - 1) if counted.units else math.inf
    spread = random_generator(0, "label errors", "counted").standard_normal(DRAWS)
    if math.isfinite(freedom):
        spread /= np.sqrt(random_generator(0, "label errors", "units").chisquare(freedom, DRAWS) / freedom)
    quantile = student_quantile(0.975, freedom) if math.isfinite(freedom) else 1.959964
    ends = np.where(spread < 0, counted.value - counted.low, counted.high - counted.value) / quantile
    low, high = np.quantile(corrected(counted.value + spread * ends, errors.drawn()), [0.025, 0.975])
    low, high = max(bounds[0], float(low)), min(bounds[1], float(high))
    return Estimate(clipped, min(low, clipped), max(high, clipped), counted.n, counted.units)
