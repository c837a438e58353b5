"""The tables of a metric calibration, from the `metrics.csv` of its cells."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.metrics.calibration import Place
from fairloop.report.export import csv_field, csv_text, estimate_fields
from fairloop.report.read import Cell
from fairloop.report.table import Table, number, with_interval
from fairloop.statistics.estimate import Estimate

STUDY = "metric_calibration"

_SUMMARY = ("slope", "local_slope", "linearity", "spearman", "noise", "mde", "mde_source")
_WITHOUT_INTERVAL = {"linearity", "spearman"}


@dataclass(frozen=True)
class Calibration:
    """What one cell says of every metric.

    Attributes:
        cell: the cell's name.
        seed: its seed.
        reference: the net rate at which noise, local slope and sensitivity were taken.
        measures: each measure by what it is about.
    """

    cell: str
    seed: str
    reference: float
    measures: dict[Place, Estimate] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[Measurement], cell: str, seed: str, reference: float) -> "Calibration":
        """Read the lines of a cell."""
        places = ((Place.read(row.metric), row.estimate) for row in rows)
        return cls(cell, seed, reference, {place: _finite(one) for place, one in places if place is not None})

    @cached_property
    def metrics(self) -> list[str]:
        """The calibrated metrics in the order in which they were measured."""
        return list(dict.fromkeys(place.metric for place in self.measures))

    @cached_property
    def headline(self) -> list[str]:
        """Those that sum up, in the order in which they are shown."""
        return catalogue().chosen(self.metrics, lambda row: row.headline)

    @cached_property
    def sizes(self) -> list[int]:
        """The sizes of corpora, ascending."""
        return sorted({place.sentences for place in self.measures})

    @cached_property
    def levels(self) -> list[float]:
        """The net rates of the corpora as written, ascending."""
        return sorted({place.level for place in self.measures if place.level is not None})

    def rates(self, sentences: int) -> list[float]:
        """Return the rates of augmentation at a size, ascending."""
        return sorted({place.rate for place in self.measures if place.sentences == sentences} - {0.0})

    def get(self, metric: str, sentences: int, what: str, rate: float = 0.0, level: float | None = None) -> Estimate:
        """Return a measure; undefined if there is none."""
        place = Place(metric, sentences, what, rate, level)
        return self.measures.get(place, Estimate.undefined())

    def as_net_rate(self, metric: str, sentences: int, rate: float) -> float:
        """Return the change of net rate that would move a metric as far as augmentation does, at the reference level.

        That is the shift over the local slope; NaN where the slope cannot be told from zero, so that nothing bounds
        the detectable change.
        """
        if not self.get(metric, sentences, "mde").bounded:
            return math.nan
        shift = self.get(metric, sentences, "shift", rate, self.reference)
        return shift.value / self.get(metric, sentences, "local_slope").value


def calibrations(cells: Iterable[Cell]) -> list[Calibration]:
    """Return the calibrations among the cells of a run store."""
    return [
        Calibration.of(
            (Measurement.of(metric, one) for (metric, _), one in cell.measures.items()),
            cell.name,
            cell.seed,
            float(cell.config["study"]["reference"]),
        )
        for cell in cells
        if cell.study == STUDY
    ]


def summary_table(calibration: Calibration) -> Table:
    """Return slope, sensitivity and response to augmentation of the headline metrics."""
    rates = sorted({rate for sentences in calibration.sizes for rate in calibration.rates(sentences)})
    rows = tuple(
        _summary_row(calibration, metric, sentences, rates)
        for metric in calibration.headline
        for sentences in calibration.sizes
    )
    columns = ("metric", "N", "slope", "Spearman", "detects")
    return Table(
        f"Metric calibration, seed {calibration.seed}",
        columns + tuple(f"shift ({rate:.0%} swapped)" for rate in rates),
        rows,
        2,
        "Slope: change of the metric per unit of net stereotype rate, over all levels. Detects: the smallest change of "
        f"the corpus' own net rate that the metric finds at net rate {calibration.reference:g} (two-sided 5%, power "
        "80%, one corpus against another). Shift: what adding the swapped variants of that share of gendered sentences "
        "does to it there. 95% intervals over corpora.",
    )


def curve_csv(calibrated: Iterable[Calibration]) -> str:
    """Return every metric's curve: one line per cell, metric, size, augmentation and level."""
    header = ["cell", "seed", "metric", "sentences", "augmented", "level", "mean", "mean:low", "mean:high"]
    header += ["shift", "shift:low", "shift:high", "corpora"]
    return csv_text(header, (line for calibration in calibrated for line in _curve_lines(calibration)))


def summary_csv(calibrated: Sequence[Calibration]) -> str:
    """Return every metric's slope, shape, noise, sensitivity and response: one line per cell, metric and size."""
    rates = sorted({rate for one in calibrated for sentences in one.sizes for rate in one.rates(sentences)})
    header = ["cell", "seed", "metric", "sentences", "reference"]
    for what in _SUMMARY:
        header += [what] if what in _WITHOUT_INTERVAL else [what, f"{what}:low", f"{what}:high"]
    header.append("corpora")
    for rate in rates:
        about = f"augmented_{rate:g}"
        header += [f"{about}:{what}{end}" for what in ("slope", "shift") for end in ("", ":low", ":high")]
        header.append(f"{about}:shift_as_net_rate")
    return csv_text(header, (line for calibration in calibrated for line in _summary_lines(calibration, rates)))


def _summary_row(calibration: Calibration, metric: str, sentences: int, rates: Sequence[float]) -> tuple[str, ...]:
    def get(what: str) -> Estimate:
        return calibration.get(metric, sentences, what)

    shifts = (calibration.get(metric, sentences, "shift", rate, calibration.reference) for rate in rates)
    return (
        catalogue().label(metric),
        str(sentences),
        _shown(get("slope")),
        number(get("spearman").value, 2),
        _detected(get("mde")),
        *map(_shown, shifts),
    )


def _curve_lines(calibration: Calibration) -> Iterator[list[str]]:
    for metric in calibration.metrics:
        for sentences in calibration.sizes:
            for rate in (0.0, *calibration.rates(sentences)):
                for level in calibration.levels:
                    mean = calibration.get(metric, sentences, "mean", rate, level)
                    shift = calibration.get(metric, sentences, "shift", rate, level)
                    about = [calibration.cell, calibration.seed, metric, str(sentences), f"{rate:g}", f"{level:g}"]
                    yield [*about, *estimate_fields(mean), *estimate_fields(shift), csv_field(mean.n)]


def _summary_lines(calibration: Calibration, rates: Sequence[float]) -> Iterator[list[str]]:
    for metric in calibration.metrics:
        for sentences in calibration.sizes:
            line = [calibration.cell, calibration.seed, metric, str(sentences), f"{calibration.reference:g}"]
            for what in _SUMMARY:
                measure = calibration.get(metric, sentences, what)
                line += [csv_field(measure.value)] if what in _WITHOUT_INTERVAL else estimate_fields(measure)
            line.append(csv_field(calibration.get(metric, sentences, "slope").n))
            for rate in rates:
                line += estimate_fields(calibration.get(metric, sentences, "slope", rate))
                line += estimate_fields(calibration.get(metric, sentences, "shift", rate, calibration.reference))
                line.append(csv_field(calibration.as_net_rate(metric, sentences, rate)))
            yield line


def _shown(measure: Estimate) -> str:
    return with_interval(measure, over="corpora")


def _detected(measure: Estimate) -> str:
    """Return a detectable change with its interval, whose upper end is infinite where none was written."""
    high = math.inf if math.isnan(measure.high) and math.isfinite(measure.low) else measure.high
    return with_interval(replace(measure, high=high), over="corpora")


def _finite(one: Estimate) -> Estimate:
    """Return a measure as `metrics.csv` has it: what is infinite is undefined."""
    value, low, high = (end if math.isfinite(end) else math.nan for end in (one.value, one.low, one.high))
    return Estimate(value, low, high, one.n)
