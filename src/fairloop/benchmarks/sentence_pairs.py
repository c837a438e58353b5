"""Compare two sentences that differ in a few words: the scores behind CrowS-Pairs, and WinoBias's pronouns."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairloop.benchmarks.result import Skipped, Task
from fairloop.plm.model import Encoded, ScoreRequest
from fairloop.plm.scoring import causal_requests, masked_variants

Protocol = Literal["nangia2020", "meade2022"]


@dataclass(frozen=True)
class SentencePair:
    """Two sentences; `item` is what they are called in tables and messages."""

    item: str
    first: str
    second: str


def token_spans(first: Sequence[int], second: Sequence[int]) -> tuple[tuple[list[int], list[int]], ...]:
    """Return ((shared places in each), (differing places in each)) of two token sequences.

    Ratcliff and Obershelp's matching (`difflib`), as in the published implementations of both protocols.
    """
    shared: tuple[list[int], list[int]] = ([], [])
    differing: tuple[list[int], list[int]] = ([], [])
    for operation, start, end, other_start, other_end in difflib.SequenceMatcher(None, first, second).get_opcodes():
        spans = shared if operation == "equal" else differing
        spans[0].extend(range(start, end))
        spans[1].extend(range(other_start, other_end))
    return shared, differing


def pair_scores(
    task: Task, pairs: Sequence[SentencePair], protocol: Protocol
) -> tuple[dict[str, tuple[float, float]], list[Skipped]]:
    """Return each pair's two scores by item, and the pairs that cannot be scored.

    - `nangia2020` (masked models): pseudo-log-likelihood of the tokens that the sentences share, masked one at a
      time; the first and the last shared token, which are the special ones, are left out. Rounded to three decimals.
    - `meade2022`, masked models: mean log probability of the tokens in which they differ, masked one at a time.
      Rounded to three decimals. A pair is skipped if one sentence has no token of its own.
    - `meade2022`, causal models: mean log probability of all tokens, not rounded.
    """
    plm = task.plm
    firsts, seconds = plm.encode([pair.first for pair in pairs]), plm.encode([pair.second for pair in pairs])
    requests: list[ScoreRequest] = []
    sizes: dict[str, tuple[int, int]] = {}
    skipped: list[Skipped] = []
    for pair, first, second in zip(pairs, firsts, seconds, strict=True):
        reason, asked = _requests(task, pair, first, second, protocol)
        if reason:
            skipped.append(Skipped(pair.item, reason))
        else:
            sizes[pair.item] = (len(asked[0]), len(asked[1]))
            requests += asked[0] + asked[1]
    answers = iter(task.score(requests))
    scores = {}
    for item, (count, other_count) in sizes.items():
        one = np.concatenate([next(answers) for _ in range(count)] or [np.zeros(0)])
        two = np.concatenate([next(answers) for _ in range(other_count)] or [np.zeros(0)])
        scores[item] = (_summary(plm.kind, protocol, one), _summary(plm.kind, protocol, two))
    return scores, skipped


def _requests(
    task: Task, pair: SentencePair, first: Encoded, second: Encoded, protocol: Protocol
) -> tuple[str, tuple[list[ScoreRequest], list[ScoreRequest]]]:
    """Return (why the pair cannot be scored, or an empty string; the requests for each sentence)."""
    plm = task.plm
    for encoded in (first, second):
        if not plm.fits(encoded.ids):
            return f"{len(encoded.ids)} tokens, and the model takes {plm.window}", ([], [])
    if plm.kind == "causal":
        requests = causal_requests(plm, first, pair.item), causal_requests(plm, second, pair.item)
        return ("" if requests[0] and requests[1] else "a sentence without tokens"), requests
    shared, differing = token_spans(first.ids, second.ids)
    places = (shared[0][1:-1], shared[1][1:-1]) if protocol == "nangia2020" else differing
    if protocol == "meade2022" and not (places[0] and places[1]):
        return "one sentence has no token that the other lacks", ([], [])
    return "", (
        masked_variants(plm, first, places[0], pair.item),
        masked_variants(plm, second, places[1], pair.item),
    )


def _summary(kind: str, protocol: Protocol, log_probabilities: np.ndarray) -> float:
    if kind == "causal":
        return float(log_probabilities.mean())
    if protocol == "nangia2020":
        return round(float(log_probabilities.sum()), 3)
    return round(float(log_probabilities.mean()), 3)
