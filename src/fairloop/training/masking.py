"""Which tokens a masked language model has to predict (Devlin et al. 2019, section 3.1)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fairloop.seeding import random_generator
from fairloop.training.data import pad
from fairloop.training.predictions import logits_at


class Masking:
    """Choose a share of a sentence's tokens: 80% become the mask token, 10% a random one, 10% stay.

    At least one token of a sentence is chosen: at 15% a sentence of five words would often have none. The choice
    depends on (seed, stage, step, sentence) alone, so that neither a resumed training nor the number of processes
    changes it.
    """

    def __init__(self, tokenizer: Any, share: float, *, seed: int, stage: str) -> None:
        self.mask_id, self.vocabulary = int(tokenizer.mask_token_id), len(tokenizer)
        self.share, self.seed, self.stage = share, seed, stage

    def __call__(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Return the masked token ids and where tokens were chosen, both [n, tokens].

        Args:
            batch: `input_ids` and `maskable` [n, tokens], `items` [n] (numbers of the sentences).
            step: of the training.
        """
        ids, chosen = batch["input_ids"].clone(), torch.zeros_like(batch["maskable"])
        for row, item in enumerate(batch["items"].tolist()):
            places = batch["maskable"][row].nonzero()[:, 0].cpu().numpy()
            if not len(places):
                continue
            random = random_generator(self.seed, self.stage, "mask", step, item)
            drawn = random.random(len(places))
            some = places[drawn < self.share] if (drawn < self.share).any() else places[[drawn.argmin()]]
            kind, words = random.random(len(some)), random.integers(0, self.vocabulary, len(some))
            chosen[row, some] = True
            ids[row, some[kind < 0.8]] = self.mask_id
            replaced = (kind >= 0.8) & (kind < 0.9)
            ids[row, some[replaced]] = torch.as_tensor(words[replaced], device=ids.device)
        return ids, chosen


def encode(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[tuple[list[int], list[bool]]]:
    """Return each text's token ids and which of them may be masked: the special ones may not."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, return_special_tokens_mask=True)
    return [
        (ids, [not flag for flag in flags])
        for ids, flags in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    ]


def collated(rows: Sequence[tuple[list[int], list[bool]]], items: Sequence[int], filler: int) -> dict[str, Tensor]:
    """Return a batch for `Masking` and the model."""
    ids, mask = pad([ids for ids, _ in rows], filler)
    maskable, _ = pad([[int(flag) for flag in flags] for _, flags in rows], 0)
    return {"input_ids": ids, "attention_mask": mask, "maskable": maskable.bool(), "items": torch.tensor(items)}


def masked_lm_loss(model: Any, batch: dict[str, Tensor], ids: Tensor, chosen: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of the chosen tokens of `batch`, given the masked `ids`."""
    logits = logits_at(model, ids, batch["attention_mask"], chosen, causal=False).float()
    return torch.nn.functional.cross_entropy(logits, batch["input_ids"][chosen], reduction="sum")
