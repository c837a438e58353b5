"""Quantiles of Student's t."""

from functools import lru_cache

from scipy.special import stdtrit


@lru_cache(maxsize=4096)
def student_quantile(share: float, freedom: float) -> float:
    """Return Student's quantile; a report asks for the same few thousands of times."""
    return float(stdtrit(freedom, share))
