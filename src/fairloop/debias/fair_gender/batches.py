"""Batches of pairs with their neighbours, and of neutral sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairloop.debias.fair_gender.settings import MethodSettings, Predicted
from fairloop.debias.fair_gender.tokens import Side, Text, Tokens, TrainingPair
from fairloop.errors import UserError
from fairloop.seeding import derive, random_generator
from fairloop.training.data import TrainingData, pad


@dataclass(frozen=True)
class Item:
    """What one pair contributes to a batch."""

    number: int
    neutral: tuple[int, ...]


def fair_gender_data(
    pairs: Sequence[TrainingPair],
    neutral: Sequence[str],
    tokens: Tokens,
    settings: MethodSettings,
    *,
    seed: int,
    stage: str,
) -> TrainingData:
    """Return the data module: each item is a pair, its neighbours and one of the neutral sentences.

    Raises:
        UserError: no pairs, fewer than one batch takes, or no neutral sentence where the regulariser needs one.
        Fault: a pair without its target.
    """
    if settings.effective_lambda and not neutral:
        raise UserError("there are no neutral sentences, which the regulariser (lambda_r) needs")
    sides = [tokens.pair(pair.male, pair.female, pair.target) for pair in pairs]
    texts = [tokens.text(sentence) for sentence in neutral]
    compared = settings.compared(tokens.kind)
    turns = random_generator(seed, stage, "neutral").permutation(len(texts)).tolist()
    items = [Item(n, (turns[n % len(texts)],) if settings.effective_lambda else ()) for n in range(len(pairs))]

    def collate(chosen: Sequence[Item]) -> dict[str, Tensor]:
        numbers = [item.number for item in chosen]
        return {
            **_bias_batch(numbers, pairs, sides, tokens, compared),
            **_text_batch("text", [sides[n][side].text for side in (0, 1) for n in numbers], tokens),
            **_text_batch("neutral", [texts[n] for item in chosen for n in item.neutral], tokens),
        }

    lengths = [max(len(side.text.ids) for side in both) for both in sides]
    return TrainingData(
        items, lengths, collate, settings, seed=seed, stage=stage, what="pairs", parts=settings.accumulate
    )


def step_batches(
    pairs: Sequence[TrainingPair], groups: Sequence[Sequence[int]], tokens: Tokens, predicted: Predicted
) -> Iterator[dict[str, Tensor]]:
    """Yield what a training step on each group of pairs, given by their numbers, gets; without neutral sentences."""
    sides = [tokens.pair(pair.male, pair.female, pair.target) for pair in pairs]
    for numbers in groups:
        texts = [sides[n][side].text for side in (0, 1) for n in numbers]
        yield {**_bias_batch(numbers, pairs, sides, tokens, predicted), **_text_batch("text", texts, tokens)}


def plain_batches(
    pairs: Sequence[TrainingPair],
    neutral: Sequence[str],
    tokens: Tokens,
    batch_size: int,
    predicted: Predicted = "target",
) -> list[dict[str, Tensor]]:
    """Return batches of pairs, each by itself (no neighbours, equal weights), and of neutral sentences, in order."""
    alone = [replace(pair, weight=1.0, neighbours=(n,), mixture=(1.0,)) for n, pair in enumerate(pairs)]
    sides = [tokens.pair(pair.male, pair.female, pair.target) for pair in pairs]
    texts = [tokens.text(sentence) for sentence in neutral]
    batches = []
    for first in range(0, max(len(alone), len(texts)), batch_size):
        numbers = list(range(first, min(first + batch_size, len(alone))))
        batches.append(
            {
                **_bias_batch(numbers, alone, sides, tokens, predicted),
                **_text_batch("text", [sides[n][side].text for side in (0, 1) for n in numbers], tokens),
                **_text_batch("neutral", texts[first : first + batch_size], tokens),
            }
        )
    return batches


def _bias_batch(
    numbers: Sequence[int],
    pairs: Sequence[TrainingPair],
    sides: Sequence[tuple[Side, Side]],
    tokens: Tokens,
    predicted: Predicted,
) -> dict[str, Tensor]:
    """Return the inputs of L_b: the batch's pairs first, then their neighbours, each pair once; x_m, then x_f."""
    if not numbers:
        return {}
    rows = list(dict.fromkeys([*numbers, *(k for n in numbers for k in pairs[n].neighbours)]))
    column = {number: place for place, number in enumerate(rows)}
    mixture = torch.zeros(len(numbers), len(rows))
    for row, number in enumerate(numbers):
        for neighbour, weight in zip(pairs[number].neighbours, pairs[number].mixture, strict=True):
            mixture[row, column[neighbour]] += weight
    batch = {"mixture": mixture, "weights": torch.tensor([pairs[n].weight for n in numbers])}
    if predicted != "attribute":
        answers = [sides[n][side] for side in (0, 1) for n in rows]
        batch |= _questions("bias", [(one.asked, one.place) for one in answers], tokens)
    if predicted != "target":
        both = [tokens.choices(pairs[n], sides[n]) for n in rows]
        choices = [pair[side] for side in (0, 1) for pair in both]
        batch |= _questions("choice", [(one.asked, one.place) for one in choices], tokens)
        batch |= _questions("blind", [(one.blind, one.blind_place) for one in choices], tokens)
        batch["choice_words"] = torch.tensor([choice.words for choice in choices])
    return batch


def _questions(name: str, asked: Sequence[tuple[Sequence[int], int]], tokens: Tokens) -> dict[str, Tensor]:
    """Return inputs with the place in each whose output is read."""
    ids, mask = pad([ids for ids, _ in asked], tokens.pad_id)
    return {f"{name}_ids": ids, f"{name}_mask": mask, f"{name}_places": torch.tensor([place for _, place in asked])}


def _text_batch(name: str, texts: Sequence[Text], tokens: Tokens) -> dict[str, Tensor]:
    """Return texts as ids, mask, the tokens that can be predicted, and a number that equal texts share."""
    if not texts:
        return {}
    ids, mask = pad([text.ids for text in texts], tokens.pad_id)
    words = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        words[row, list(text.words)] = True
    numbers = torch.tensor([derive(0, "text", *text.ids) for text in texts])
    return {f"{name}_ids": ids, f"{name}_mask": mask, f"{name}_words": words, f"{name}_numbers": numbers}
