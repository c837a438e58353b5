"""Which tokens Context-Debias makes orthogonal to which words: the sentences that it trains on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairloop.debias import base
from fairloop.debias.context_debias.settings import MethodSettings

if TYPE_CHECKING:
    from fairloop.pairs.pair import Pair

#: Sentences from which the vector of one attribute word is computed in every epoch, at most.
SENTENCES_OF_AN_ATTRIBUTE = 100


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        ids: token ids, special ones included.
        targets: places of the tokens that shall be orthogonal; empty: none are.
        kept: places of the tokens whose states the regulariser holds; empty: none are.
    """

    ids: list[int]
    targets: list[int]
    kept: list[int]


@dataclass(frozen=True)
class Attribute:
    """Sentences with one attribute word: its token ids, and the word's places, for each of them."""

    sentences: list[tuple[list[int], list[int]]]


def training_data(
    data: base.DebiasData, tokenizer: Any, settings: MethodSettings
) -> tuple[list[Sentence], list[Attribute]]:
    """Return the sentences to train on, and each attribute word with its sentences."""
    sentences: list[Sentence] = []
    longest = int(min(settings.max_length, tokenizer.model_max_length))
    attributes: dict[str, list[tuple[list[int], list[int]]]] = {}
    for pair in data.pairs:
        for ids, gendered, text, word in _versions(pair, tokenizer, longest):
            target = _places(tokenizer, text, re.compile(re.escape(pair.target), re.IGNORECASE), len(ids))
            inner = [place for place in range(len(ids)) if place not in gendered]
            targets = target if settings.level == "token" or not target else inner
            sentences.append(Sentence(ids, targets, [place for place in range(len(ids)) if place not in target]))
            attributes.setdefault(word, []).append((ids, gendered))
    words = sorted({pair.target for pair in data.pairs if pair.target}, key=len, reverse=True)
    if words:
        sentences += _neutral(data.neutral, words, tokenizer, settings)
    return sentences, [Attribute(rows[:SENTENCES_OF_AN_ATTRIBUTE]) for rows in attributes.values()]


def _versions(pair: "Pair", tokenizer: Any, max_length: int) -> list[tuple[list[int], list[int], str, str]]:
    """Return for both sentences: ids, the places in which they differ, text, attribute word."""
    from fairloop.benchmarks.sentence_pairs import token_spans

    male, female = (_ids(tokenizer, text, max_length) for text in (pair.male, pair.female))
    _, (of_male, of_female) = token_spans(male, female)
    first, _, second = pair.attribute.partition("/")
    both = [(male, of_male, pair.male, first), (female, of_female, pair.female, second or first)]
    return [version for version in both if version[1]]


def _neutral(texts: Sequence[str], words: Sequence[str], tokenizer: Any, settings: MethodSettings) -> list[Sentence]:
    """Return the neutral sentences that hold a target word; the regulariser does not look at them."""
    wanted = re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)
    found = []
    for text in texts:
        if wanted.search(text):
            ids = _ids(tokenizer, text, int(min(settings.max_length, tokenizer.model_max_length)))
            places = _places(tokenizer, text, wanted, len(ids))
            if places:
                found.append(Sentence(ids, places if settings.level == "token" else list(range(len(ids))), []))
    return found


def _ids(tokenizer: Any, text: str, max_length: int) -> list[int]:
    return list(tokenizer(text, truncation=True, max_length=max_length)["input_ids"])


def _places(tokenizer: Any, text: str, pattern: re.Pattern[str], length: int) -> list[int]:
    """Return the places, below `length`, of the tokens of the pattern's first match in the text."""
    match = pattern.search(text)
    if match is None or match.start() == match.end():
        return []
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][:length]
    return [
        place
        for place, (left, right) in enumerate(offsets)
        if left < right and right > match.start() and left < match.end()
    ]
