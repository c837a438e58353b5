"""Group inputs of similar length into batches that hold a bounded number of tokens."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def by_length(lengths: Sequence[int], budget: int, *, padded: bool = True) -> list[list[int]]:
    """Return the indices of `lengths` in batches, longest first, each of at most `budget` tokens.

    Longest first, so that a batch that does not fit in memory fails at once and not at the end. An input longer
    than the budget is a batch of its own. The order depends on the lengths alone.

    Args:
        lengths: Tokens of each input.
        budget: Tokens of a batch.
        padded: Whether each input will be padded to the longest of its batch, and counts that much.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    used = 0
    for index in order:
        cost = lengths[batches[-1][0]] if batches and padded else lengths[index]
        if batches and used + cost <= budget:
            batches[-1].append(index)
            used += cost
        else:
            batches.append([index])
            used = lengths[index]
    return batches


def distinct(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """Return the distinct items in order of appearance, and for each item its place among them."""
    places: dict[Item, int] = {}
    positions = [places.setdefault(item, len(places)) for item in items]
    return list(places), positions
