"""Group inputs of similar length into batches that hold a bounded number of tokens."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item", bound=Hashable)


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return the indices of `lengths` in batches, longest first, each of at most `budget` tokens.

    Each input counts as much as the longest of its batch, to which it will be padded. Longest first, so that a batch
    that does not fit in memory fails at once and not at the end. An input longer than the budget is a batch of its
    own. The order depends on the lengths alone.

    Args:
        lengths: Tokens of each input.
        budget: Tokens of a batch, padding included.
    """
    batches: list[list[int]] = []
    for index in _longest_first(lengths):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def for_rows(lengths: Sequence[int], budget: int, width: int) -> list[list[int]]:
    """Return the indices of `lengths` in batches for rows of `width` tokens that several inputs share.

    Inputs longer than a row come first, by length. All others fill rows together, so that short ones take what long
    ones leave of a row, and a batch is some whole rows: `fill_rows` makes the same rows of it again. The order depends
    on the lengths alone.

    Args:
        lengths: Tokens of each input.
        budget: Tokens of a batch, padding included; an input longer than that is a batch of its own.
        width: Tokens of a row.
    """
    width = min(width, budget)
    order = _longest_first(lengths)
    long = [index for index in order if lengths[index] > width]
    short = order[len(long) :]
    batches = [[long[place] for place in batch] for batch in by_length([lengths[index] for index in long], budget)]
    rows = fill_rows([lengths[index] for index in short], width)
    for first in range(0, len(rows), budget // width):
        batches.append([short[place] for row in rows[first : first + budget // width] for place in row])
    return batches


def fill_rows(lengths: Sequence[int] | np.ndarray, width: int) -> list[list[int]]:
    """Return inputs (as places in `lengths`, none above `width`) in rows of at most `width` tokens.

    Each goes into the first row that has room for it: longest first, sentences waste one or two per cent so.
    """
    rows: list[list[int]] = []
    room = np.zeros(len(lengths) + 1, dtype=int)
    full = 0  # Rows before this one have no room for the shortest.
    shortest = min(lengths, default=0)
    for number, length in enumerate(lengths):
        room[len(rows)] = width  # A new row, if no other has room.
        row = full + int(np.argmax(room[full : len(rows) + 1] >= length))
        if row == len(rows):
            rows.append([])
        rows[row].append(number)
        room[row] -= length
        while full < len(rows) and room[full] < shortest:
            full += 1
    return rows


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


def distinct(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """Return the distinct items in order of appearance, and for each item its place among them."""
    places: dict[Item, int] = {}
    positions = [places.setdefault(item, len(places)) for item in items]
    return list(places), positions
