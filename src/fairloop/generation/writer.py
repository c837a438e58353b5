"""Write a corpus: ask, screen, ask again, until every requested sentence is there."""

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fairloop.errors import Fault
from fairloop.generation.answers import answer_of
from fairloop.generation.generator import Generator
from fairloop.generation.requests import Attempt, Completion, Request
from fairloop.generation.screening import clean, normal_form, screen
from fairloop.seeding import random_generator
from fairloop.words import counted

Screen = Callable[[str, bool, Request, Container[str]], str | None]
"""What judges a text: see `screening.screen`, whose arguments it takes."""

KEPT_REJECTED = 20
"""Rejected texts that are kept for each reason."""

ENOUGH_ASKS = 200
"""Answers after which the yield is held against its floor: fewer say too little."""


@dataclass
class GenerationStats:
    """How a corpus came about.

    Attributes:
        accepted: sentences taken.
        asked: answers seen.
        tokens: tokens sampled for them, for rejected ones too.
        prompt_tokens: tokens of their prompts, as a server counts them; 0 for a model in this process.
        seconds: wall time.
        reasons: how many answers were rejected, by reason.
        rejected: the first of the rejected texts, as written, by reason.
        given_up: requests that got no usable answer.
    """

    accepted: int = 0
    asked: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, list[str]] = field(default_factory=dict)
    given_up: int = 0

    @property
    def yield_(self) -> float:
        """Accepted sentences per answer (0 before the first)."""
        return self.accepted / self.asked if self.asked else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens sampled per second of wall time."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def sentences_per_second(self) -> float:
        """Accepted sentences per second of wall time."""
        return self.accepted / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Written:
    """A new corpus, one row per answered request in the order of items, and how it came about.

    Each row holds `text`, `occupation`, `item`, `group` and `attempt`.
    """

    rows: list[dict[str, Any]]
    stats: GenerationStats


def write_corpus(
    generator: Generator,
    requests: Sequence[Request],
    *,
    seed: int,
    stage: str,
    max_attempts: int = 4,
    min_yield: float = 0.2,
    give_up_after: int | None = None,
    screen: Screen = screen,
    on_progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Have every requested sentence written.

    An unusable answer is asked for again, with other random numbers. After `max_attempts` answers a request gets the
    examples of another group, drawn at random, and so on: what stops this is the floor of the yield, which bounds the
    number of answers by max(ENOUGH_ASKS, sentences / min_yield) plus those in flight, or `give_up_after`.

    Args:
        generator: who writes.
        requests: what to write, items distinct.
        seed: of the cell.
        stage: of the cell; random numbers depend on (seed, stage, item, attempt).
        max_attempts: answers per set of examples.
        min_yield: floor of accepted sentences per answer, above 0.
        give_up_after: answers after which a request is left out of the corpus; None never gives one up.
        screen: tells why a text cannot be used.
        on_progress: called with (requests answered or given up, all requests).

    Raises:
        Fault: the yield lies under its floor; the line names the commonest reasons.
    """
    by_item = {request.item: request for request in requests}
    queue = deque(Attempt.of(request, 0, seed, stage) for request in requests)
    rows: dict[int, dict[str, Any]] = {}
    seen: set[str] = set()
    stats = GenerationStats()
    start = time.perf_counter()
    for completion in generator.complete(queue):
        request, attempt = completion.attempt.request, completion.attempt.number
        text, rejection = _judge(completion, screen, seen, stats)
        if rejection is None:
            seen.add(normal_form(text))
            rows[request.item] = {
                "text": text,
                "occupation": request.occupation,
                "item": request.item,
                "group": request.group,
                "attempt": attempt,
            }
        else:
            _require_yield(stats, min_yield, text)
            if attempt + 1 == give_up_after:
                stats.given_up += 1
            else:
                if (attempt + 1) % max_attempts == 0:
                    request = _other_examples(request, requests, seed, stage, attempt)
                queue.append(Attempt.of(request, attempt + 1, seed, stage))
                continue
        if on_progress is not None:
            on_progress(len(rows) + stats.given_up, len(by_item))
    stats.seconds = time.perf_counter() - start
    if stats.given_up:
        _require_yield(stats, min_yield, text, enough=1)
    return Written([rows[item] for item in sorted(rows)], stats)


def _judge(completion: Completion, screen: Screen, seen: set[str], stats: GenerationStats) -> tuple[str, str | None]:
    request = completion.attempt.request
    text = clean(answer_of(completion.text, request.occupation))
    rejection = screen(text, completion.finished, request, seen)
    stats.asked += 1
    stats.tokens += completion.tokens
    stats.prompt_tokens += completion.prompt_tokens
    if rejection is None:
        stats.accepted += 1
    else:
        stats.reasons[str(rejection)] += 1
        kept = stats.rejected.setdefault(str(rejection), [])
        if len(kept) < KEPT_REJECTED:
            kept.append(completion.text)
    return text, rejection


def _require_yield(stats: GenerationStats, floor: float, last: str, enough: int = ENOUGH_ASKS) -> None:
    if stats.asked < enough or stats.yield_ >= floor:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in stats.reasons.most_common(3))
    raise Fault(
        f"the generator's yield is {stats.yield_:.3f} after {counted(stats.asked, 'answer')}, under the floor of "
        f"{floor}: rejected as {reasons}; the last one was {last[:80]!r}"
    )


def _other_examples(request: Request, requests: Sequence[Request], seed: int, stage: str, attempt: int) -> Request:
    draw = random_generator(seed, stage, "other examples", request.item, attempt)
    other = requests[int(draw.integers(len(requests)))]
    return replace(request, group=other.group, examples=other.examples)
