"""How toxic sentences are: by a packaged list of words, or by any sequence classifier of transformers."""

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from fairloop.lexicon import toxic_terms
from fairloop.pairs.settings import ScreenSettings

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
        from fairloop.plm.classifier import TOXIC_LABELS, SentenceClassifier

        key = "debias.screen.toxicity_model"
        self.classifier = SentenceClassifier(path, device=device, batch_tokens=batch_tokens, key=key)
        self.label = self.classifier.place(TOXIC_LABELS if label is None else [label], KEY, label)

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """Return the probability of the toxic label for each sentence; overlong ones are cut at the window."""
        return self.classifier(sentences)[:, self.label]
