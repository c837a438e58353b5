"""What the scripts of the studies share: named stages, models that are loaded when first needed, progress, training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.config.metrics import MetricStudySettings
from fairloop.generation.generator import Generator, open_generator
from fairloop.measures.measurement import Measurement
from fairloop.metrics.registry import needs_encoder
from fairloop.plm.locate import torch_device
from fairloop.tracking.curves import Curves
from fairloop.tracking.stages import Compute, Stage
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker
from fairloop.training.hook import Training

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from fairloop.metrics.metric import Embed


class Script:
    """One cell of a study at work.

    Attributes:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where it is logged.
        label: what progress bars call it.
        versions: the versions of what the stages do, by name.
    """

    label: str = ""
    versions: Mapping[str, int] = {}

    def __init__(self, configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
        """Take the resolved configuration, the cell held by this process, and where it is logged."""
        self.configuration, self.cell, self.tracker = configuration, cell, tracker
        self.seed = configuration.seed

    def stage(
        self, name: str, compute: Compute, version: str, *keys: str, inputs: Sequence[Stage] = (), **more: Any
    ) -> Stage:
        """Return a stage, shared with every cell whose choices under `keys`, inputs and seed are the same.

        Args:
            name: the stage's name.
            compute: writes its outputs.
            version: which of `versions` says how it is done.
            keys: what it reads of the configuration: names in `choices`.
            inputs: the finished stages it reads.
            more: what else decides its outputs.
        """

        def shown(folder: "Path") -> dict[str, Any] | None:
            words = name.replace("-", " ")
            with console.doing(f"{self.label}: {words}" if self.label else words):
                return compute(folder)

        choices = {key: self.choices[key] for key in keys}
        settings = {**choices, **more, "seed": self.seed, "version": self.versions[version]}
        return self.cell.stage(name, shown, inputs=inputs, settings=settings, shared=True)

    @cached_property
    def choices(self) -> dict[str, Any]:
        """What decides results, by the names that stages ask for; models are named by their weights.

        The names are those of config groups and of the study's settings, and `encoder` for the sentence encoder.
        """
        deciding = self.configuration.deciding()
        weights = deciding["weights"]
        models: dict[str, Any] = {
            group: {**deciding[group], "weights": weights[f"{group}.path"]}
            for group in ("model", "plm")
            if group in deciding
        }
        if "metric" in deciding:
            own = {key: name for key, name in weights.items() if key.startswith("metric.")}
            models["metric"] = {"settings": deciding["metric"], "weights": own}
        return {**deciding["study"], **deciding, **models, "encoder": weights.get("study.encoder")}

    @cached_property
    def generator(self) -> Generator:
        """The language model that writes sentences, as it is."""
        return open_generator(
            self.configuration.model, self.configuration.trainer.accelerator, scratch=self.cell.scratch
        )

    def measure_corpus(
        self,
        corpus: "Dataset",
        embed: "Embed | None",
        seed: int,
        resamples: int,
        on_progress: console.OnProgress | None = None,
    ) -> list[Measurement]:
        """Measure a corpus with the metrics that the study chose, each with its settings."""
        from fairloop.metrics.measures import measure_corpus

        study = self.configuration.study_as(MetricStudySettings)
        return measure_corpus(
            corpus,
            embed,
            seed=seed,
            chosen=study.metrics,
            settings=study.metric_settings(self.configuration),
            device=self.device,
            resamples=resamples,
            on_progress=on_progress,
        )

    @cached_property
    def embed(self) -> "Embed | None":
        """The sentence encoder of the metrics, None if none needs one; what is asked again is computed once."""
        from fairloop.metrics.embedding import remembering

        study = self.configuration.study_as(MetricStudySettings)
        return remembering(self.load_encoder(study.encoder)) if needs_encoder(study.metrics) else None

    def load_encoder(self, path: str) -> "Embed":
        """Load a sentence encoder: packaged, from the Hub, or trained by a mitigation."""
        from fairloop.plm.encoder import SentenceEncoder

        return SentenceEncoder.load(path, device=self.device).embed

    @cached_property
    def device(self) -> str:
        """The torch device that the group `trainer` chooses."""
        return torch_device(self.configuration.trainer.accelerator)

    def progress(self, what: str, least: float = 0.0) -> AbstractContextManager[console.OnProgress]:
        """Show what this cell does and how long it will take; no last line of what took less than `least` seconds."""
        return console.progress(f"{self.label}: {what}" if self.label else what, least)

    @contextmanager
    def training(self, what: str, folder: "Path") -> Iterator[Training]:
        """Yield what a training needs: devices, seed, and a folder for checkpoints that outlives a kill.

        `folder` is that of the stage's outputs, where the loss curves are kept.
        """
        work = self.cell.scratch()
        curves = Curves(work, self.tracker.log_curve)
        with self.progress(what) as on_progress:
            yield Training(self.configuration.trainer, self.seed, work, on_progress, on_logged=curves)
        curves.keep(folder)
