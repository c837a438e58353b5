"""A language model that debiases itself while it scores (Schick, Udupa and Schütze 2021).

"Self-Diagnosis and Self-Debiasing: A Proposal for Reducing Corpus-Based Bias in NLP" (TACL): a prompt asks the model
for the kind of text that is not wanted; words that it makes more probable lose probability. It changes the
probabilities of tokens and nothing else: sentence vectors (SEAT) and next-sentence scores are those of the untouched
model, as in Meade et al. 2022.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fairloop.plm.inference_time import Record, rescale

Ids = tuple[int, ...]


class SelfDebiasing:
    """The prompts of a folder that `debias=self_debias` wrote, and what they do to probabilities.

    Attributes:
        prompts: token ids of each prompt and its line break.
        decay: λ of `inference_time.rescale`.
        epsilon: the smallest factor.
    """

    def __init__(self, record: Record, tokenizer: Any) -> None:
        """Take what the folder asks for, and the model's tokenizer."""
        self.decay, self.epsilon = float(record.settings["decay"]), float(record.settings["epsilon"])
        texts = [f"{prompt}\n" for prompt in record.settings["prompts"]]
        self.prompts: list[Ids] = [
            tuple(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]
        self._starts = {token for token in (tokenizer.cls_token_id, tokenizer.bos_token_id) if token is not None}

    def behind(self, prompt: Ids, ids: Ids) -> Ids:
        """Return the ids of the text behind a prompt; the token that begins a text stays first."""
        start = int(ids[0] in self._starts)
        return (*ids[:start], *prompt, *ids[start:])

    def prompted(
        self, inputs: Sequence[Ids], spots: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[list[Ids], list[tuple[int, int]]]]:
        """Yield, for each prompt, the inputs behind it and where their spots (row, place) have moved to."""
        for prompt in self.prompts:
            # What the start token alone predicts, the prompt's last token predicts: every place moves alike.
            moved = [(row, place + len(prompt)) for row, place in spots]
            yield [self.behind(prompt, ids) for ids in inputs], moved

    def scores(
        self, head: Callable[[Any], Any], states: Sequence[Any], spot_of: Any, tokens: Any, rows_at_once: int
    ) -> np.ndarray:
        """Return the rescaled log probabilities of `tokens[i]` at spot `spot_of[i]`.

        Args:
            head: hidden states [rows, width] to logits [rows, vocabulary].
            states: hidden states [spots, width] of the texts as they are, then behind each prompt.
            spot_of: [n].
            tokens: [n].
            rows_at_once: rows of logits that are held at a time.
        """
        import torch

        answers = torch.empty(len(tokens), dtype=torch.float64)
        for first in range(0, len(states[0]), rows_at_once):
            part = slice(first, first + rows_at_once)
            plain, *prompted = [torch.log_softmax(head(some[part]).float(), dim=-1) for some in states]
            debiased = rescale(plain, prompted, self.decay, self.epsilon)
            inside = ((spot_of >= first) & (spot_of < first + rows_at_once)).nonzero()[:, 0]
            answers[inside.cpu()] = debiased[spot_of[inside] - first, tokens[inside]].double().cpu()
        return answers.numpy()
