"""Two halves of a benchmark's items: settings are chosen on one (development), results are those of the other (test).

An item belongs to a half by its name alone: its target term, occupation, template or text. The names of a benchmark,
each once, are ordered by their hash, and the first half of them is the development half. So the halves are disjoint,
alike in size, and do not depend on the order of a file, on a seed or on a processor. Where items have two names (a
template and a subject), those of a half have both names in it, and the mixed ones are in neither.

SEAT is not split: its tests are wholes of few words, and belong to the test.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal, TypeVar

from pydantic import Field

from fairloop.benchmarks.settings import ResampledSettings

Part = Literal["all", "development", "test"]
Thing = TypeVar("Thing")


class PartSettings(ResampledSettings):
    """Settings of a benchmark whose items can be halved."""

    part: Part = Field("all", description="All items, the half to choose settings on, or the half to report")

    def deciding(self) -> dict[str, Any]:
        """Return what decides a result; `all` is no choice, and names nothing."""
        chosen = super().deciding()
        return chosen if chosen["part"] != "all" else {key: value for key, value in chosen.items() if key != "part"}


def part_of(names: Iterable[str], part: Part, what: str) -> frozenset[str]:
    """Return which of the names are in a part.

    Args:
        names: all there are; their order and how often each stands there do not matter.
        part: which of them.
        what: whose names they are: equal names of different things are drawn apart.
    """
    ordered = sorted(set(names), key=lambda name: (blake2b(f"{what}\0{name}".encode()).digest(), name))
    half = len(ordered) // 2
    return frozenset({"all": ordered, "development": ordered[:half], "test": ordered[half:]}[part])


def items_of(items: Sequence[Thing], part: Part, what: str, name: Callable[[Thing], str]) -> list[Thing]:
    """Return the items of a part, in their order; `name` says by what an item belongs to it."""
    if part == "all":
        return list(items)
    inside = part_of(map(name, items), part, what)
    return [item for item in items if name(item) in inside]
