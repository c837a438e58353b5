"""Settings about GLUE: items of a validation set, learned several times, through the benchmark's own functions."""

from collections.abc import Iterator

import numpy as np

from fairloop.benchmarks.glue import spread_of
from fairloop.statistics.agreement import agreement, influences
from fairloop.statistics.crossed import mean_of_independent
from simulate.setting import Found, Setting, Study

CLASSES = (("accuracy", 71), ("accuracy", 277), ("f1", 408), ("matthews", 1043))
"""Measures with the sizes of the validation sets of WNLI, RTE, MRPC and CoLA."""

LEARNED, ITEMS_DIFFER, SEEDS_DIFFER = 1.2, 1.5, 0.25
"""The mean log-odds of a right answer, and their deviations over items and seeds; what is left is each answer's own."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def _right(mean: float, deviation: float) -> float:
    """Return the share of right answers, by Gauss-Hermite quadrature."""
    return float(_WEIGHTS @ (1 / (1 + np.exp(-mean - deviation * _NODES))) / _WEIGHTS.sum())


WHOLE = _right(LEARNED, float(np.hypot(ITEMS_DIFFER, SEEDS_DIFFER)))
"""The share over all items and seeds."""


def settings() -> Iterator[Setting]:
    """Yield the settings."""
    few = "Student's t with about two degrees of freedom: what three seeds say of their spread"
    for seeds in (3, 5):
        n = f"71 to 1043 / {seeds} seeds"
        yield Setting("GLUE", "four tasks and their mean", n, _tasks(seeds), 1000, few if seeds < 5 else "")
    yield Setting("GLUE", "one model, over items alone", "71 to 1043 / 1 seed", _tasks(1), 1000)
    yield Setting("GLUE", "scores as of STS-B", "200 / 3 seeds", _scores(200, 3), 500)


def _tasks(seeds: int) -> Study:
    """Half of the items are of class 1, and either is got wrong as often.

    Then F1 is the accuracy, and Matthews' coefficient twice that less one. One seed's truth is that seed's own.
    """

    def study(draw: np.random.Generator, number: int) -> Found:
        found, parts, truths = {}, [], []
        for measure, n in CLASSES:
            labels = (np.arange(n) < n / 2).astype(int)
            learned = LEARNED + SEEDS_DIFFER * draw.normal(size=(seeds, 1))
            log_odds = learned + ITEMS_DIFFER * draw.normal(size=n)
            right = draw.random((seeds, n)) < 1 / (1 + np.exp(-log_odds))
            table = _table(measure, labels, np.where(right, labels, 1 - labels))
            parts.append(spread_of(table))
            right = _right(float(learned[0, 0]), ITEMS_DIFFER) if seeds == 1 else WHOLE
            truths.append(100 * (2 * right - 1 if measure == "matthews" else right))
            found[f"{measure} of {n}"] = (parts[-1].estimate(n, n, (-100, 100)), truths[-1])
        mean = mean_of_independent(parts).estimate(sum(n for _, n in CLASSES), None)
        return found | {"mean": (mean, float(np.mean(truths)))}

    return study


def _scores(n: int, seeds: int) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        labels = draw.normal(size=n)
        noise = 0.4 * draw.normal(size=n) + 0.3 * draw.normal(size=(seeds, n))
        said = labels * (1 + 0.05 * draw.normal(size=(seeds, 1))) + noise * np.exp(0.1 * draw.normal(size=(seeds, 1)))
        return {
            measure: (spread_of(_table(measure, labels, said)).estimate(n, n, (-100, 100)), None)
            for measure in ("pearson", "spearman")
        }

    return study


def _table(measure: str, labels: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Return [seeds, items] whose means over items are the seeds' scores, in per cent."""
    return 100 * np.array([agreement(measure, labels, one) + influences(measure, labels, one) for one in said])
