"""The effect size of the association tests (WEAT, SEAT) as a function of sums, for intervals over units.

    d = [mean over X of a - mean over Y of a] / standard deviation of a over X and Y (divisor n - 1)

(Caliskan et al. 2017; the divisor is that of May et al. 2019). Up to its scale d is the correlation r of a with
membership of X, d = r / sqrt(p (1 - p)) with the share p of X, so that intervals are taken on Fisher's scale, atanh r:
on d's own, which ends at 2 for equal sets, they cover 84 to 90% where d is large.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]

_NEARLY_ONE = 0.99999

_NO_SPREAD = 1e-20
"""A variance of associations (cosines, so of the order of 1) below this is rounding."""


def effect_columns(values: Floats, first: NDArray[np.bool_]) -> Floats:
    """Return what the effect size is a function of the sums of [n, 5]: both sizes, both sums, the sum of squares.

    Args:
        values: [n], the associations of X and Y.
        first: [n], whether each is of X.
    """
    centred = values - values.mean() if len(values) else values
    return np.stack([first, ~first, centred * first, centred * ~first, centred**2], axis=1).astype(np.float64)


def effect_of_sums(sums: Floats) -> Floats:
    """Return d [...] from the sums [..., 5] of `effect_columns`; NaN where a set is empty or nothing varies."""
    size_x, size_y, sum_x, sum_y, squares = np.moveaxis(sums, -1, 0)
    size = size_x + size_y
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - (sum_x + sum_y) ** 2 / size) / (size - 1)
        effect = (sum_x / size_x - sum_y / size_y) / np.sqrt(variance)
    return np.where((size_x > 0) & (size_y > 0) & (variance > _NO_SPREAD), effect, np.nan)


def fisher_of_sums(sums: Floats) -> Floats:
    """Return atanh r [...] from the sums [..., 5]."""
    share = sums[..., 0] / np.maximum(sums[..., 0] + sums[..., 1], 1)
    return np.asarray(
        np.arctanh(np.clip(effect_of_sums(sums) * np.sqrt(share * (1 - share)), -_NEARLY_ONE, _NEARLY_ONE))
    )


def from_fisher(estimate: Estimate, sums: Floats) -> Estimate:
    """Return d with the interval of an estimate of atanh r; `sums` [5] are those of all associations."""
    share = float(sums[0] / (sums[0] + sums[1])) if sums[0] + sums[1] else 0.5
    scale = (share * (1 - share)) ** -0.5 if 0 < share < 1 else 1.0
    return replace(estimate.mapped(lambda z: scale * float(np.tanh(z))), value=float(effect_of_sums(sums)))
