"""Calibration of metrics: what each one says of corpora whose net stereotype rate is known.

"Metric reconciliation" of arXiv 2511.10689: an embedding score may rise while behaviour improves. Corpora of known
net rate b, and the same corpora with gender-swapped variants of a share of their gendered sentences, show what moves
a metric. The measures of a calibration are named

    calibration/<metric>/n<N>[/augmented_<rate>]/<what>[_at_<level>]

and `Place` writes and reads these names.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.statistics.calibration import (
    Curve,
    contrast,
    detectable_change,
    linearity,
    monotonicity,
    noise,
    sampling_floor,
    slope,
)
from fairloop.statistics.estimate import Estimate

MEASURES = (Declared("calibration/*"),)

_NAME = re.compile(
    r"calibration/(?P<metric>.+)/n(?P<sentences>\d+)(?:/augmented_(?P<rate>[0-9.e-]+))?/(?P<what>[a-z_]+?)"
    r"(?:_at_(?P<level>-?[0-9.e-]+))?"
)


@dataclass(frozen=True)
class Place:
    """What one measure of a calibration is about.

    Attributes:
        metric: the calibrated metric, such as `downstream/bias`.
        sentences: N, the size of the corpora as written.
        rate: the share of gendered sentences whose swapped variant was added; 0: the corpora as written.
        what: `mean` (at a level), `shift` (at a level: by how much augmentation moves the metric, paired over
            corpora), `slope`, `local_slope`, `spearman`, `linearity`, `noise`, `mde` or `mde_source`.
        level: the net rate of the corpora as written; None for what is about all levels.
    """

    metric: str
    sentences: int
    what: str
    rate: float = 0.0
    level: float | None = None

    @property
    def name(self) -> str:
        """The measure's name."""
        augmented = f"/augmented_{self.rate:g}" if self.rate else ""
        level = "" if self.level is None else f"_at_{self.level + 0.0:g}"  # -0.0 + 0.0 is 0.0
        return f"calibration/{self.metric}/n{self.sentences}{augmented}/{self.what}{level}"

    @classmethod
    def read(cls, name: str) -> "Place | None":
        """Return what a name says; None if it is not a calibration's."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        level = found["level"]
        return cls(
            found["metric"],
            int(found["sentences"]),
            found["what"],
            float(found["rate"] or 0),
            None if level is None else float(level),
        )


@dataclass(frozen=True)
class Reading:
    """What the metrics say of one corpus.

    Attributes:
        level: the net rate that was asked for.
        net_rate: the net rate that the corpus has by construction: the nearest multiple of 1/N.
        sentences: N.
        replicate: the corpus' number among those of its level and size.
        rate: the share of gendered sentences whose swapped variant was added to it; 0: as written.
        values: each metric's value; NaN where the corpus does not define it.
    """

    level: float
    net_rate: float
    sentences: int
    replicate: int
    rate: float
    values: Mapping[str, float]


def calibrate(readings: Sequence[Reading], *, reference: float, neutral_share: float) -> list[Measurement]:
    """Calibrate every metric that the readings have, for each size and each augmentation.

    Args:
        readings: one for each level, size, replicate and augmentation; all metrics in each.
        reference: the level, one of those read, at which the local slope and the noise are taken: at it and at its
            neighbours on both sides.
        neutral_share: of the corpora (`fairloop.corpus.seed.seed_corpus`).

    Returns:
        For every metric and size:

        - `mean_at_<level>`, with Student's interval over replicate corpora;
        - `slope`, over all levels, and `local_slope`, around the reference, in units of the metric per unit of net
          rate; `linearity` (R² of the line through the means), `spearman`;
        - `noise`: the standard deviation between corpora of one level, around the reference;
        - `mde`: the smallest change of a corpus' own net rate that the metric detects between two corpora;
        - `mde_source`: the same for the net rate of the source that wrote the corpora, whose own rates then scatter
          around it: √(mde² + floor²), with the floor that holds for every metric.

        And for every augmentation `mean_at_<level>`, `slope` and `shift_at_<level>`, over the level as written.
    """
    levels = sorted({reading.level for reading in readings})
    calibrated: list[Measurement] = []
    for sentences in sorted({reading.sentences for reading in readings}):
        sized = [reading for reading in readings if reading.sentences == sentences]
        rates = {reading.level: reading.net_rate for reading in sized}
        net_rates = [rates[level] for level in levels]
        carrying = abs(reference) + (1 - abs(reference)) * (1 - neutral_share)
        floor = sampling_floor(reference, carrying, sentences)
        for metric in sized[0].values:
            written = _table(sized, metric, levels, 0.0)
            curve = Curve.of(net_rates, written)
            about = Place(metric, sentences, "mean")
            calibrated += _means(about, levels, written)
            calibrated += _summary(about, curve, rates[reference], floor)
            for rate in sorted({reading.rate for reading in sized} - {0.0}):
                changed = _table(sized, metric, levels, rate)
                about = Place(metric, sentences, "mean", rate)
                calibrated += _means(about, levels, changed)
                calibrated.append(_named(about, "slope", slope(Curve.of(net_rates, changed))))
                shifts = zip(levels, changed, written, strict=True)
                calibrated += [_named(about, "shift", _mean(after - before), level) for level, after, before in shifts]
    return calibrated


def _table(readings: Iterable[Reading], metric: str, levels: Sequence[float], rate: float) -> list[NDArray[np.float64]]:
    """Return the metric's values by level, each in the order of the replicates."""
    chosen = sorted((reading for reading in readings if reading.rate == rate), key=lambda reading: reading.replicate)
    return [np.array([reading.values[metric] for reading in chosen if reading.level == level]) for level in levels]


def _means(about: Place, levels: Sequence[float], values: Sequence[NDArray[np.float64]]) -> list[Measurement]:
    return [_named(about, "mean", _mean(column), level) for level, column in zip(levels, values, strict=True)]


def _mean(values: NDArray[np.float64]) -> Estimate:
    defined = values[np.isfinite(values)]
    return contrast([defined], [1.0]) if len(defined) > 1 else Estimate.undefined()


def _summary(about: Place, curve: Curve, reference: float, floor: float) -> list[Measurement]:
    window = curve.around(reference)
    change = detectable_change(window)
    value, low, high = (math.hypot(one, floor) for one in (change.value, change.low, change.high))
    estimates = {
        "slope": slope(curve),
        "local_slope": slope(window),
        "linearity": linearity(curve),
        "spearman": monotonicity(curve),
        "noise": noise(window),
        "mde": change,
        "mde_source": Estimate(value, low, high, change.n),
    }
    return [_named(about, what, estimate) for what, estimate in estimates.items()]


def _named(about: Place, what: str, estimate: Estimate, level: float | None = None) -> Measurement:
    return Measurement.of(Place(about.metric, about.sentences, what, about.rate, level).name, estimate)
