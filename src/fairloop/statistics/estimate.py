"""A value with its interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

CONFIDENCE = 0.95
"""The coverage of an interval, unless said otherwise."""

TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
"""The probabilities whose quantiles are its ends."""


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its interval and the number of items behind it.

    The ends are NaN where no interval can be given: for too few independent units. A value that the items do
    not define (a rate among no sentences) is `Estimate.undefined()`.

    Attributes:
        value, low, high: the estimate and its interval.
        n: the number of items.
        units: the number of independent units that the interval is taken over; None if each item is one.
    """

    value: float
    low: float
    high: float
    n: int
    units: int | None = None

    @classmethod
    def undefined(cls) -> "Estimate":
        """Return the estimate of something that the items do not define: NaN throughout, n = 0."""
        return cls(math.nan, math.nan, math.nan, 0)

    def scaled(self, factor: float, shift: float = 0.0) -> "Estimate":
        """Return the estimate of `factor` × value + `shift`."""
        low, high = sorted((factor * self.low + shift, factor * self.high + shift))
        return replace(self, value=factor * self.value + shift, low=low, high=high)

    def mapped(self, function: Callable[[float], float]) -> "Estimate":
        """Return the estimate of a rising function of the value."""
        value, low, high = map(function, (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)

    def counting(self, n: int) -> "Estimate":
        """Return the same estimate of `n` items; an undefined one stays as it is."""
        return replace(self, n=n) if self.defined else self

    @property
    def bounded(self) -> bool:
        """Whether there is an interval, and it has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def defined(self) -> bool:
        """Whether there is a value at all."""
        return not math.isnan(self.value)
