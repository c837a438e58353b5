"""Pairs of sentences as token ids, and the questions that the loss reads of them (`loss`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from fairloop.errors import Fault, UserError
from fairloop.plm.loading import pad_id

Kind = Literal["masked", "causal"]


@dataclass(frozen=True)
class TrainingPair:
    """A pair as the training needs it.

    Attributes:
        male: x_m.
        female: x_f.
        target: the word or phrase that both share.
        weight: w_i; their mean over the pairs is 1.
        neighbours: numbers of the nearest pairs in the list of pairs, the pair itself first.
        mixture: W_i·, the weights of these neighbours; they add up to 1.
        neutral: what D_attribute puts in the target's place ("person"); empty: the mask token.
    """

    male: str
    female: str
    target: str
    weight: float = 1.0
    neighbours: tuple[int, ...] = ()
    mixture: tuple[float, ...] = ()
    neutral: str = ""


@dataclass(frozen=True)
class Text:
    """A tokenised text: its ids, and the places of the tokens that can be predicted."""

    ids: tuple[int, ...]
    words: tuple[int, ...]


@dataclass(frozen=True)
class Side:
    """One sentence of a pair.

    Attributes:
        text: as it stands, for the language-modelling term.
        asked: the input whose prediction L_b reads: in a masked model the target's tokens are masked.
        place: the place in `asked` whose output is read.
        answer: the token that stands there in truth.
    """

    text: Text
    asked: tuple[int, ...]
    place: int
    answer: int


@dataclass(frozen=True)
class Choice:
    """The question which of the pair's two gendered words stands in a sentence.

    Attributes:
        asked: the input, all gendered words masked.
        place: the place whose output is read.
        blind: the same sentence about nobody in particular: another word stands for the target, or the mask token.
        blind_place: the place in it whose output is read.
        words: the token that stands there and that of the counterpart; equal ones ask nothing.
    """

    asked: tuple[int, ...]
    place: int
    blind: tuple[int, ...]
    blind_place: int
    words: tuple[int, int]


class Tokens:
    """Turns texts and pairs into token ids for one model.

    Raises:
        UserError: a masked model whose tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Any, kind: Kind, max_length: int) -> None:
        if kind == "masked" and tokenizer.mask_token_id is None:
            raise UserError("plm: a masked language model is debiased through its mask token; its tokenizer has none")
        self.tokenizer, self.kind, self.max_length = tokenizer, kind, max_length
        self.mask_id = tokenizer.mask_token_id
        self.pad_id = pad_id(tokenizer)

    def text(self, sentence: str) -> Text:
        """Tokenise a sentence; what is longer than `max_length` is cut."""
        return self._text(self._encode(sentence))

    def pair(self, male: str, female: str, target: str) -> tuple[Side, Side]:
        """Tokenise both sentences of a pair and find where their predictions are compared.

        Raises:
            Fault: the target does not stand in one of the sentences, or only behind `max_length` tokens.
        """
        found = [self._locate(sentence, target) for sentence in (male, female)]
        if self.kind == "masked":
            return self._masked(*found[0]), self._masked(*found[1])
        return self._causal(found)

    def choices(self, pair: TrainingPair, sides: tuple[Side, Side]) -> tuple[Choice, Choice]:
        """Return which gendered word stands in either sentence, as a question to a masked model."""
        about_nobody = sides[0].asked, sides[1].asked
        if pair.neutral:
            male, female = (in_place_of(text, pair.target, pair.neutral) for text in (pair.male, pair.female))
            about_nobody = self.text(male).ids, self.text(female).ids
        asked, spots, words = self._without_gender(sides[0].text.ids, sides[1].text.ids)
        blind, blind_spots, blind_words = self._without_gender(*about_nobody)
        if words != blind_words:  # cut off after max_length in one of the two: nothing is asked
            words = (0, 0)
        return (
            Choice(asked[0], spots[0], blind[0], blind_spots[0], words),
            Choice(asked[1], spots[1], blind[1], blind_spots[1], (words[1], words[0])),
        )

    def _without_gender(
        self, male: Sequence[int], female: Sequence[int]
    ) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int], tuple[int, int]]:
        """Return both inputs with what differs masked, the place of the first exchanged word in each, and the words.

        Without an exchanged word the places are 0 and the words equal.
        """
        changes = [
            one for one in SequenceMatcher(None, male, female, autojunk=False).get_opcodes() if one[0] != "equal"
        ]
        spans = [(one[1], one[2]) for one in changes], [(one[3], one[4]) for one in changes]
        first, second = (
            tuple(
                self.mask_id if any(start <= place < end for start, end in hidden) else token
                for place, token in enumerate(ids)
            )
            for ids, hidden in zip((male, female), spans, strict=True)
        )
        exchanged = next((one for one in changes if one[0] == "replace"), None)
        if exchanged is None:
            return (first, second), (0, 0), (0, 0)
        places = exchanged[1], exchanged[3]
        return (first, second), places, (male[places[0]], female[places[1]])

    def _encode(self, sentence: str) -> Any:
        return self.tokenizer(
            sentence,
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )

    def _text(self, encoded: Any) -> Text:
        words = [place for place, special in enumerate(encoded["special_tokens_mask"]) if not special]
        if self.kind == "causal":
            words = [place for place in words if place > 0]  # nothing stands before the first token of all
        return Text(tuple(encoded["input_ids"]), tuple(words))

    def _locate(self, sentence: str, target: str) -> tuple[Text, list[int]]:
        """Return the tokenised sentence and the places of the target's tokens."""
        span = target_span(sentence, target)
        encoded = self._encode(sentence)
        spots = [
            place
            for place, (begin, end) in enumerate(encoded["offset_mapping"])
            if not encoded["special_tokens_mask"][place] and begin < span[1] and end > span[0]
        ]
        if not spots:
            raise Fault(f"a pair's target is cut off after {self.max_length} tokens: {target!r} in {sentence[:80]!r}")
        return self._text(encoded), spots

    def _masked(self, text: Text, spots: list[int]) -> Side:
        asked = tuple(self.mask_id if place in spots else token for place, token in enumerate(text.ids))
        return Side(text, asked, spots[0], text.ids[spots[0]])

    def _causal(self, found: list[tuple[Text, list[int]]]) -> tuple[Side, Side]:
        texts, spots = [text for text, _ in found], [places[0] for _, places in found]
        first, second = (text.ids for text in texts)
        if min(spots) == 0 or first[: spots[0]] == second[: spots[1]]:
            spots = list(_shared_after_difference(first, second))
        # At the very end there is no token to come: the prediction of what would is compared all the same.
        answers = [ids[spot] if spot < len(ids) else -1 for ids, spot in zip((first, second), spots, strict=True)]
        sides = [
            Side(text, text.ids, spot - 1, answer) for text, spot, answer in zip(texts, spots, answers, strict=True)
        ]
        return sides[0], sides[1]


def target_span(sentence: str, target: str) -> tuple[int, int]:
    """Return where the target stands in the sentence as a word of its own, whatever its case.

    Raises:
        Fault: if it does not stand there.
    """
    found = re.search(rf"(?<!\w){re.escape(target)}(?!\w)", sentence, re.IGNORECASE) if target.strip() else None
    if found is None:
        raise Fault(f"a pair's target does not stand in its sentence: {target!r} in {sentence[:80]!r}")
    return found.span()


def in_place_of(sentence: str, target: str, word: str) -> str:
    """Return the sentence with another word, which does not begin with a vowel, in the target's place.

    Raises:
        Fault: as `target_span`.
    """
    start, end = target_span(sentence, target)
    before = re.sub(r"\b([Aa])n( +)$", r"\1\2", sentence[:start])
    return before + word + sentence[end:]


def _shared_after_difference(first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
    """Return the places of the first token that both sequences share behind their first difference, or their ends."""
    differed = False
    for kind, start, _, other, _ in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal" and differed:
            return start, other
        differed = differed or kind != "equal"
    return len(first), len(second)
