"""What a metric returns: one named number of a corpus, with its interval and its n."""

import math
from dataclasses import dataclass

from fairloop.statistics.estimate import Estimate


@dataclass(frozen=True)
class Measurement:
    """One metric of one corpus.

    Attributes:
        metric: its name, `family/what`.
        value: the number; NaN, with n = 0 and no interval, if the corpus does not define it (a rate among no
            sentences). Whoever writes it down leaves the field empty.
        low: lower end of the 95% interval; None where there is none.
        high: upper end of the 95% interval; None where there is none.
        n: the number of sentences, pairs or occupations that the value rests on.
        units: the number of independent units that the interval is taken over; None where that is not known.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    units: int | None = None

    @classmethod
    def of(cls, metric: str, estimate: Estimate) -> "Measurement":
        """Name an estimate."""
        low = None if math.isnan(estimate.low) else estimate.low
        high = None if math.isnan(estimate.high) else estimate.high
        return cls(metric, estimate.value, low, high, estimate.n, estimate.units)

    @property
    def estimate(self) -> Estimate:
        """The value with its interval, without its name; ends that are not there are NaN."""
        low, high = (math.nan if end is None else end for end in (self.low, self.high))
        return Estimate(self.value, low, high, self.n, self.units)

    @property
    def defined(self) -> bool:
        """Whether the corpus defines a value."""
        return self.n > 0
