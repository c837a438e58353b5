"""Which of some candidates does a model take for the answer? Their likelihoods behind the same text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.benchmarks.result import Skipped, Task
from fairloop.plm.model import Question


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
    def after(cls, before: str, words: str, then: str = ".") -> "Candidate":
        """Return the candidate `words` behind the text `before` and one space, with `then` right behind it."""
        return cls(f"{before} {words}{then}", len(before), len(before) + 1 + len(words))


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
    questions: list[Question] = []
    sizes: dict[str, list[int]] = {}
    skipped = []
    for item, some in candidates.items():
        asked = [_questions(task, *next(tokens), item) for _ in some]
        longest = max((len(question.ids) for one in asked for question in one), default=0)
        if plm.window is not None and longest > plm.window:
            skipped.append(Skipped(item, f"{longest} tokens, and the model takes {plm.window}"))
        else:
            sizes[item] = [len(one) for one in asked]
            questions += [question for one in asked for question in one]
    answers = iter(task.ask(questions))
    scores = {
        item: tuple(float(np.concatenate([next(answers) for _ in range(count)]).mean()) for count in counts)
        for item, counts in sizes.items()
    }
    return scores, skipped


def _questions(
    task: Task, candidate: Candidate, ids: Sequence[int], offsets: Sequence[tuple[int, int]], item: str
) -> list[Question]:
    """Return the questions whose answers, joined, are the log probabilities of the candidate's tokens."""
    tokens = tuple(ids)
    places = [place for place, (left, right) in enumerate(offsets) if right > candidate.start and left < candidate.end]
    if task.plm.kind == "causal":
        return [Question(tokens, tuple(place - 1 for place in places), tuple(tokens[place] for place in places), item)]
    mask = task.plm.mask_id
    return [
        Question((*tokens[:place], mask, *tokens[place + 1 :]), (place,), (tokens[place],), item) for place in places
    ]
