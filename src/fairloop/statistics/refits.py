"""Intervals of what a trained model does on test items, when both the training data and the items are samples.

By the law of total variance the variance of a statistic of model and items is Var[E(· | training data)] +
E[Var(· | training data)]. The second part, the choice of items, is bootstrapped with the model as it is. The first
part, the noise of training, is estimated from models that were trained with one fold of the training data left out
each: the delete-a-group jackknife (Kott 2001), (K - 1)/K · sum of (fold's value - mean of the folds' values)². It is
taken on the same items, so that it also holds the interaction of the two and the sum errs on the safe side.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator
from fairloop.statistics.bootstrap import percentile_interval, resample_sums
from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]


def bootstrap_refitted(
    columns: ArrayLike,
    refits: ArrayLike | None,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    resamples: int = 2000,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Return a statistic of column sums over test items with an interval that covers items and training.

    Each resample of the items is moved by an independent draw of the training noise: Student's t with K - 1 degrees of
    freedom, since K folds know their spread only roughly, times the jackknife's standard error. The interval is that
    of the percentiles of the sum.

    Args:
        columns: [n, k], what is summed, one row per item, as the model trained on everything has it.
        refits: [K, n, k], the same of each model trained without one fold; None for the items' noise alone (the model
            is given). With fewer than two the noise is unknown, and there is no interval.
        statistic: maps sums [..., k] to values [...]; NaN where the sums do not define it.
        seed: decides the resamples, as in `bootstrap_sums`, and the draws of noise.
        resamples: the number of resamples.
        clusters: [n], items that are resampled together.
        confidence: the coverage of the interval.
        bounds: the least and the greatest value possible; the interval ends there.
    """
    table = np.asarray(columns, dtype=np.float64)
    value = float(statistic(table.sum(axis=0))) if len(table) else math.nan
    if math.isnan(value):
        return Estimate.undefined()
    error = 0.0
    if refits is not None:
        again = np.asarray(refits, dtype=np.float64)
        error = training_error(statistic(again.sum(axis=1))) if len(again) > 1 else math.nan
    sums = resample_sums(table, seed=seed, resamples=resamples, clusters=clusters)
    if sums is None or math.isnan(error):
        return Estimate(value, math.nan, math.nan, len(table))
    replicates = statistic(sums)
    if error > 0 and refits is not None:
        draw = random_generator(seed, "training-noise")
        replicates = replicates + error * draw.standard_t(len(np.asarray(refits)) - 1, len(replicates))
    low, high = percentile_interval(replicates, confidence)
    least, greatest = bounds
    return Estimate(value, max(least, low), min(greatest, high), len(table))


def training_error(left_out: ArrayLike) -> float:
    """Return the jackknife's standard error from the values [K] with one fold left out each; NaN if unknown."""
    values = np.asarray(left_out, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan
    spread = values - values.mean()
    return math.sqrt((len(values) - 1) / len(values) * float(spread @ spread))
