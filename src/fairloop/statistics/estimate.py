"""A value with its interval."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its interval (95% unless said otherwise) and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int
