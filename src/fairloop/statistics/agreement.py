"""How well predictions agree with labels, and what each item adds to that.

The measures are scikit-learn's and SciPy's. Predictions that are all the same have no correlation with anything: it
counts as 0, as it does in Matthews' coefficient, so that a model that has learned nothing gets a score.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def influences(measure: str, labels: ArrayLike, predictions: ArrayLike) -> Floats:
    """Return each item's influence on a measure [n]: (n - 1) · (the measure - the one without the item), centred.

    That is the jackknife: the measure's standard error over items is the influences' standard deviation over √n. Ranks
    are those among the items that are left.
    """
    truth, said = np.asarray(labels), np.asarray(predictions)
    without = _class_without(measure, truth, said) if measure in _OF_CLASSES else _number_without(measure, truth, said)
    return np.asarray((len(truth) - 1) * (without.mean() - without))


def _class_without(measure: str, labels: NDArray[np.int64], said: NDArray[np.int64]) -> Floats:
    """Return the measure [n] without each item: of items with the same label and prediction it is the same."""
    kinds, kind, counts = np.unique(np.column_stack([labels, said]), axis=0, return_inverse=True, return_counts=True)
    left = counts - np.eye(len(kinds))
    right, positive, said_positive = kinds[:, 0] == kinds[:, 1], kinds[:, 0] == 1, kinds[:, 1] == 1
    n = left.sum(axis=1)
    if measure == "accuracy":
        return np.asarray((left @ right / n)[kind.ravel()])
    positives, claimed, both = left @ positive, left @ said_positive, left @ (positive & said_positive)
    if measure == "f1":
        return _quotient(2 * both, positives + claimed)[kind.ravel()]
    spread = positives * (n - positives) * claimed * (n - claimed)
    return _quotient(n * both - positives * claimed, np.sqrt(spread))[kind.ravel()]


def _number_without(measure: str, labels: Floats, said: Floats) -> Floats:
    """Return the correlation [n] without each item."""
    n = len(labels)
    found = np.empty(n)
    step = max(1, _ROWS_AT_ONCE // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        x, y = (
            _without_each(column.astype(np.float64), rows, ranks=measure == "spearman") for column in (labels, said)
        )
        found[rows] = _row_correlations(x, y)
    return found


def _without_each(column: Floats, rows: NDArray[np.int64], *, ranks: bool) -> Floats:
    """Return [rows, n] the values, or the ranks among those left, with the item of each row at their mean."""
    if ranks:
        from scipy.stats import rankdata

        own = column[rows][:, None]
        table = rankdata(column)[None, :] - (own < column) - 0.5 * (own == column)
    else:
        table = np.tile(column, (len(rows), 1))
    place = np.arange(len(rows)), rows
    table[place] = (table.sum(axis=1) - table[place]) / max(len(column) - 1, 1)
    return np.asarray(table)


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
