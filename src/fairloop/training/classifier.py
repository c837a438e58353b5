"""A classifier or a regression of sentences and sentence pairs: a linear layer on a frozen or on a trained encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fairloop.errors import UserError
from fairloop.plm.loading import pad_id
from fairloop.seeding import derive
from fairloop.statistics.agreement import agreement
from fairloop.training.contrastive import pool
from fairloop.training.data import TrainingData, pad
from fairloop.training.distributed import gather_rows
from fairloop.training.module import TrainingModule
from fairloop.training.settings import ClassifierSettings

Texts = Sequence[str | tuple[str, ...]]


class ClassifierModule(TrainingModule):
    """Minimise cross-entropy (classes) or squared error (a number) of a linear layer over sentence vectors.

    Batches hold vectors computed beforehand (`features`: no encoder, or a frozen one), or token ids for the encoder.
    With `settings.select` the validation loss is 1 − the mean of these measures over all held-out items.
    """

    def __init__(
        self,
        outputs: int,
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
        self.patience = settings.patience
        self.encoder = encoder
        # BERT and ALBERT tell the two sentences of a pair apart by their type; other families have no types.
        self.typed = encoder is not None and getattr(encoder.config, "type_vocab_size", 0) > 1
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, stage, "classifier"))
            self.head = nn.Linear(width, outputs)
        for name, size in (("centre", width), ("scale", width), ("label_centre", 1), ("label_scale", 1)):
            self.register_buffer(name, torch.zeros(size) if name.endswith("centre") else torch.ones(size))
        self._answers: list[tuple[Tensor, Tensor]] = []

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return logits [n, classes], or numbers [n, 1]."""
        vectors = batch["features"] if "features" in batch else self.vectors(batch)
        vectors = (vectors - self.centre) / self.scale
        logits: Tensor = self.head(functional.dropout(vectors, self.settings.dropout, self.training)).float()
        return logits * self.label_scale + self.label_centre if self.settings.target == "number" else logits

    def vectors(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the encoder's sentence vectors [n, d] of token ids."""
        types = {"token_type_ids": batch["token_type_ids"]} if self.typed else {}
        hidden = self.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **types)
        return pool(hidden.last_hidden_state, batch["attention_mask"], self.settings.pooling)

    def standardize(self, features: Tensor) -> None:
        """Centre and scale the vectors by the training set's mean and deviation, which speeds a linear layer up."""
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0, unbiased=False).clamp(min=1e-6))

    def standardize_labels(self, labels: Sequence[float]) -> None:
        """Let a regression begin at the training set's mean, in units of its deviation."""
        numbers = torch.tensor(labels, dtype=torch.float64)
        self.label_centre.fill_(float(numbers.mean()))
        self.label_scale.fill_(max(float(numbers.std(unbiased=False)), 1e-6))

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the number of items; squared errors are in units of the labels' deviation."""
        labels, answers = batch["labels"], self(batch)
        if not self.training and self.settings.select:
            self._answers.append((answers.detach(), labels))
        if self.settings.target == "number":
            total = ((answers[:, 0] - labels) / self.label_scale).pow(2).sum()
        else:
            total = functional.cross_entropy(answers, labels, reduction="sum")
        return total, torch.tensor(len(labels), device=labels.device)

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the epoch before."""
        super().on_validation_epoch_start()
        self._answers = []

    def on_validation_epoch_end(self) -> None:
        """Keep the mean loss over all processes as `validation_loss`, or 1 − the measures that select."""
        super().on_validation_epoch_end()
        if self.settings.select:
            answers, labels = (gather_rows(torch.cat(parts))[0] for parts in zip(*self._answers, strict=True))
            predictions = predicted(answers.double().cpu().numpy(), self.settings.target)
            measured = [agreement(name, labels.cpu().numpy(), predictions) for name in self.settings.select]
            self.validation_loss = 1 - sum(measured) / len(measured)
            self.log("validation/agreement", sum(measured) / len(measured))


def predicted(answers: NDArray[np.float64], target: str) -> NDArray[Any]:
    """Return classes or numbers [n] from a module's answers [n, outputs]."""
    return answers[:, 0] if target == "number" else answers.argmax(axis=1)


@dataclass(frozen=True)
class Tokens:
    """A text's token ids, and for each the number of the sentence that it belongs to."""

    ids: list[int]
    types: list[int]


@dataclass(frozen=True)
class Labelled:
    """A sentence vector or the tokens of a text, with its class or number."""

    inputs: Any
    label: float


def check_labels(labels: Sequence[float], items: int, target: str = "class") -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        UserError: if labels and items differ in number, or if there is but one class.
    """
    if len(labels) != items:
        raise UserError(f"a classifier needs one label for each item: {items} items, {len(labels)} labels")
    if target == "class" and len(set(labels)) < 2:
        raise UserError(f"a classifier needs at least two classes, and the {items} items have {len(set(labels))}")


def encode(texts: Texts, tokenizer: Any, max_length: int | None) -> list[Tokens]:
    """Return the tokens of sentences or of pairs; what is longer than `max_length` is cut (a pair: its longer part).

    A tokenizer without a separator (GPT-2, Gemma) would run the two sentences of a pair together: they are put on two
    lines.
    """
    if not len(texts):
        return []
    pairs = [(text,) if isinstance(text, str) else text for text in texts]
    parts = [list(side) for side in zip(*pairs, strict=True)]
    if len(parts) == 2 and tokenizer.sep_token is None:
        parts = [[f"{first}\n{second}" for first, second in zip(*parts, strict=True)]]
    out = tokenizer(
        *parts,
        truncation=max_length is not None,
        max_length=max_length,
        padding=False,
        return_token_type_ids=True,
        verbose=False,
    )
    return [Tokens(ids, types) for ids, types in zip(out["input_ids"], out["token_type_ids"], strict=True)]


def collate_tokens(items: Sequence[Tokens], tokenizer: Any) -> dict[str, Tensor]:
    """Return one batch of texts, filled up on the right whatever the tokenizer's own side."""
    ids, mask = pad([item.ids for item in items], pad_id(tokenizer))
    types, _ = pad([item.types for item in items], 0)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def collate_vectors(items: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return one batch of sentence vectors."""
    return {"features": torch.from_numpy(np.stack(list(items)).astype(np.float32))}


def labelled_data(
    inputs: Sequence[Any],
    labels: Sequence[float],
    collate: Callable[[Sequence[Any]], dict[str, Tensor]],
    settings: ClassifierSettings,
    *,
    validation: tuple[Sequence[Any], Sequence[float]] | None = None,
    seed: int,
    stage: str,
) -> TrainingData:
    """Return the data module of labelled vectors or tokens, with validation items of its own if they are given."""
    number = torch.float32 if settings.target == "number" else torch.long

    def rows(some: Sequence[Any], their: Sequence[float]) -> list[Labelled]:
        return [Labelled(one, label) for one, label in zip(some, their, strict=True)]

    def lengths(some: Sequence[Any]) -> list[int]:
        return [len(one.ids) if isinstance(one, Tokens) else 1 for one in some]

    def labelled(items: Sequence[Labelled]) -> dict[str, Tensor]:
        return {
            **collate([item.inputs for item in items]),
            "labels": torch.tensor([item.label for item in items], dtype=number),
        }

    given = (rows(*validation), lengths(validation[0])) if validation is not None else None
    what = "sentences" if len(inputs) and isinstance(inputs[0], Tokens) else "sentence vectors"
    return TrainingData(
        rows(inputs, labels), lengths(inputs), labelled, settings, seed=seed, stage=stage, what=what, given=given
    )
