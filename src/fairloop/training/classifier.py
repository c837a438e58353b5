"""A classifier of sentences for the downstream measure: a linear layer on a frozen or on a trained encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fairloop.errors import UserError
from fairloop.seeding import derive
from fairloop.training.contrastive import pool
from fairloop.training.data import TrainingData, pad
from fairloop.training.module import TrainingModule
from fairloop.training.settings import ClassifierSettings


class ClassifierModule(TrainingModule):
    """Minimise cross-entropy of a linear layer over sentence vectors.

    With `encoder` None the batches hold vectors computed beforehand (`features`); otherwise token ids, and the
    encoder is trained too.
    """

    def __init__(
        self,
        classes: int,
        width: int,
        settings: ClassifierSettings,
        *,
        encoder: Any = None,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.settings = settings
        self.encoder = encoder
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, stage, "classifier"))
            self.head = nn.Linear(width, classes)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return logits [n, classes]."""
        if self.encoder is None:
            vectors = batch["features"]
        else:
            hidden = self.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            vectors = pool(hidden.last_hidden_state, batch["attention_mask"], self.settings.pooling)
        vectors = (vectors - self.centre) / self.scale
        logits: Tensor = self.head(functional.dropout(vectors, self.settings.dropout, self.training))
        return logits.float()

    def standardize(self, features: Tensor) -> None:
        """Centre and scale the vectors by the training set's mean and deviation, which speeds a linear layer up."""
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0, unbiased=False).clamp(min=1e-6))

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed cross-entropy and the number of items."""
        labels = batch["labels"]
        total = functional.cross_entropy(self(batch), labels, reduction="sum")
        return total, torch.tensor(len(labels), device=labels.device)


@dataclass(frozen=True)
class Labelled:
    """A sentence vector or a sentence's token ids, with its class."""

    inputs: Any
    label: int


def check_labels(labels: Sequence[int], items: int) -> int:
    """Return the number of classes.

    Raises:
        UserError: if labels and items differ in number, or if there is but one class.
    """
    if len(labels) != items:
        raise UserError(f"a classifier needs one label for each item: {items} items, {len(labels)} labels")
    if len(set(labels)) < 2:
        raise UserError(f"a classifier needs at least two classes, and the {items} items have {len(set(labels))}")
    return max(labels) + 1


def feature_data(
    features: NDArray[np.float32], labels: Sequence[int], settings: ClassifierSettings, *, seed: int, stage: str
) -> TrainingData:
    """Return the data module of sentence vectors [n, d]."""
    rows = [Labelled(vector, label) for vector, label in zip(features, labels, strict=True)]

    def collate(items: Sequence[Labelled]) -> dict[str, Tensor]:
        vectors = torch.from_numpy(np.stack([item.inputs for item in items]).astype(np.float32))
        return {"features": vectors, "labels": torch.tensor([item.label for item in items])}

    return TrainingData(rows, [1] * len(rows), collate, settings, seed=seed, stage=stage, what="sentence vectors")


def sentence_data(
    sentences: Sequence[str],
    labels: Sequence[int],
    tokenizer: Any,
    settings: ClassifierSettings,
    *,
    seed: int,
    stage: str,
) -> TrainingData:
    """Return the data module of labelled sentences."""
    ids = tokenizer(list(sentences), truncation=True, max_length=settings.max_length)["input_ids"] if sentences else []
    rows = [Labelled(tokens, label) for tokens, label in zip(ids, labels, strict=True)]

    def collate(items: Sequence[Labelled]) -> dict[str, Tensor]:
        padded, mask = pad([item.inputs for item in items], tokenizer.pad_token_id or 0)
        return {"input_ids": padded, "attention_mask": mask, "labels": torch.tensor([item.label for item in items])}

    return TrainingData(rows, [len(i) for i in ids], collate, settings, seed=seed, stage=stage, what="sentences")
