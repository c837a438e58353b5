"""What every generator offers, wherever its model runs."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fairloop.generation.requests import Ask


@dataclass(frozen=True)
class Completion:
    """What a generator wrote for one attempt.

    Attributes:
        ask: the attempt.
        text: the text as written, without the prompt.
        tokens: how many tokens were sampled for it, the stopping one included.
        finished: False when the text was cut off at the token limit.
    """

    ask: Ask
    text: str
    tokens: int
    finished: bool


class Generator(Protocol):
    """Writes a text for every ask in a queue that may grow while it is worked off."""

    def complete(self, queue: deque[Ask]) -> Iterator[Completion]:
        """Take asks from `queue` and yield completions, in any order, until the queue is empty and all are answered.

        The caller may append to `queue` between two completions: a rejected text is asked for again that way.
        The text of an ask depends on the ask and on the generator's settings; an order of answers that a second run
        repeats is promised by in-process generators only.
        """
        ...
