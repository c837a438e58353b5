"""A language model that debiases itself while it scores (Schick, Udupa and Schütze 2021).

"Self-Diagnosis and Self-Debiasing: A Proposal for Reducing Corpus-Based Bias in NLP" (TACL): a prompt asks the model
for the kind of text that is not wanted; words that it makes more probable lose probability. It changes the
probabilities of tokens and nothing else: sentence vectors (SEAT) and next-sentence scores are those of the untouched
model, as in Meade et al. 2022.
"""

from typing import Any

import numpy as np

from fairloop.errors import UserError
from fairloop.plm.inference_time import Record, rescale
from fairloop.plm.model import _LOGITS_AT_ONCE, LanguageModel, _base_model_replaced


class SelfDebiasedModel(LanguageModel):
    """Answers questions with rescaled probabilities; its window is shorter by the longest prompt."""

    def __init__(self, plm: LanguageModel, record: Record) -> None:
        """Wrap a loaded model; `record.settings` gives prompts, decay and epsilon.

        Raises:
            UserError: if the longest prompt fills the model's window.
        """
        super().__init__(
            plm.model,
            plm.tokenizer,
            plm.kind,
            name=plm.name,
            path=plm.path,
            batch_tokens=plm.batch_tokens,
            replicas=plm.models[1:],
        )
        self.decay, self.epsilon = float(record.settings["decay"]), float(record.settings["epsilon"])
        texts = [f"{prompt}\n" for prompt in record.settings["prompts"]]
        self._prompts = [
            tuple(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]
        starts = (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id)
        self._starts = {token for token in starts if token is not None}
        if self.window is not None:
            longest = max(map(len, self._prompts))
            if longest >= self.window:
                raise UserError(f"debias.prompts: one has {longest} tokens, and plm={plm.name} takes {self.window}")
            self.window -= longest

    def behind(self, prompt: tuple[int, ...], ids: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids of the text behind a prompt; the token that begins a text stays first."""
        start = int(ids[0] in self._starts)
        return (*ids[:start], *prompt, *ids[start:])

    def _score_batch(self, model: Any, inputs: list[tuple[int, ...]], pairs: list[list[tuple[int, int]]]) -> np.ndarray:
        import torch

        asked = [(row, place, token) for row, some in enumerate(pairs) for place, token in some]
        spots: dict[tuple[int, int], int] = {}
        spot_of = np.array([spots.setdefault((row, place), len(spots)) for row, place, _ in asked])
        tokens = np.array([token for _, _, token in asked])
        answers = np.empty(len(asked))
        rows_at_once = max(1, _LOGITS_AT_ONCE // int(model.config.get_text_config().vocab_size))
        with torch.inference_mode():
            states = [self._states(model, inputs, list(spots))]
            for prompt in self._prompts:
                # What the start token alone predicts, the prompt's last token predicts: every place moves alike.
                moved = [(row, place + len(prompt)) for row, place in spots]
                states.append(self._states(model, [self.behind(prompt, ids) for ids in inputs], moved))
            with _base_model_replaced(model) as head:
                for first in range(0, len(spots), rows_at_once):
                    part = slice(first, first + rows_at_once)
                    plain, *prompted = [torch.log_softmax(head(some[part]).float(), dim=-1) for some in states]
                    debiased = rescale(plain, prompted, self.decay, self.epsilon)
                    inside = (spot_of >= first) & (spot_of < first + rows_at_once)
                    chosen = debiased[spot_of[inside] - first, tokens[inside]]
                    answers[inside] = chosen.double().cpu().numpy()
        return answers
