"""Causal models: inputs that begin alike share that beginning, which is computed once.

The answers to a question differ behind the question, counterfactual sentences behind the first gendered word. A row of
a batch then holds the beginning and, one after the other, what each input has behind it. Every token sees the beginning
and its own input only, and has the position that it has in its own input.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairloop.plm.batching import by_length
from fairloop.plm.packing import hidden_states

#: Families whose attention takes any mask over pairs of tokens, and whose positions are an argument.
_SHARE = ("gemma2", "gemma3_text", "gpt2", "llama", "qwen2")
#: Tokens of a row above which no further input joins it, unless the beginning alone has more: attention grows with it.
_WIDTH = 256


def shares_beginnings(model: Any) -> bool:
    """Say whether inputs of this model can share their beginnings."""
    return model.config.model_type in _SHARE


def groups_of(inputs: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Return inputs (by their places) in groups, each with the length of the beginning that all of it share.

    Inputs are taken in the order of their tokens; one joins the group before it if at least half of every input of
    that group, and of itself, is shared then. The beginning of an input that is alone is the whole of it.
    """
    groups: list[tuple[int, list[int]]] = []
    longest = width = 0
    for place in sorted(range(len(inputs)), key=lambda place: tuple(inputs[place])):
        ids = inputs[place]
        if groups:
            shared, members = groups[-1]
            common = _common(inputs[members[0]][:shared], ids)
            wider = width + (shared - common) * (len(members) - 1) + len(ids) - common
            if 2 * common >= max(longest, len(ids)) and wider <= max(_WIDTH, common + 64):
                groups[-1] = (common, [*members, place])
                longest, width = max(longest, len(ids)), wider
                continue
        groups.append((len(ids), [place]))
        longest = width = len(ids)
    return groups


def by_beginning(inputs: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """Return the inputs' places in batches of whole groups, each of at most `budget` tokens, padding included."""
    groups = groups_of(inputs)
    widths = [shared + sum(len(inputs[place]) - shared for place in members) for shared, members in groups]
    return [[place for group in batch for place in groups[group][1]] for batch in by_length(widths, budget)]


def shared_states(model: Any, inputs: Sequence[Sequence[int]], pad: int, asked: np.ndarray) -> Any:
    """Return last hidden states [asked, hidden size]; arguments as of `packing.hidden_states`."""
    import torch

    groups = groups_of(inputs)
    if len(groups) == len(inputs):
        return hidden_states(model, inputs, pad, asked)
    width = max(shared + sum(len(inputs[place]) - shared for place in members) for shared, members in groups)
    ids = np.full((len(groups), width), pad)
    positions = np.zeros_like(ids)
    owners = np.full_like(ids, -1)  # 0: the beginning; then the inputs of the row; -1: filling
    row_of, start_of, shared_of = (np.zeros(len(inputs), dtype=int) for _ in range(3))
    for row, (shared, members) in enumerate(groups):
        end = shared
        ids[row, :shared], positions[row, :shared], owners[row, :shared] = inputs[members[0]][:shared], range(shared), 0
        for number, place in enumerate(members, start=1):
            rest = inputs[place][shared:]
            here = slice(end, end + len(rest))
            ids[row, here], positions[row, here], owners[row, here] = rest, range(shared, shared + len(rest)), number
            row_of[place], start_of[place], shared_of[place] = row, end - shared, shared
            end += len(rest)
    lengths = np.array([len(one) for one in inputs])
    owner = np.repeat(np.arange(len(inputs)), lengths)[asked]
    position = asked - (np.cumsum(lengths) - lengths)[owner]
    columns = np.where(position < shared_of[owner], position, start_of[owner] + position)
    device = next(model.parameters()).device
    as_tensors = (torch.from_numpy(values).to(device) for values in (ids, positions, owners, row_of[owner], columns))
    tokens, places, owns, rows, at = as_tensors
    with torch.inference_mode():
        states = model(input_ids=tokens, position_ids=places, attention_mask=_masks(model, places, owns))
        return states.last_hidden_state[rows, at]


def _masks(model: Any, positions: Any, owners: Any) -> Any:
    """Return what is added to attention scores [rows, 1, width, width]; by kind of layer if some see a window only."""
    import torch

    width = positions.shape[1]
    order = torch.arange(width, device=positions.device)
    before = order[:, None] >= order[None, :]
    own = (owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None])
    # Filling sees filling, so that no token sees nothing.
    seen = before & own & ((owners[:, None, :] >= 0) | (owners[:, :, None] < 0))
    config, dtype = model.config, next(model.parameters()).dtype

    def added(allowed: Any) -> Any:
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed, torch.finfo(dtype).min
        )[:, None]

    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return added(seen)
    near = positions[:, :, None] - positions[:, None, :] < config.sliding_window
    return {"full_attention": added(seen), "sliding_attention": added(seen & (near | (owners[:, :, None] < 0)))}


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two inputs have in common at their beginning."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
