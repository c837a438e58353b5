"""Statistics over hundreds of cells and more: their limits, which cost little where the exact ones cost minutes.

Up to the stated sizes everything is exact.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from fairloop.statistics.paired import sign_flip_p_value

MANY_PAIRS = 60
"""From this many pairs on the sign-flip distribution is taken as normal."""


def flip_p_value(differences: ArrayLike) -> float:
    """Return the p-value of the sign-flip test; for many pairs from the normal limit of its distribution.

    The sum of n differences with random signs has mean 0 and variance sum d^2, and is normal for large n (Lindeberg).
    """
    column = np.asarray(differences, dtype=np.float64)
    column = column[np.isfinite(column)]
    if len(column) < MANY_PAIRS:
        return sign_flip_p_value(column, seed=0)
    spread = math.sqrt(float(column @ column))
    return math.erfc(abs(float(column.sum())) / spread / math.sqrt(2)) if spread else 1.0
