"""Train a classifier or a regression, of sentence vectors or of sentences with their encoder, and ask it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop.errors import UserError
from fairloop.files import digest_file
from fairloop.plm.loading import load_encoder
from fairloop.seeding import derive
from fairloop.training import classifier
from fairloop.training.hook import Training
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.plm import add_lora, freeze_pooler, set_up
from fairloop.training.settings import ClassifierSettings, TrainerSettings
from fairloop.training.train import run
from fairloop.training.trainer import resolve_accelerator


@dataclass(frozen=True)
class Vectors:
    """Sentence vectors [n, d] in a file beside the checkpoints."""

    file: str
    digest: str


@dataclass(frozen=True)
class LabelledItems:
    """Vectors or texts (single ones or pairs), each with its class or number."""

    inputs: Vectors | tuple[str | tuple[str, ...], ...]
    labels: tuple[float, ...]


@dataclass(frozen=True)
class ClassifierTask(TrainingTask):
    """Train a linear layer, on vectors, or on texts with an encoder, the job's model.

    Attributes:
        settings: what to train, and how.
        items: to train on.
        validation: held-out items; None: a share of the items.
    """

    settings: ClassifierSettings
    items: LabelledItems
    validation: LabelledItems | None = None

    def components(self, job: TrainingJob) -> Components:
        """Load the encoder if there is one; see `TrainingTask`."""
        settings = self.settings
        encoder, tokenizer = _load_encoder(job) if job.model else (None, None)
        inputs = self._inputs(self.items, job, tokenizer)
        given = None
        if self.validation is not None:
            given = (self._inputs(self.validation, job, tokenizer), self._labels(self.validation))
        width = inputs.shape[1] if encoder is None else encoder.config.get_text_config().hidden_size
        frozen = encoder is not None and settings.weights == "frozen"
        if encoder is not None:
            encoder = _trainable(encoder, job, settings)
        shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
        outputs = self._outputs()

        def module(total_steps: int) -> classifier.ClassifierModule:
            return classifier.ClassifierModule(
                outputs, width, settings, encoder=encoder, total_steps=total_steps, **shared
            )

        if frozen:
            inputs = _sentence_vectors(module(1), inputs, tokenizer, job.trainer)
            given = given and (_sentence_vectors(module(1), given[0], tokenizer, job.trainer), given[1])
        collate = _collate(None if frozen else tokenizer)
        labels = self._labels(self.items)
        data = classifier.labelled_data(inputs, labels, collate, settings, validation=given, **shared)
        built = module(data.total_steps)
        if encoder is None or frozen:
            built.standardize(torch.from_numpy(inputs))
        if settings.target == "number":
            built.standardize_labels(labels)
        return Components(built, data, tokenizer)

    def _inputs(self, items: LabelledItems, job: TrainingJob, tokenizer: Any) -> Any:
        """Return vectors [n, d], or the texts' tokens."""
        if isinstance(items.inputs, Vectors):
            return np.load(job.folder / items.inputs.file)
        return classifier.encode(items.inputs, tokenizer, self.settings.max_length)

    def _labels(self, items: LabelledItems) -> list[float]:
        return [label if self.settings.target == "number" else int(label) for label in items.labels]

    def _outputs(self) -> int:
        if self.settings.target == "number":
            return 1
        held_out = self.validation.labels if self.validation is not None else ()
        return int(max(self.items.labels + held_out)) + 1


@dataclass(frozen=True)
class Classifier:
    """A trained classifier or regression."""

    module: classifier.ClassifierModule
    tokenizer: Any
    max_length: int
    device: str = "cpu"

    def answers(self, items: NDArray[np.float32] | classifier.Texts, batch_size: int = 256) -> NDArray[np.float64]:
        """Return logits [n, classes], or numbers [n, 1], of what the classifier was trained on: vectors or texts."""
        rows: Sequence[Any] = list(items)
        if self.tokenizer is not None:
            rows = classifier.encode(rows, self.tokenizer, self.max_length)
        lengths = [1 if self.tokenizer is None else len(row.ids) for row in rows]
        order = np.argsort(lengths, kind="stable")
        found = np.zeros((len(rows), self.module.head.out_features))
        module = self.module.eval().to(self.device)
        for first in range(0, len(rows), batch_size):
            chunk = order[first : first + batch_size]
            batch = _collate(self.tokenizer)([rows[number] for number in chunk])
            with torch.inference_mode():
                found[chunk] = module({name: part.to(self.device) for name, part in batch.items()}).double().cpu()
        return found

    def probabilities(
        self, items: NDArray[np.float32] | classifier.Texts, batch_size: int = 256
    ) -> NDArray[np.float64]:
        """Return class probabilities [n, classes]."""
        return torch.from_numpy(self.answers(items, batch_size)).softmax(dim=1).numpy()


def train_classifier(
    items: NDArray[np.float32] | classifier.Texts,
    labels: Sequence[float],
    settings: ClassifierSettings,
    training: Training,
    *,
    stage: str,
    validation: tuple[NDArray[np.float32] | classifier.Texts, Sequence[float]] | None = None,
    encoder: str | Path = "",
    revision: str | None = None,
) -> Classifier:
    """Train a classifier with labels 0 … classes − 1, or a regression (`settings.target`).

    Args:
        items: sentence vectors [n, d], or sentences or pairs of sentences if `encoder` is given.
        labels: one for each item.
        settings: what to train, and how.
        training: where to train, the seed, the folder of the checkpoints, and whom to tell.
        stage: names this training's random numbers.
        validation: held-out items with their labels; without them, `settings.validation_share` of the items.
        encoder: folder or Hub id of an encoder; `settings.weights` says what of it is trained.
        revision: of a Hub id; None is the newest.

    Raises:
        UserError: nothing to train on, one class only, or fewer items than one batch takes.
        Fault: the checkpoint in the folder is damaged or another training's.
    """
    if len(items) == 0:
        raise UserError("there are no sentences to train a classifier on")
    classifier.check_labels(labels, len(items), settings.target)
    learned = _labelled(items, labels, training.work / "features.npy", texts=bool(encoder))
    held_out = None
    if validation is not None:
        held_out = _labelled(*validation, training.work / "validation_features.npy", texts=bool(encoder))
    job = TrainingJob(ClassifierTask(settings, learned, held_out), str(encoder), training, stage, revision)
    components, _ = run(job)
    assert isinstance(components.module, classifier.ClassifierModule)  # noqa: S101 - tells the type checker
    return Classifier(components.module.eval(), components.tokenizer, settings.max_length, _device(job.trainer))


def _labelled(
    items: NDArray[np.float32] | classifier.Texts, labels: Sequence[float], path: Path, *, texts: bool
) -> LabelledItems:
    """Return labelled texts, or labelled vectors, which are written into the file."""
    plain = tuple(float(label) for label in labels)
    if texts:
        return LabelledItems(tuple(item if isinstance(item, str) else tuple(map(str, item)) for item in items), plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(items, dtype=np.float32))
    return LabelledItems(Vectors(path.name, digest_file(path)), plain)


def _collate(tokenizer: Any) -> Callable[[Sequence[Any]], dict[str, Any]]:
    if tokenizer is None:
        return classifier.collate_vectors
    return partial(classifier.collate_tokens, tokenizer=tokenizer)


def _load_encoder(job: TrainingJob) -> tuple[Any, Any]:
    """Return a job's encoder and its tokenizer; weights that its files lack are drawn from the job's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(job.seed, job.stage, "encoder"))
        return load_encoder(job.model, job.revision, "plm.path")


def _trainable(encoder: Any, job: TrainingJob, settings: ClassifierSettings) -> Any:
    """Return the encoder with what `settings.weights` names ready to be trained, and all else frozen."""
    if settings.weights == "frozen":
        return encoder.requires_grad_(False).eval()
    if settings.weights == "lora":
        encoder = add_lora(
            encoder,
            settings.lora,
            dropout=settings.lora.dropout,
            task="FEATURE_EXTRACTION",
            seed=job.seed,
            stage=job.stage,
        )
    freeze_pooler(encoder)
    set_up(encoder, job.trainer)
    return encoder


def _sentence_vectors(
    module: classifier.ClassifierModule, rows: Sequence[classifier.Tokens], tokenizer: Any, trainer: TrainerSettings
) -> NDArray[np.float32]:
    """Return a frozen encoder's vectors [n, d]: computed once, not in every epoch."""
    device = _device(trainer)
    module.eval().to(device)
    order = np.argsort([len(row.ids) for row in rows], kind="stable")
    vectors = np.empty((len(rows), module.head.in_features), dtype=np.float32)
    for chunk in np.array_split(order, -(-len(rows) // 64)):
        batch = classifier.collate_tokens([rows[number] for number in chunk], tokenizer)
        with torch.inference_mode():
            vectors[chunk] = module.vectors({name: part.to(device) for name, part in batch.items()}).cpu().numpy()
    module.to("cpu")
    return vectors


def _device(trainer: TrainerSettings) -> str:
    """Return the torch device of this process."""
    return "cpu" if resolve_accelerator(trainer) == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
