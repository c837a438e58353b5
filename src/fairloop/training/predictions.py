"""Predictions of a language model at chosen places: its head, often most of the work, runs nowhere else."""

from typing import Any

import torch
from torch import Tensor


def hidden_and_logits(model: Any, ids: Tensor, mask: Tensor, wanted: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Return what enters the output embeddings at the wanted places, and the logits there.

    The places are taken out as one matrix before the output embeddings (sliced, they would copy their weights for
    every row).

    Args:
        model: a masked or causal language model of transformers, with or without adapters.
        ids: token ids [n, tokens].
        mask: 1 for real tokens [n, tokens].
        wanted: [n, tokens], true where the model's output is wanted.
        causal: whether the model is causal, and would keep its keys and values if it were not told otherwise.

    Returns:
        [places, width] and [places, vocabulary], places in the order of rows, then of tokens.
    """
    seen: list[Tensor] = []

    def only_where_wanted(head: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(inputs[0][wanted])
        return (seen[0].unsqueeze(0), *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(only_where_wanted)
    try:
        output = model(input_ids=ids, attention_mask=mask, **({"use_cache": False} if causal else {}))
    finally:
        hook.remove()
    return seen[0], output.logits[0]


def logits_at(model: Any, ids: Tensor, mask: Tensor, wanted: Tensor, *, causal: bool) -> Tensor:
    """Return the logits [places, vocabulary] at the wanted places; see `hidden_and_logits`."""
    return hidden_and_logits(model, ids, mask, wanted, causal=causal)[1]


def places(ids: Tensor, columns: Tensor) -> Tensor:
    """Return a mask [n, tokens] that is true at one column of each row."""
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    wanted[torch.arange(len(ids), device=ids.device), columns] = True
    return wanted
