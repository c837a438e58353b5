"""Causal models: what inputs have in common at their beginnings is computed once.

The answers to a question differ behind the question, counterfactual sentences behind the first gendered word. In the
order of their tokens, inputs are the branches of a tree, and a row of a batch holds such a tree, depth first: behind
each branch stands what the next one has of its own. Every token sees its ancestors and itself, and has the position
that it has in its own input. Inputs that have nothing in common can stand in one row, so that rows are full.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairloop.plm.packing import hidden_states

#: Families whose attention takes any mask over pairs of tokens, and whose positions are an argument.
_SHARE = ("gemma2", "gemma3_text", "gpt2", "llama", "qwen2")
#: Tokens of a row above which no further input joins it, unless it shares more than that: attention grows with it.
_WIDTH = 128


def shares_beginnings(model: Any) -> bool:
    """Say whether inputs of this model can share their beginnings."""
    return model.config.model_type in _SHARE


def rows_of(inputs: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Return inputs in rows, each input as (its place, how many tokens it shares with the one before it in the row).

    Inputs come in the order of their tokens, so that none shares more with an earlier one of its row.
    """
    rows: list[list[tuple[int, int]]] = []
    width = 0
    for place in sorted(range(len(inputs)), key=lambda place: tuple(inputs[place])):
        ids = inputs[place]
        common = _common(inputs[rows[-1][-1][0]], ids) if rows else 0
        width += len(ids) - common
        if not rows or width > max(_WIDTH, common + _WIDTH // 2):
            rows.append([(place, 0)])
            width = len(ids)
        else:
            rows[-1].append((place, common))
    return rows


def by_beginning(inputs: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """Return the inputs' places in batches of whole rows, each of at most `budget` tokens, padding included.

    A row that is longer than the budget is a batch of its own. `rows_of` makes the same rows of a batch again.
    """
    batches: list[list[int]] = []
    widest = count = 0
    for row in rows_of(inputs):
        width = _width(inputs, row)
        widest, count = max(widest, width), count + 1
        if not batches or widest * count > budget:
            batches.append([])
            widest, count = width, 1
        batches[-1] += [place for place, _ in row]
    return batches


def _width(inputs: Sequence[Sequence[int]], row: list[tuple[int, int]]) -> int:
    """Return how many tokens a row of `rows_of` holds."""
    return sum(len(inputs[place]) - shared for place, shared in row)


def shared_states(model: Any, inputs: Sequence[Sequence[int]], pad: int, asked: np.ndarray) -> Any:
    """Return last hidden states [asked, hidden size]; arguments as of `packing.hidden_states`."""
    import torch

    rows = rows_of(inputs)
    if len(rows) == len(inputs):
        return hidden_states(model, inputs, pad, asked)
    width = max(_width(inputs, row) for row in rows)
    ids, depths = np.full((len(rows), width), pad), np.zeros((len(rows), width), dtype=int)
    columns: list[np.ndarray] = [np.empty(0, dtype=int)] * len(inputs)  # of each input's tokens in its row
    row_of = np.zeros(len(inputs), dtype=int)
    for number, row in enumerate(rows):
        end, path = 0, np.empty(0, dtype=int)
        for place, shared in row:
            own = np.arange(end, end + len(inputs[place]) - shared)
            ids[number, own], depths[number, own] = inputs[place][shared:], shared + own - end
            columns[place] = path = np.concatenate([path[:shared], own])
            row_of[place], end = number, end + len(own)
    at_rows = np.repeat(row_of, [len(one) for one in inputs])[asked]
    device = next(model.parameters()).device
    tokens, places, at = (torch.from_numpy(values).to(device) for values in (ids, depths, np.concatenate(columns)))
    with torch.inference_mode():
        states = model(input_ids=tokens, position_ids=places, attention_mask=_masks(model, places)).last_hidden_state
        return states[torch.from_numpy(at_rows).to(device), at[torch.from_numpy(asked).to(device)]]


def _masks(model: Any, depths: Any) -> Any:
    """Return what is added to attention scores [rows, 1, width, width]; by kind of layer if some see a window only.

    A token's ancestors are those before it behind which no other, up to the token itself, is as shallow as they are.
    Filling has depth 0 and sees itself, so that no token sees nothing.
    """
    import torch

    order = torch.arange(depths.shape[1], device=depths.device)
    behind = order[:, None] < order[None, :]
    deepest = depths.shape[1]
    shallowest = torch.where(behind, depths[:, None, :], deepest).cummin(-1).values  # [rows, ancestor, token]
    seen = ((shallowest > depths[:, :, None]) & (order[:, None] <= order[None, :])).transpose(1, 2)
    dtype = next(model.parameters()).dtype

    def added(allowed: Any) -> Any:
        zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return zeros.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]

    if "sliding_attention" not in (getattr(model.config, "layer_types", None) or ()):
        return added(seen)
    near = depths[:, :, None] - depths[:, None, :] < model.config.sliding_window
    return {"full_attention": added(seen), "sliding_attention": added(seen & near)}


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two inputs have in common at their beginning."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
