"""Contrastive training of a sentence encoder on counterfactual pairs, and how well it separated them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fairloop.errors import UserError
from fairloop.plm.loading import load_encoder, pad_id
from fairloop.training.data import TrainingData, pad
from fairloop.training.distributed import gather_rows
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.module import TrainingModule
from fairloop.training.plm import freeze_pooler, set_up
from fairloop.training.settings import ContrastiveSettings


class ContrastiveModule(TrainingModule):
    """Minimise InfoNCE over all sentences of the global batch: a sentence's positive is its counterfactual."""

    def __init__(self, model: Any, settings: ContrastiveSettings, *, seed: int, stage: str, total_steps: int) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.model = model
        self.settings = settings

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss of this process's sentences and their number."""
        output = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        vectors = pool(output.last_hidden_state, batch["attention_mask"], self.settings.pooling)
        total = info_nce(vectors, batch["texts"], self.settings.temperature)
        return total, torch.tensor(len(vectors), device=total.device)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return sentence vectors [n, d] from token vectors [n, tokens, d]: their mean, the first or the last one."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        last = mask.sum(dim=1).clamp(min=1) - 1  # batches are filled up on the right
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def info_nce(vectors: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return the sum over this process's sentences of −log exp(s⁺/τ) / (exp(s⁺/τ) + Σ exp(s⁻/τ)), s being cosines.

    Args:
        vectors: [2n, d] of this process; row i and row i + n are a pair.
        texts: [2n] numbers, equal for equal texts anywhere in the global batch.
        temperature: τ.

    Negatives are the other sentences of all processes, except those with the text of the sentence or of its positive:
    a duplicate is not pushed away from itself (van den Oord et al. 2018, arXiv 1807.03748; Chen et al. 2020, eq. 1).
    """
    own = functional.normalize(vectors.float(), dim=1)
    everything, start = gather_rows(own)
    all_texts, _ = gather_rows(texts)
    row = torch.arange(len(own), device=own.device)
    partner = (row + len(own) // 2) % len(own)
    positive = start + partner
    # Autocast would round the products to bfloat16, and a temperature of 0.05 multiplies that error by twenty.
    with torch.autocast(own.device.type, enabled=False):
        logits = own @ everything.T / temperature
    same = (texts[:, None] == all_texts) | (texts[partner][:, None] == all_texts)
    same[row, positive] = False
    return functional.cross_entropy(logits.masked_fill(same, float("-inf")), positive, reduction="sum")


@dataclass(frozen=True)
class PairTokens:
    """Token ids of a sentence and of its counterfactual, and their texts' numbers."""

    ids: tuple[list[int], list[int]]
    texts: tuple[int, int]


def contrastive_data(
    pairs: Sequence[tuple[str, str]], tokenizer: Any, settings: ContrastiveSettings, *, seed: int, stage: str
) -> TrainingData:
    """Return the data module of `pairs`.

    Raises:
        UserError: if there are fewer than two distinct pairs (no negatives) or fewer pairs than one batch takes.
    """
    numbers: dict[str, int] = {}
    texts = [tuple(numbers.setdefault(" ".join(text.split()), len(numbers)) for text in pair) for pair in pairs]
    if len({frozenset(pair) for pair in texts if len(set(pair)) == 2}) < 2:
        raise UserError(f"contrastive training needs at least two different pairs, and {len(pairs)} were given")
    flat = [text for pair in pairs for text in pair]
    ids = tokenizer(flat, truncation=True, max_length=settings.max_length)["input_ids"]
    rows = [
        PairTokens((ids[2 * number], ids[2 * number + 1]), (text[0], text[1]))
        for number, text in enumerate(texts)
        if text[0] != text[1]
    ]

    def collate(items: Sequence[PairTokens]) -> dict[str, Tensor]:
        padded, mask = pad([item.ids[side] for side in (0, 1) for item in items], pad_id(tokenizer))
        numbered = torch.tensor([item.texts[side] for side in (0, 1) for item in items])
        return {"input_ids": padded, "attention_mask": mask, "texts": numbered}

    lengths = [max(map(len, row.ids)) for row in rows]
    return TrainingData(rows, lengths, collate, settings, seed=seed, stage=stage, what="pairs")


@dataclass(frozen=True)
class ContrastiveTask(TrainingTask):
    """Train a sentence encoder on pairs of sentences."""

    settings: ContrastiveSettings
    pairs: tuple[tuple[str, str], ...]

    def components(self, job: TrainingJob) -> Components:
        """Load the encoder and tokenise the pairs; see `TrainingTask`."""
        model, tokenizer = load_encoder(job.model, job.revision, "study.encoder")
        data = contrastive_data(self.pairs, tokenizer, self.settings, seed=job.seed, stage=job.stage)
        freeze_pooler(model)
        set_up(model, job.trainer)
        module = ContrastiveModule(model, self.settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps)
        return Components(module, data, tokenizer)
