"""Likelihoods of sentences and words: what the benchmarks' formulas are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.console import OnProgress
from fairloop.plm.model import Encoded, LanguageModel, ScoreMemory, ScoreRequest


@dataclass(frozen=True)
class TokenScores:
    """Log probabilities (natural) of a sentence's own tokens; special tokens are not scored.

    Attributes:
        tokens: Token ids, in order.
        log_probabilities: One for each token, float64.
    """

    tokens: tuple[int, ...]
    log_probabilities: np.ndarray

    @property
    def total(self) -> float:
        """The sum: log likelihood of a causal model, pseudo-log-likelihood of a masked one."""
        return float(self.log_probabilities.sum())

    @property
    def mean(self) -> float:
        """The mean per token (0 for a sentence without tokens)."""
        return float(self.log_probabilities.mean()) if len(self.log_probabilities) else 0.0


def masked_variants(plm: LanguageModel, encoded: Encoded, places: Sequence[int], item: str = "") -> list[ScoreRequest]:
    """Return one request for each place: that token of the input, which is masked there."""
    mask = plm.mask_id
    return [
        ScoreRequest((*encoded.ids[:place], mask, *encoded.ids[place + 1 :]), (place,), (encoded.ids[place],), item)
        for place in places
    ]


def causal_requests(plm: LanguageModel, encoded: Encoded, item: str = "") -> list[ScoreRequest]:
    """Return the requests whose answers, joined, are the log probabilities of a sentence's tokens in order.

    If the tokenizer begins a text with a special token of its own (Gemma, Llama), every token is predicted from it
    and what follows. If it adds none (GPT-2), the first token is predicted from the start token alone and every
    other one from the tokens before it, without the start token: this is what the published code of Nadeem et al.
    (2021) and Meade et al. (2022) computes.
    """
    words = encoded.words
    if not words:
        return []
    ids = encoded.ids[: words[-1] + 1]
    if words[0] > 0:
        return [ScoreRequest(ids, tuple(place - 1 for place in words), tuple(ids[place] for place in words), item)]
    requests = [ScoreRequest((plm.start_id,), (0,), (ids[0],), item)]
    if len(words) > 1:
        requests.append(ScoreRequest(ids, tuple(range(len(ids) - 1)), ids[1:], item))
    return requests


def starts_texts(plm: LanguageModel) -> bool:
    """Tell whether the tokenizer puts a special token of its own before a text: a causal model's scores rest on it."""
    (encoded,) = plm.encode(["a"])
    return bool(encoded.words) and encoded.words[0] > 0


def causal_protocol(plm: LanguageModel, published: str) -> str:
    """Return the name of the rule by which `causal_requests` scores a sentence of this model.

    It is the published one, or with `_bos` ours for tokenizers that begin a text themselves, which the published code
    cannot score: the token stays before all others. Masked models are scored as published.
    """
    return f"{published}_bos" if plm.kind == "causal" and starts_texts(plm) else published


def token_scores(
    plm: LanguageModel,
    sentences: Sequence[str],
    *,
    on_progress: OnProgress | None = None,
    memory: ScoreMemory | None = None,
) -> list[TokenScores]:
    """Score every token of each sentence: masked one at a time (Salazar et al. 2020), or left to right.

    The sum over tokens is the pseudo-log-likelihood (equation 1 of Salazar et al.) of a masked model and the log
    likelihood of a causal one.

    Raises:
        Fault: if a sentence is longer than the model's window.
    """
    requests: list[ScoreRequest] = []
    owners: list[int] = []
    encoded = plm.encode(sentences)
    for number, (sentence, tokens) in enumerate(zip(sentences, encoded, strict=True)):
        item = f"sentence {number}: {sentence[:60]!r}"
        if plm.kind == "masked":
            asked = masked_variants(plm, tokens, tokens.words, item)
        else:
            asked = causal_requests(plm, tokens, item)
        requests += asked
        owners += [number] * len(asked)
    answers = plm.score(requests, on_progress=on_progress, memory=memory)
    parts: list[list[np.ndarray]] = [[] for _ in sentences]
    for owner, answer in zip(owners, answers, strict=True):
        parts[owner].append(answer)
    return [
        TokenScores(tuple(tokens.ids[place] for place in tokens.words), np.concatenate([*some, np.empty(0)]))
        for tokens, some in zip(encoded, parts, strict=True)
    ]
