"""What every source of pairs returns: the pairs, what made none, and how it shows its progress."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from fairloop.pairs.pair import PairRow

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows the progress of a named part: within the context, called with (done, all)."""


def unshown(_: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show no progress."""
    return nullcontext(lambda *_: None)


@dataclass(frozen=True)
class Gathered:
    """Pairs, and how they came about.

    Attributes:
        rows: the pairs, by item; nothing is dropped yet.
        rejected: how many sentences or answers made no pair, by reason.
        asked: sentences read or answers of the generator seen, whether or not they made a pair.
        seconds: wall time of the generator.
    """

    rows: list[PairRow]
    rejected: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    seconds: float = 0.0

    @property
    def replaced(self) -> int:
        """Pairs whose proposed counterpart was replaced by the swapped sentence."""
        return sum(row.replaced for row in self.rows)

    @property
    def yield_(self) -> float:
        """Pairs per sentence or answer (1 where nothing was asked)."""
        return len(self.rows) / self.asked if self.asked else 1.0
