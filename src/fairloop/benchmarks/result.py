"""What a benchmark is, what it is given and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fairloop.benchmarks.data import DataSet
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.console import OnProgress
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.plm.model import Kind, LanguageModel, ScoreMemory
from fairloop.training.settings import TrainerSettings


@dataclass(frozen=True)
class Skipped:
    """An item that was not scored, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResult:
    """Scores of one model on one benchmark.

    Attributes:
        benchmark: Name of the benchmark.
        protocol: Whose published protocol the scores follow.
        measurements: Scores with their 95% intervals and the number of items behind them.
        items: One row for each scored item, all of the same dataclass.
        skipped: Items that were not scored; the benchmark's `skipped` measurement is their number.
        notes: Lines for the reader: parts that do not apply to this model.
    """

    benchmark: str
    protocol: str
    measurements: list[Measurement]
    items: list[Any]
    skipped: list[Skipped] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def value(self, metric: str) -> float:
        """Return the value of one measurement."""
        return next(measurement.value for measurement in self.measurements if measurement.metric == metric)


@dataclass(frozen=True)
class Task:
    """What a benchmark is given to measure one model.

    Attributes:
        plm: The model.
        data: Folder that holds the benchmark's files; None for a benchmark without data.
        seed: Decides bootstrap resamples and sampled permutations, and what a benchmark trains.
        on_progress: Called with (inputs done, inputs in all).
        memory: Where finished scores are kept.
        scratch: Folder that survives a kill, for the checkpoints of a benchmark that trains; None if there is none.
        trainer: Where and how such a benchmark trains.
        on_logged: Called with each point of its loss curves: the curve, the steps done, the values by name.
    """

    plm: LanguageModel
    data: Path | None = None
    seed: int = 0
    on_progress: OnProgress | None = None
    memory: ScoreMemory | None = None
    scratch: Path | None = None
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    on_logged: Callable[[str, int, dict[str, float]], None] | None = None

    @property
    def folder(self) -> Path:
        """The folder with the data; only for benchmarks that have data."""
        if self.data is None:
            raise ValueError("this benchmark was given no data folder")
        return self.data

    def score(self, requests: list[Any]) -> list[Any]:
        """Score requests with the task's progress and memory; see `LanguageModel.score`."""
        return self.plm.score(requests, on_progress=self.on_progress, memory=self.memory)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its file ends with `BENCHMARK = Benchmark(...)`.

    Attributes:
        settings: Its settings class, whose `name` is the name of the file.
        kinds: The kinds of model that it can measure.
        dataset: The publisher's files, or None.
        run: Measures a model.
        measures: What it measures, as rows of the catalogue; one of them at least is a headline. The number of
            skipped items is declared for every benchmark.
        needs: What it asks of the model: a server returns log probabilities at most (`plm.settings.NEEDS`).
        given: The files that its settings make it read from a data folder of the user; None: those of `dataset`.
        provide: Has what it reads on this machine, for a benchmark whose data is no `dataset`; raises as `data.find`.
        part: The files of `dataset` that its settings make it read; None: all of them.
    """

    settings: type[BenchmarkSettings]
    kinds: tuple[Kind, ...]
    dataset: DataSet | None
    run: Callable[[Task, Any], BenchmarkResult]
    measures: tuple[Declared, ...]
    needs: Literal["log_probabilities", "hidden_states", "weights"]
    given: Callable[[Any], list[Path]] | None = None
    provide: Callable[[Any], object] | None = None
    part: Callable[[Any], tuple[str, ...]] | None = None

    def reads(self, settings: BenchmarkSettings) -> DataSet | None:
        """Return the publisher's files that are read under these settings, or None."""
        if self.dataset is None or self.part is None:
            return self.dataset
        return replace(self.dataset, only=self.part(settings))

    @property
    def declared(self) -> tuple[Declared, ...]:
        """The rows of the catalogue: the number of skipped items, and what the benchmark measures."""
        name = self.settings.model_fields["name"].default
        return (Declared(f"{name}/skipped", "items that were not scored", "skipped", count=True), *self.measures)


def skipped_measurement(benchmark: str, skipped: list[Skipped], total: int) -> Measurement:
    """Return the number of skipped items out of `total` as a measurement of its own: it is never left unsaid."""
    return Measurement(f"{benchmark}/skipped", float(len(skipped)), None, None, total)
