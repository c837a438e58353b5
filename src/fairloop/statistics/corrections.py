"""Corrections of p-values for several tests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Holm's adjusted p-values, in the order given.

    The step-down procedure of Holm (1979, Scandinavian Journal of Statistics 6:65-70): the i-th smallest of m
    p-values is multiplied by m - i + 1, kept monotone and capped at 1. A hypothesis is rejected at family-wise
    level a if its adjusted value is at most a. Undefined p-values (nan) stay undefined and do not count as tests.

    Raises:
        ValueError: if a p-value lies outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64).reshape(-1)
    defined = np.flatnonzero(~np.isnan(given))
    if np.any((given[defined] < 0) | (given[defined] > 1)):
        raise ValueError("p-values lie between 0 and 1")
    order = defined[np.argsort(given[defined], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(given.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return adjusted
