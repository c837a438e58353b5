"""Context-Debias: target words are made orthogonal to gendered words in every layer.

Kaneko and Bollegala 2021, "Debiasing Pre-trained Contextualised Embeddings" (EACL); the loss: `loss`.
Attribute words are the gendered words of the pairs. They train on sentences with a target word, and on others with an
attribute word, from a corpus; here both come from what every method is given: the sentences of a pair hold a target and
an attribute, and neutral sentences may hold a target. So the regulariser leaves a pair's target alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train
from fairloop.errors import UserError
from fairloop.training.plm_settings import OrthogonalitySettings

if TYPE_CHECKING:
    from fairloop.pairs.pair import Pair
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training

#: Sentences from which the vector of one attribute word is computed in every epoch, at most.
SENTENCES_OF_AN_ATTRIBUTE = 100


class MethodSettings(settings.PairMethodSettings, settings.BudgetSettings):
    """Weights and places of the two losses; the defaults are the published ones."""

    name: Literal["context_debias"] = Field("context_debias", description="the method")
    layers: Literal["all", "first", "last"] = Field("all", description="layers whose hidden states are debiased")
    level: Literal["token", "sentence"] = Field(
        "token", description="debias the target's tokens, or every token of its sentence but gendered ones"
    )
    alpha: float = Field(0.2, ge=0, description="weight of the squared inner products")
    beta: float = Field(0.8, ge=0, description="weight of the regulariser: distance from the frozen PLM's states")


class Method(base.Method):
    """Trains the PLM so that its states of target words say nothing of gender, and the others stay."""

    name = "context_debias"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", material: base.Material, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.plm.loading import load_tokenizer

        kind = kind_of(plm, self)
        tokenizer = load_tokenizer(plm.path, plm.revision)
        sentences, attributes = training_data(material, tokenizer, self.settings)
        if not any(targets for _, targets, _ in sentences) or not attributes:
            raise UserError("debias=context_debias: no pair has a target and a gendered word of its own")
        data = {"kind": kind, "sentences": sentences, "attributes": attributes}
        own = self.settings.model_dump(include={"layers", "level", "alpha", "beta"})
        loss = self.settings.optimization(OrthogonalitySettings, **own)
        train("fairloop.debias.context_debias.loss", "debias orthogonality", data, loss, plm, folder, training)
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Context-Debias (Kaneko and Bollegala 2021): hidden states of target words are made orthogonal to those of "
            "gendered words, in every layer, while the others stay close to the untouched PLM's.",
            f"{len(material.pairs)} counterfactual pairs, neutral sentences with their target words",
        )


def training_data(
    material: base.Material, tokenizer: Any, settings: MethodSettings
) -> tuple[list[list[list[int]]], list[list[list[list[int]]]]]:
    """Return sentences (ids, target places, kept places), and per attribute word its sentences (ids, places)."""
    sentences: list[list[list[int]]] = []
    longest = int(min(settings.max_length, tokenizer.model_max_length))
    attributes: dict[str, list[list[list[int]]]] = {}
    for pair in material.pairs:
        for ids, gendered, text, word in _versions(pair, tokenizer, longest):
            target = _places(tokenizer, text, re.compile(re.escape(pair.target), re.IGNORECASE), len(ids))
            inner = [place for place in range(len(ids)) if place not in gendered]
            targets = target if settings.level == "token" or not target else inner
            sentences.append([ids, targets, [place for place in range(len(ids)) if place not in target]])
            attributes.setdefault(word, []).append([ids, gendered])
    words = sorted({pair.target for pair in material.pairs if pair.target}, key=len, reverse=True)
    if words:
        sentences += _neutral(material.neutral, words, tokenizer, settings)
    return sentences, [rows[:SENTENCES_OF_AN_ATTRIBUTE] for rows in attributes.values()]


def _versions(pair: "Pair", tokenizer: Any, max_length: int) -> list[tuple[list[int], list[int], str, str]]:
    """Return for both sentences: ids, the places in which they differ, text, attribute word."""
    from fairloop.benchmarks.sentence_pairs import token_spans

    male, female = (_ids(tokenizer, text, max_length) for text in (pair.male, pair.female))
    _, (of_male, of_female) = token_spans(male, female)
    first, _, second = pair.attribute.partition("/")
    both = [(male, of_male, pair.male, first), (female, of_female, pair.female, second or first)]
    return [version for version in both if version[1]]


def _neutral(
    texts: Sequence[str], words: Sequence[str], tokenizer: Any, settings: MethodSettings
) -> list[list[list[int]]]:
    """Return the neutral sentences that hold a target word; the regulariser does not look at them."""
    wanted = re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)
    found = []
    for text in texts:
        if wanted.search(text):
            ids = _ids(tokenizer, text, int(min(settings.max_length, tokenizer.model_max_length)))
            places = _places(tokenizer, text, wanted, len(ids))
            if places:
                found.append([ids, places if settings.level == "token" else list(range(len(ids))), []])
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
