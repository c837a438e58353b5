"""Rates that are counted from labels which err, corrected by how often the labels err (Rogan and Gladen 1978).

Of sentences labelled by hand, a share r of the gendered ones is found, a flipped part of it as the other gender, and a
share f of the others is taken for gendered. What is counted is then

    S' = r S + f (1 - S)      the gendered share
    B' = a B                  the net stereotype rate, a = (share found right) - (share flipped)

(a sentence that is taken for gendered follows stereotypes as often as it contradicts them), so that
S = (S' - f) / (r - f), B = B' / a, and the net rate among gendered sentences R = B / S. The scale of B does not move a
recursion's slope rho, only its levels. Intervals carry what is not known of r, a and f: these are drawn from their
posteriors under Jeffreys' priors, the counted rates from their own intervals (Lang and Reiczigel 2014, Preventive
Veterinary Medicine 113:13-22, show that plugging them in as known is too short).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop.seeding import random_generator
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.student import student_quantile

Floats = NDArray[np.float64]

DRAWS = 4000
_LEAST = 0.05
"""Below this a share that is divided by counts as this: so bad labels say nothing."""


@dataclass(frozen=True)
class LabelErrors:
    """What became of sentences labelled by hand.

    Attributes:
        gendered: how many are male or female by hand.
        right: how many of these were given their gender.
        flipped: how many were given the other one.
        others: how many are not gendered by hand, or mixed.
        false: how many of these were given a gender.
    """

    gendered: int
    right: int
    flipped: int
    others: int
    false: int

    @property
    def recall(self) -> float:
        """The share of gendered sentences that were found, whatever the gender."""
        return (self.right + self.flipped) / self.gendered

    @property
    def kept(self) -> float:
        """What labels keep of a net rate: the share found right less the share flipped."""
        return (self.right - self.flipped) / self.gendered

    @property
    def false_share(self) -> float:
        """The share of other sentences that were taken for gendered."""
        return self.false / self.others if self.others else 0.0

    def drawn(self) -> "Drawn":
        """Return draws of recall, kept and false share from their posteriors; always the same ones."""
        draw = random_generator(0, "label errors")
        missed = self.gendered - self.right - self.flipped
        shares = draw.dirichlet([self.right + 0.5, self.flipped + 0.5, missed + 0.5], DRAWS)
        false = draw.beta(self.false + 0.5, self.others - self.false + 0.5, DRAWS)
        return Drawn(shares[:, 0] + shares[:, 1], shares[:, 0] - shares[:, 1], false)


@dataclass(frozen=True)
class Drawn:
    """Draws [DRAWS] of what is not known of the labels' errors."""

    recall: Floats
    kept: Floats
    false_share: Floats


def corrected_net_rate(counted: Estimate, errors: LabelErrors) -> Estimate:
    """Return B from B'; also a change of it, or the level at which it rests."""
    return _carried(counted, lambda rate, one: rate / np.maximum(one.kept, _LEAST), errors, (-1.0, 1.0))


def corrected_share(counted: Estimate, errors: LabelErrors) -> Estimate:
    """Return S from S'."""

    def share(rate: Floats, one: "Drawn | LabelErrors") -> Floats:
        return np.asarray((rate - one.false_share) / np.maximum(one.recall - one.false_share, _LEAST))

    return _carried(counted, share, errors, (0.0, 1.0))


def corrected_share_change(counted: Estimate, errors: LabelErrors) -> Estimate:
    """Return a change of S from one of S'."""

    def change(rate: Floats, one: "Drawn | LabelErrors") -> Floats:
        return np.asarray(rate / np.maximum(one.recall - one.false_share, _LEAST))

    return _carried(counted, change, errors, (-1.0, 1.0))


def corrected_among(counted: Estimate, share: float, errors: LabelErrors) -> Estimate:
    """Return R from R' = B' / S' where the counted gendered share is S'; also a change of it."""

    def among(rate: Floats, one: "Drawn | LabelErrors") -> Floats:
        gendered = np.maximum(share - one.false_share, _LEAST * share)
        found = np.maximum(one.recall - one.false_share, _LEAST)
        return np.asarray(rate * share / np.maximum(one.kept, _LEAST) * found / gendered)

    return _carried(counted, among, errors, (-1.0, 1.0))


def _carried(
    counted: Estimate,
    corrected: Callable[[Floats, "Drawn | LabelErrors"], Floats],
    errors: LabelErrors,
    bounds: tuple[float, float],
) -> Estimate:
    """Return the corrected value with what is not known of the rate and of the errors; both ends or none."""
    if not counted.defined or not errors.gendered:
        return Estimate.undefined()
    value = float(corrected(np.array(counted.value), errors))
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
