"""Screening of pairs: form, language, length, duplicates, toxicity and fluency, each with its score and its reason.

The cheap tests come first, and what one test dropped the later ones do not touch. A pair is judged as a whole, and
both of its sentences count the same: a test that looked at one gender would put a bias of its own into the data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fairloop.console import OnProgress
from fairloop.generation.screening import Rejection, misshapen, normal_form
from fairloop.lexicon import neutral_sentences
from fairloop.lexicon.word_classes import word_class
from fairloop.pairs.duplicates import similarities
from fairloop.pairs.pair import PairRow
from fairloop.pairs.settings import ScreenSettings
from fairloop.pairs.toxicity import Toxicity

if TYPE_CHECKING:
    from fairloop.plm.model import LanguageModel, ScoreMemory

Fluency = Callable[[Sequence[str]], np.ndarray]
"""Maps n sentences to their mean log probabilities (natural) per token."""

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near-duplicate"
TOXIC = "toxic"
NOT_FLUENT = "not fluent"


def screen_pairs(
    rows: Sequence[PairRow],
    settings: ScreenSettings,
    *,
    toxicity: Toxicity | None = None,
    fluency: Fluency | None = None,
) -> list[PairRow]:
    """Return all rows in their order, with scores and with the reason where a pair is dropped.

    Args:
        rows: the pairs; those that were dropped before stay as they are.
        settings: the tests and their limits. Not enabled: the rows come back unchanged.
        toxicity: see `toxicity.toxicity_scorer`; None measures none.
        fluency: see `fluency_of`; None measures none.
    """
    if not settings.enabled:
        return list(rows)
    rows = [row if row.dropped else replace(row, dropped=_wrong_form(row, settings)) for row in rows]
    rows = _scored(rows, lambda pairs: _without_duplicates(pairs, settings.near_duplicates))
    if toxicity is not None and settings.toxicity != "none":
        rows = _scored(rows, lambda pairs: _without_toxic(pairs, toxicity, settings.max_toxicity))
    if fluency is not None and settings.fluency != "none":
        rows = _scored(rows, lambda pairs: _without_clumsy(pairs, fluency, settings.max_perplexity_ratio))
    return rows


def fluency_of(
    model: "LanguageModel", *, on_progress: "OnProgress | None" = None, memory: "ScoreMemory | None" = None
) -> Fluency:
    """Return the fluency under a masked or causal model: mean (pseudo-)log-likelihood per token of each sentence."""
    from fairloop.plm.scoring import token_scores

    def fluency(sentences: Sequence[str]) -> np.ndarray:
        scores = token_scores(model, sentences, on_progress=on_progress, memory=memory)
        return np.array([score.mean for score in scores])

    return fluency


def _scored(rows: Sequence[PairRow], test: Callable[[list[PairRow]], list[PairRow]]) -> list[PairRow]:
    """Put the pairs that are still there through a test; the others keep their places."""
    tested = iter(test([row for row in rows if not row.dropped]))
    return [row if row.dropped else next(tested) for row in rows]


def _wrong_form(row: PairRow, settings: ScreenSettings) -> str:
    for text in (row.pair.male, row.pair.female):
        wrong = misshapen(text, shortest=settings.shortest, longest=settings.longest, english=settings.english)
        if wrong is not None:
            return str(wrong)
        if settings.english and _is_foreign(text):
            return str(Rejection.NOT_ENGLISH)
    return ""


def _is_foreign(text: str) -> bool:
    """Tell whether other languages' commonest words make up a quarter of a text: English pronouns are in every pair."""
    found = normal_form(text).split()
    return sum(word in word_class("foreign") for word in found) > len(found) / 4


def _without_duplicates(rows: list[PairRow], threshold: float) -> list[PairRow]:
    highest = similarities([row.pair.male for row in rows], threshold)
    return [
        replace(row, similarity=value, dropped=_duplicate(value) if value >= threshold else "")
        for row, value in zip(rows, highest, strict=True)
    ]


def _duplicate(similarity: float) -> str:
    return DUPLICATE if similarity == 1.0 else NEAR_DUPLICATE


def _without_toxic(rows: list[PairRow], toxicity: Toxicity, limit: float) -> list[PairRow]:
    scores = _both(rows, toxicity).max(axis=1)
    return [
        replace(row, toxicity=float(score), dropped=TOXIC if score > limit else "")
        for row, score in zip(rows, scores, strict=True)
    ]


def _without_clumsy(rows: list[PairRow], fluency: Fluency, ratio: float) -> list[PairRow]:
    """Drop pairs whose perplexity is above `ratio` times the median of the neutral sentences.

    The perplexity of a pair is the geometric mean of its sentences': what a biased model finds strange in one
    gender alone must not cost the pair that would teach it better.
    """
    if not rows:
        return []
    floor = float(np.median(fluency(neutral_sentences("heldin")))) - math.log(ratio)
    scores = _both(rows, fluency).mean(axis=1)
    return [
        replace(row, fluency=float(score), dropped=NOT_FLUENT if score < floor else "")
        for row, score in zip(rows, scores, strict=True)
    ]


def _both(rows: Sequence[PairRow], score: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """Return the scores [pairs, 2] of both sentences of each pair."""
    if not rows:
        return np.zeros((0, 2))
    return np.asarray(score([text for row in rows for text in (row.pair.male, row.pair.female)])).reshape(-1, 2)
