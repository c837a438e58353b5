"""Metric calibration: what every corpus metric says of corpora whose net stereotype rate is known.

    corpora        seed corpora at each level and of each size, several of each
    measures       every metric of each corpus as written and, at one size, with the gender-swapped variants of a
                   share of its gendered sentences
    calibration    each metric's curve, slope, noise and sensitivity, and its response to the augmentation

"Metric reconciliation" of arXiv 2511.10689, whose embedding score rises while behaviour improves.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fairloop import console
from fairloop.config import Configuration
from fairloop.config.metric_calibration import MetricCalibrationSettings
from fairloop.corpus.seed import surplus
from fairloop.files import write_bytes, write_text
from fairloop.measures.measurement import Measurement
from fairloop.metrics.calibration import Place, Reading, calibrate
from fairloop.seeding import derive, random_generator
from fairloop.studies.measures import read_measures, write_measures
from fairloop.studies.script import Script
from fairloop.tracking.stages import Stage
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

if TYPE_CHECKING:
    from datasets import Dataset


CURVE_FILE, SUMMARY_FILE, FIGURE_FILE = "curve.csv", "summary.csv", "calibration.png"

RESAMPLES = 20
"""Intervals are taken over replicate corpora; those of a single corpus are not looked at."""


@dataclass(frozen=True)
class Batch:
    """One corpus, as written and augmented: the unit that is computed at once and kept."""

    level: float
    sentences: int
    replicate: int
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """The batch's stage."""
        return f"n{self.sentences}-level{self.level + 0.0:g}-{self.replicate}"


def run(configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
    """Run one cell of the study; batches that are finished are read instead of computed.

    Args:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where the tables and the figure are logged.
    """
    study = MetricCalibration(configuration, cell, tracker)
    measured = calibrate(
        list(study.readings()), reference=study.settings.reference, neutral_share=study.settings.neutral_share
    )
    cell.write_results({None: measured})
    write_report = partial(study.write_report, measured)
    report = cell.stage("report", write_report, inputs=study.stages).folder
    tracker.log_report(
        {"calibration/curve": report / CURVE_FILE, "calibration/summary": report / SUMMARY_FILE},
        {"calibration/figure": report / FIGURE_FILE},
    )
    result = json.loads((cell.folder / "result.json").read_text())
    tracker.finish("complete", {name: value for name, value in result.items() if _sums_up(name)})


class MetricCalibration(Script):
    """The stages of the study for one cell; the encoder is loaded when the first batch needs it."""

    def __init__(self, configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
        """Take the resolved configuration, the cell held by this process, and where it is logged."""
        super().__init__(configuration, cell, tracker)
        self.settings = configuration.study_as(MetricCalibrationSettings)
        self.label = f"metric calibration, seed {self.seed}"
        self.stages: list[Stage] = []

    def batches(self) -> list[Batch]:
        """Return every batch, small corpora first."""
        study = self.settings
        return [
            Batch(level, sentences, replicate, tuple(study.augment_rates) if sentences == study.augment_size else ())
            for sentences, replicates in sorted(zip(study.sizes, study.replicates, strict=True))
            for level in sorted(study.levels)
            for replicate in range(replicates)
        ]

    def readings(self) -> Iterator[Reading]:
        """Yield what the metrics say of every corpus."""
        batches = self.batches()
        with console.doing(self.label), self.progress("corpora") as on_progress:
            for done, batch in enumerate(batches, start=1):
                stage = self.cell.stage(batch.name, partial(self.measure, batch))
                self.stages.append(stage)
                for rate in (0.0, *batch.rates):
                    yield _reading(batch, rate, stage)
                on_progress(done, len(batches))

    def measure(self, batch: Batch, folder: Path) -> None:
        """Write the corpus of a batch and measure it, as written and augmented."""
        from fairloop.corpus.seed import seed_corpus
        from fairloop.metrics.embedding import by_sentence

        seed = derive(self.seed, "metric-calibration", batch.name)
        corpus = seed_corpus(batch.level, batch.sentences, self.settings.neutral_share, seed)
        # of this batch alone: its vectors must not depend on batches before it
        embed = by_sentence(self.embed) if self.embed is not None else None
        measured = []
        for rate in (0.0, *batch.rates):
            changed = augmented(corpus, rate, seed) if rate else corpus
            of_corpus = self.measure_corpus(changed, embed, seed, RESAMPLES)
            measured += [replace(one, metric=_prefix(rate) + one.metric) for one in of_corpus]
        write_measures(measured, folder)

    def write_report(self, measured: Sequence[Measurement], folder: Path) -> None:
        """Write the tables and the figure as `fairloop-report` makes them from the run store."""
        from fairloop.report.calibration.figure import calibration_figure
        from fairloop.report.calibration.tables import Calibration, curve_csv, summary_csv

        calibration = Calibration.of(measured, self.cell.key, str(self.seed), self.settings.reference)
        write_text(folder / CURVE_FILE, curve_csv([calibration]))
        write_text(folder / SUMMARY_FILE, summary_csv([calibration]))
        write_bytes(folder / FIGURE_FILE, calibration_figure(calibration).png)


def augmented(corpus: "Dataset", rate: float, seed: int) -> "Dataset":
    """Return the corpus with the gender-swapped variants of a share of its gendered sentences.

    Exactly round(rate · n) of the n stereotypical sentences are varied, and as many of the anti-stereotypical ones in
    proportion, so that the net rate afterwards is known as well. The sentences of a smaller rate are among those of a
    larger one.
    """
    from fairloop.mitigation.counterfactuals import add_counterfactuals

    chosen = _chosen(corpus["stereotype"], corpus["item"], rate, seed)
    return add_counterfactuals(corpus, lambda row: row["item"] in chosen)


def _chosen(stereotypes: Collection[int], items: Collection[int], rate: float, seed: int) -> set[int]:
    chosen: set[int] = set()
    for sign in (1, -1):
        alike = [item for item, label in zip(items, stereotypes, strict=True) if label == sign]
        order = random_generator(seed, "augmented", sign).permutation(len(alike)).tolist()
        chosen.update(alike[place] for place in order[: round(rate * len(alike))])
    return chosen


def _reading(batch: Batch, rate: float, stage: Stage) -> Reading:
    prefix = _prefix(rate)
    values = {
        one.metric.removeprefix(prefix): one.value
        for one in read_measures(stage)
        if one.metric.startswith("augmented_") == bool(rate) and one.metric.startswith(prefix)
    }
    net_rate = surplus(batch.level, batch.sentences) / batch.sentences
    return Reading(batch.level, net_rate, batch.sentences, batch.replicate, rate, values)


def _prefix(rate: float) -> str:
    return f"augmented_{rate:g}/" if rate else ""


def _sums_up(name: str) -> bool:
    """Tell whether a measure is of all levels: the others are many, and stand in the tables."""
    place = Place.read(name)
    return place is not None and place.level is None
