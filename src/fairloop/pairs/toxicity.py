"""How toxic sentences are: by a packaged list of words, or by any sequence classifier of transformers."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop.errors import UserError
from fairloop.lexicon import toxic_terms
from fairloop.pairs.settings import ScreenSettings

if TYPE_CHECKING:
    import torch

Toxicity = Callable[[Sequence[str]], np.ndarray]
"""Maps n sentences to n numbers in [0, 1]."""

KEY = "debias.screen.toxicity_label"


def toxicity_scorer(settings: ScreenSettings, *, device: str = "cpu") -> Toxicity | None:
    """Return what measures toxicity, or None if it is not measured.

    Raises:
        UserError: there is no such classifier, or no label of it is the toxic one.
    """
    if not settings.enabled or settings.toxicity == "none":
        return None
    if settings.toxicity == "wordlist":
        return wordlist_toxicity
    return ToxicityClassifier(settings.toxicity_model or "", settings.toxicity_label, device=device)


def wordlist_toxicity(sentences: Sequence[str]) -> np.ndarray:
    """Return 1 for sentences with a word or phrase of the packaged list, else 0."""
    return np.array([float(toxic_term_in(sentence) is not None) for sentence in sentences])


def toxic_term_in(sentence: str) -> str | None:
    """Return the first listed word or phrase in a sentence, or None."""
    found = _pattern().search(sentence)
    return found.group().lower() if found else None


@cache
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(toxic_terms(), key=len, reverse=True)
    body = "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in longest_first)
    return re.compile(rf"(?<!\w)(?:{body})(?!\w)", re.IGNORECASE)


class ToxicityClassifier:
    """Probability of the toxic label under a sequence classifier.

    Args:
        path: Hub id or folder.
        label: the label that means toxic; None takes the one that is called toxic, toxicity or hate.
        device: where it runs.

    Raises:
        UserError: there is no such model, or no such label.
    """

    def __init__(self, path: str, label: str | None = None, *, device: str = "cpu", batch_tokens: int = 4096) -> None:
        from fairloop.plm.loading import load_model, load_tokenizer, window

        key = "debias.screen.toxicity_model"
        self.tokenizer = load_tokenizer(path, key=key)
        self.model = load_model(path, "classifier", device=device, key=key)
        self.window = window(self.model)
        self.batch_tokens = batch_tokens
        self.label = _toxic_label(self.model.config.id2label, label)
        # Each label by itself (as in the Jigsaw classifiers), or one of them only.
        self.independent = (
            self.model.config.problem_type == "multi_label_classification" or len(self.model.config.id2label) == 1
        )

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """Return the probability of the toxic label for each sentence; overlong ones are cut at the window."""
        import torch

        from fairloop.plm.batching import by_length

        if not sentences:
            return np.zeros(0)
        ids = self.tokenizer(list(sentences), truncation=self.window is not None, max_length=self.window)["input_ids"]
        scores = np.zeros(len(ids))
        with torch.inference_mode():
            for batch in by_length([len(row) for row in ids], self.batch_tokens):
                scores[list(batch)] = self._probabilities([ids[index] for index in batch]).cpu().numpy()
        return scores

    def _probabilities(self, rows: Sequence[Sequence[int]]) -> "torch.Tensor":
        import torch

        inputs: Any = self.tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt").to(self.model.device)
        logits = self.model(**inputs).logits.float()
        spread = torch.sigmoid(logits) if self.independent else torch.softmax(logits, dim=-1)
        return spread[:, self.label]


def _toxic_label(labels: dict[int, str], wanted: str | None) -> int:
    names = {number: name.lower() for number, name in labels.items()}
    if wanted is not None:
        fitting = [number for number, name in names.items() if name == wanted.lower()]
    else:
        fitting = [number for number, name in names.items() if name in ("toxic", "toxicity", "hate")]
    if len(fitting) != 1:
        known = ", ".join(labels.values())
        raise UserError.of(KEY, "null" if wanted is None else wanted, f"choose one of {known}")
    return fitting[0]
