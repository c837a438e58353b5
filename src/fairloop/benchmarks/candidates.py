"""Which of some candidates does a model take for the answer? Their likelihoods behind the same text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.benchmarks.result import Skipped, Task
from fairloop.plm.model import ScoreRequest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A whole text, and where the candidate stands in it.

    Attributes:
        text: what the model reads.
        start: where the candidate begins in it, the space before it included.
        end: where it ends.
    """

    text: str
    start: int
    end: int

    @classmethod
    def after(cls, before: str, words: str) -> "Candidate":
        """Return the candidate `words` behind the text `before` and one space, with a full stop behind it."""
        return cls(f"{before} {words}.", len(before), len(before) + 1 + len(words))


def candidate_scores(
    task: Task, candidates: Mapping[str, Sequence[Candidate]]
) -> tuple[dict[str, tuple[float, ...]], list[Skipped]]:
    """Return the score of each candidate by item, and the items of which one is too long for the model.

    A score is the mean log probability of the candidate's tokens: each masked in turn (masked models), or left to right
    after what stands before (causal models).
    """
    plm = task.plm
    texts = [candidate for some in candidates.values() for candidate in some]
    if not texts:
        return {}, []
    out = plm.tokenizer([candidate.text for candidate in texts], return_offsets_mapping=True, verbose=False)
    tokens = zip(texts, out["input_ids"], out["offset_mapping"], strict=True)
    requests: list[ScoreRequest] = []
    sizes: dict[str, list[int]] = {}
    skipped = []
    for item, some in candidates.items():
        asked = [_requests(task, *next(tokens), item) for _ in some]
        longest = max((len(request.ids) for one in asked for request in one), default=0)
        if plm.window is not None and longest > plm.window:
            skipped.append(Skipped(item, f"{longest} tokens, and the model takes {plm.window}"))
        else:
            sizes[item] = [len(one) for one in asked]
            requests += [request for one in asked for request in one]
    answers = iter(task.score(requests))
    scores = {
        item: tuple(float(np.concatenate([next(answers) for _ in range(count)]).mean()) for count in counts)
        for item, counts in sizes.items()
    }
    return scores, skipped


def _requests(
    task: Task, candidate: Candidate, ids: Sequence[int], offsets: Sequence[tuple[int, int]], item: str
) -> list[ScoreRequest]:
    """Return the requests whose answers, joined, are the log probabilities of the candidate's tokens."""
    tokens = tuple(ids)
    places = [place for place, (left, right) in enumerate(offsets) if right > candidate.start and left < candidate.end]
    if task.plm.kind == "causal":
        return [ScoreRequest(tokens, tuple(p - 1 for p in places), tuple(tokens[p] for p in places), item)]
    mask = task.plm.mask_id
    return [ScoreRequest((*tokens[:p], mask, *tokens[p + 1 :]), (p,), (tokens[p],), item) for p in places]
