"""How well predictions agree with labels, and the interval of that over items and repeated runs.

The measures are scikit-learn's and SciPy's. Predictions that are all the same have no correlation with anything: it
counts as 0, as it does in Matthews' coefficient, so that a model that has learned nothing gets a score.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairloop.seeding import random_generator

Floats = NDArray[np.float64]

_ROWS_AT_ONCE = 1 << 20


def _accuracy(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0))


def _matthews(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _pearson(labels: Floats, predictions: Floats) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predictions)


def _spearman(labels: Floats, predictions: Floats) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predictions)


def _correlation(library: Callable[..., tuple[float, float]], labels: Floats, predictions: Floats) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(library(labels, predictions)[0]) if len(labels) > 1 else 0.0
    return 0.0 if np.isnan(value) else value


_OF_CLASSES: dict[str, Callable[..., float]] = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews}
_OF_NUMBERS: dict[str, Callable[..., float]] = {"pearson": _pearson, "spearman": _spearman}

MEASURES = (*_OF_CLASSES, *_OF_NUMBERS)


def agreement(measure: str, labels: ArrayLike, predictions: ArrayLike) -> float:
    """Return one measure of predictions [n] against labels [n].

    Args:
        measure: `accuracy`; `f1` (of class 1) and `matthews` for two classes 0 and 1; `pearson` and `spearman` for
            numbers.
        labels: what is right.
        predictions: what was predicted.
    """
    return {**_OF_CLASSES, **_OF_NUMBERS}[measure](np.asarray(labels), np.asarray(predictions))


def resampled_agreement(
    measures: Sequence[str], labels: ArrayLike, runs: ArrayLike, *, seed: int, stage: str, resamples: int
) -> Floats:
    """Return the runs' mean of each measure in resamples of both runs and items, shape [measures, resamples].

    Items and runs are crossed: every run predicts every item. Both are drawn with replacement, independently of each
    other, in each resample (Owen 2007, "The pigeonhole bootstrap"). With one run only the items are resampled.

    Args:
        measures: all of classes or all of numbers; evaluated in the same resamples.
        labels: [n].
        runs: predictions [runs, n].
        seed: decides the resamples, with `stage`.
        stage: names their random numbers.
        resamples: how many.
    """
    truth, predictions = np.asarray(labels), np.asarray(runs)
    draw = random_generator(seed, stage, "runs and items")
    drawn_runs = draw.integers(0, len(predictions), (resamples, len(predictions)))
    of_classes = all(measure in _OF_CLASSES for measure in measures)
    values = (_class_resamples if of_classes else _number_resamples)(measures, truth, predictions, draw, resamples)
    return np.stack([np.take_along_axis(each, drawn_runs, axis=1).mean(axis=1) for each in values])


def _class_resamples(
    measures: Sequence[str], labels: NDArray[np.int64], runs: NDArray[np.int64], draw: np.random.Generator, times: int
) -> list[Floats]:
    """Return [resamples, runs] for each measure.

    Items with the same label and the same predictions are alike, so that a resample is a multinomial draw of how often
    each kind occurs: thousands of resamples of a large set take no longer than those of a small one.
    """
    kinds, counts = np.unique(np.column_stack([labels, *runs]), axis=0, return_counts=True)
    drawn = draw.multinomial(len(labels), counts / counts.sum(), size=times).astype(np.float64)
    right = (kinds[:, 1:] == kinds[:, :1]).astype(np.float64)
    positive, said = (kinds[:, :1] == 1).astype(np.float64), (kinds[:, 1:] == 1).astype(np.float64)
    positives, said_positive, both = drawn @ positive, drawn @ said, drawn @ (positive * said)
    n = float(len(labels))
    found = {"accuracy": drawn @ right / n}
    found["f1"] = _quotient(2 * both, positives + said_positive)
    spread = positives * (n - positives) * said_positive * (n - said_positive)
    found["matthews"] = _quotient(n * both - positives * said_positive, np.sqrt(spread))
    return [found[measure] for measure in measures]


def _number_resamples(
    measures: Sequence[str], labels: Floats, runs: Floats, draw: np.random.Generator, times: int
) -> list[Floats]:
    """Return [resamples, runs] for each measure; ranks are those within each resample."""
    from scipy.stats import rankdata

    found = {measure: np.empty((times, len(runs))) for measure in measures}
    step = max(1, _ROWS_AT_ONCE // len(labels))
    for start in range(0, times, step):
        drawn = draw.integers(0, len(labels), (min(step, times - start), len(labels)))
        for number, predictions in enumerate(runs):
            for measure in measures:
                x, y = labels[drawn].astype(np.float64), predictions[drawn].astype(np.float64)
                if measure == "spearman":
                    x, y = rankdata(x, axis=1), rankdata(y, axis=1)
                found[measure][start : start + len(drawn), number] = _row_correlations(x, y)
    return [found[measure] for measure in measures]


def _row_correlations(x: Floats, y: Floats) -> Floats:
    varied = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return _quotient((x * y).sum(axis=1), np.where(varied, spread, 0.0))


def _quotient(numerators: Floats, denominators: Floats) -> Floats:
    """Return numerators / denominators, 0 where the denominator is."""
    quotients = np.zeros(np.broadcast_shapes(numerators.shape, denominators.shape))
    np.divide(numerators, denominators, out=quotients, where=denominators != 0)
    return quotients
