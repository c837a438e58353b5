"""Run a model's layers over a batch of inputs: several in one row where the model can, and no work that nobody reads.

Sentences of benchmarks are short, and a row for each wastes twice: on padding, and on attention over a dozen tokens,
whose many tiny products cost a processor far more than their arithmetic. Where the model takes each token's position
and a mask over pairs of tokens, a row holds several inputs that do not see each other. What follows the last layer's
attention concerns each token by itself, and is computed only for the tokens that are asked for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fairloop.plm.batching import fill_rows
from fairloop.plm.loading import first_position, window

#: Families that can share a row: positions are embedded, and attention looks both ways.
_SHARES_ROWS = ("albert", "bert", "distilbert", "roberta")
#: Tokens in a row that several inputs share: enough to fill it well, few enough that attention costs little.
ROW_TOKENS = 64
#: The processor's attention takes up to three times as long at widths that are no multiple of this.
_WIDTH_STEP = 16


def shares_rows(model: Any) -> bool:
    """Say whether several inputs can stand in one row of this model's batches."""
    return model.config.model_type in _SHARES_ROWS


def hidden_states(model: Any, inputs: Sequence[Sequence[int]], pad: int, asked: np.ndarray | None = None) -> Any:
    """Return last hidden states as a tensor [tokens, hidden size]: the first input's, then the second's, and so on.

    Args:
        model: A model without a head (any model's `base_model`), in evaluation mode.
        inputs: Token ids of each input, none empty; few rows are needed if they come as `for_rows` has them.
        pad: The id to fill rows with.
        asked: Which tokens, as places in that order of all tokens; None for all of them.
    """
    import torch

    device = next(model.parameters()).device
    lengths = np.array([len(ids) for ids in inputs])
    shared = shares_rows(model)
    if shared:
        width = _row_width(lengths, window(model))
        rows = fill_rows(lengths, width)
    else:
        width = int(lengths.max())
        rows = [[number] for number in range(len(inputs))]
    token_rows, columns, positions, owners = _places(rows, lengths)
    ids = np.full((len(rows), width), pad)
    ids[token_rows, columns] = np.concatenate([np.asarray(some) for some in inputs])
    owner = np.full(ids.shape, -1)
    owner[token_rows, columns] = owners
    options = {}
    if shared and max(map(len, rows)) > 1:
        place = np.full(ids.shape, first_position(model))
        place[token_rows, columns] += positions
        options = {"position_ids": _on(device, place), "attention_mask": _blocks(model, _on(device, owner))}
    elif (owner < 0).any():
        options = {"attention_mask": _on(device, (owner >= 0).astype(np.int64))}
    if asked is not None:
        token_rows, columns = token_rows[asked], columns[asked]
    at = _on(device, token_rows), _on(device, columns)
    with torch.inference_mode(), _last_layer_at(model, *at) as done:
        hidden = model(input_ids=_on(device, ids), **options).last_hidden_state
    return hidden[0] if done else hidden[at]


def _row_width(lengths: np.ndarray, limit: int | None) -> int:
    """Return how wide the shared rows of a batch are: for one short input no wider than it needs.

    Never wider than the model's window (`limit`): BERT keeps token types for so many places only.
    """
    longest = int(lengths.max())
    wanted = max(longest, min(ROW_TOKENS, int(lengths.sum())))
    wanted = -(-wanted // _WIDTH_STEP) * _WIDTH_STEP
    return wanted if limit is None else max(longest, min(wanted, limit))


def _places(rows: list[list[int]], lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for each token, in the order of the inputs: its row, column, place in its input, and its input."""
    row_of, start_of = np.zeros(len(lengths), dtype=int), np.zeros(len(lengths), dtype=int)
    for number, row in enumerate(rows):
        row_of[row] = number
        start_of[row] = np.cumsum([0, *lengths[row[:-1]]])
    positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return (
        np.repeat(row_of, lengths),
        np.repeat(start_of, lengths) + positions,
        positions,
        np.repeat(np.arange(len(lengths)), lengths),
    )


def _on(device: Any, values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values).to(device)


def _blocks(model: Any, owner: Any) -> Any:
    """Return the mask [rows, 1, width, width] added to attention scores: tokens see those of their own input only.

    Filling tokens see each other, so that no token sees nothing.
    """
    import torch

    dtype = next(model.parameters()).dtype
    apart = (owner[:, None, :, None] != owner[:, None, None, :]).to(dtype)
    return apart * torch.finfo(dtype).min


@contextmanager
def _last_layer_at(model: Any, rows: Any, columns: Any) -> Iterator[bool]:
    """Let the last layer go on, after its attention, with the tokens [1, asked] alone; yield whether it can."""
    part = _after_attention(model)
    if part is None:
        yield False
        return
    hook = part.register_forward_pre_hook(lambda _, given: tuple(states[rows, columns][None] for states in given))
    try:
        yield True
    finally:
        hook.remove()


def _after_attention(model: Any) -> Any | None:
    """Return the module of the last layer that first treats every token by itself, None for an unknown family.

    (ALBERT's layers are one module; in the causal families the residual stream passes such a module by.)
    """
    family = model.config.model_type
    if family in ("bert", "roberta"):
        return model.encoder.layer[-1].attention.output
    return model.transformer.layer[-1].sa_layer_norm if family == "distilbert" else None
