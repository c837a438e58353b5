"""A value with its interval."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its interval (95% unless said otherwise) and the number of items behind it.

    The ends are NaN where no interval can be given: for fewer than two independent items. A value that the items do
    not define (a rate among no sentences) is `Estimate.undefined()`.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def undefined(cls) -> "Estimate":
        """Return the estimate of something that the items do not define: NaN throughout, n = 0."""
        return cls(math.nan, math.nan, math.nan, 0)

    @property
    def bounded(self) -> bool:
        """Whether there is an interval, and it has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def defined(self) -> bool:
        """Whether there is a value at all."""
        return not math.isnan(self.value)
