"""Group inputs of similar length into batches that hold a bounded number of tokens."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

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

    Inputs longer than a row come first, by length. The others are dealt out like cards, longest first, so that each
    batch has short inputs to fill what the long ones leave of a row. A batch holds at most `budget` tokens, without
    padding; an input longer than that is a batch of its own. The order depends on the lengths alone.

    Args:
        lengths: Tokens of each input.
        budget: Tokens of a batch, without padding.
        width: Tokens of a row.
    """
    order = _longest_first(lengths)
    long = [index for index in order if lengths[index] > width]
    short = order[len(long) :]
    batches = [[long[place] for place in batch] for batch in by_length([lengths[index] for index in long], budget)]
    count = -(-sum(lengths[index] for index in short) // budget)
    while count < len(short) and sum(lengths[index] for index in short[::count]) > budget:
        count += 1
    return batches + [short[number::count] for number in range(min(count, len(short)))]


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


def distinct(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """Return the distinct items in order of appearance, and for each item its place among them."""
    places: dict[Item, int] = {}
    positions = [places.setdefault(item, len(places)) for item in items]
    return list(places), positions
