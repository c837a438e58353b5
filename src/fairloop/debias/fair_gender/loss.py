"""Incorporation of pairs of sentences into a language model: L = L_b + λ·L_r (Fair-Gender, arXiv 2501.06795).

The pairs (x_m, x_f) differ only in gendered words and share a target word. Per pair i,

    L_b  w_i · (D_target(i) + D_attribute(i))
         D_target     JSD(p̄_m(i), p̄_f(i)),  p̄_g(i) = Σ_k W_ik p(· | x_g of neighbour k with its target masked)
         D_attribute  mean over g of JSD(q̄_g(i), r̄_g(i)); q_g = p(own word, counterpart's word | x_g with its gendered
                      words masked), of the two; r_g the same about nobody in particular; masked PLMs only
    L_r  μ times the mean masked-LM loss of x_m and x_f, plus KL(frozen ‖ trained) on neutral sentences

and the loss of a step is the mean over the pairs of its batch: each text counts the same, whatever its length.

What is not public of the paper is decided here:

- D_attribute asks the question of the pair the other way round: does the target move the choice between the
  sentence's own gendered word and its counterpart's? A masked PLM's conditionals of the target given the pronoun and
  of the pronoun given the target need not agree. The choice is compared with the PLM's own in the same sentence about
  nobody in particular (`neutral` stands for the target, or the mask token), and not with one half: which word a PLM
  prefers there is not what is to be changed. Both sides of the comparison get a gradient: were one a constant, what
  the two share would be moved as well, and the constant with it in the next step. A pair that has no word in exchange
  for another (a word is only added) has D_attribute = 0.
- μ is not in the paper. The KL term alone keeps the language; the sentences' own loss adapts the PLM to them, too.
- p̄ mixes the K nearest pairs, the pair itself among them (`neighbours`). The neighbours predict with the current
  weights but *without gradient*: they say in which direction the region around a pair is biased, and each of them is
  moved when its own turn comes. With gradients a pair could be balanced by biasing its neighbours the other way, and a
  step would cost K times as much.
- p is read at the first token of the target while all its tokens are masked. A causal model has not seen what comes
  after the target: p is its prediction of the target's first token if a gendered word stands before it, and else of the
  first word that both sentences share after their first gendered word.
- Dropout is off: L_b compares two predictions, and noise in one of them would look like bias.
- Masked tokens are drawn anew in each step from (seed, stage, step, the text), hence alike for x_m and x_f if they
  change places, and however a batch is split. They are all replaced by the mask token.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fairloop.errors import Fault, UserError
from fairloop.plm.loading import pad_id
from fairloop.seeding import derive, random_generator
from fairloop.training.data import TrainingData, pad
from fairloop.training.module import TrainingModule
from fairloop.training.plm_settings import FairGenderSettings, Predicted
from fairloop.training.predictions import logits_at, places
from fairloop.training.watch import Look, Watch

if TYPE_CHECKING:
    from fairloop.training.job import Job

Kind = Literal["masked", "causal"]
SETTINGS = FairGenderSettings
QUESTIONS = ("bias", "choice", "blind")
SMALLEST = 1e-30  # a probability below this counts as this: logarithms and their gradients stay finite


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
class Incorporation:
    """What is learned from and, with early stopping, what is watched."""

    kind: Kind
    pairs: Sequence[TrainingPair]
    neutral: Sequence[str]
    held_out_pairs: Sequence[TrainingPair] = ()
    held_out_neutral: Sequence[str] = ()


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


@dataclass(frozen=True)
class Item:
    """What one pair contributes to a batch."""

    number: int
    neutral: tuple[int, ...]


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


def fair_gender_data(
    pairs: Sequence[TrainingPair],
    neutral: Sequence[str],
    tokens: Tokens,
    settings: FairGenderSettings,
    *,
    seed: int,
    stage: str,
) -> TrainingData:
    """Return the data module: each item is a pair, its neighbours and one of the neutral sentences.

    Raises:
        UserError: no pairs, fewer than one batch takes, or no neutral sentence where the regulariser needs one.
        Fault: a pair without its target.
    """
    if settings.lambda_r and not neutral:
        raise UserError("there are no neutral sentences, which the regulariser (lambda_r) needs")
    sides = [tokens.pair(pair.male, pair.female, pair.target) for pair in pairs]
    texts = [tokens.text(sentence) for sentence in neutral]
    turns = random_generator(seed, stage, "neutral").permutation(len(texts)).tolist()
    items = [Item(n, (turns[n % len(texts)],) if settings.lambda_r else ()) for n in range(len(pairs))]

    def collate(chosen: Sequence[Item]) -> dict[str, Tensor]:
        numbers = [item.number for item in chosen]
        return {
            **_bias_batch(numbers, pairs, sides, tokens, settings.predicted),
            **_text_batch("text", [sides[n][side].text for side in (0, 1) for n in numbers], tokens),
            **_text_batch("neutral", [texts[n] for item in chosen for n in item.neutral], tokens),
        }

    lengths = [max(len(side.text.ids) for side in both) for both in sides]
    return TrainingData(
        items, lengths, collate, settings, seed=seed, stage=stage, what="pairs", parts=settings.accumulate
    )


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


class FairGenderModule(TrainingModule):
    """Minimise L = L_b + λ·L_r.

    `frozen` is the untouched model; with λ = 0 there is none.
    """

    fused_on_cpu = True

    def __init__(
        self,
        model: Any,
        frozen: Any | None,
        tokens: Tokens,
        settings: FairGenderSettings,
        *,
        seed: int,
        stage: str,
        total_steps: int,
        held_out: Sequence[dict[str, Tensor]] = (),
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.settings, self.tokens, self.kind = settings, tokens, tokens.kind
        self.model = without_dropout(model)
        self.frozen = frozen.requires_grad_(False).eval() if frozen is not None else None
        self.parts = settings.accumulate
        self.watch = Watch(settings.watch) if settings.watch is not None else None
        self._held_out = list(held_out)

    def train(self, mode: bool = True) -> "FairGenderModule":
        """Switch training on or off; the frozen model stays as it is."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed losses of this batch's pairs, and their number."""
        bias = self.bias_losses(batch)
        total = (batch["weights"] * bias).sum()
        terms = {"L_b": total}
        if self.settings.lambda_r:
            step = self.global_step
            terms["kl"] = self.drifts(batch, step).sum()
            total = total + self.settings.lambda_r * terms["kl"]
            if self.settings.text_weight:
                terms["language"] = self.language_losses(batch, "text", step).view(2, -1).mean(dim=0).sum()
                total = total + self.settings.lambda_r * self.settings.text_weight * terms["language"]
            terms["L_r"] = terms["kl"] + self.settings.text_weight * terms.get("language", 0.0)
        self.log_terms(**terms)
        return total, batch.get("count", torch.tensor(len(bias), device=total.device))

    def bias_losses(self, batch: dict[str, Tensor]) -> Tensor:
        """Return D_target + D_attribute, as far as they are asked for, of each pair i of the batch [pairs], in nats."""
        mixed, parts = self.mixtures(batch), []
        if "bias" in mixed:
            parts.append(jensen_shannon(*mixed["bias"]))
        if "choice" in mixed:
            sides = zip(mixed["choice"], mixed["blind"], strict=True)
            parts.append(torch.stack([jensen_shannon(seen, blind) for seen, blind in sides]).mean(dim=0))
        return torch.stack(parts).sum(dim=0)

    def mixtures(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the neighbour-weighted answers about x_m and about x_f [pairs, outcomes] to a batch's questions.

        The questions are `bias` (the target), `choice` (the gendered word) and `blind` (the same about nobody in
        particular).
        """
        names = [name for name in QUESTIONS if f"{name}_ids" in batch]
        own, rows = batch["mixture"].shape
        is_own = torch.arange(2 * rows, device=batch["mixture"].device) % rows < own
        predicted = self.answers(batch, names, is_own)
        constant = self._constant(batch, names, ~is_own) if rows > own else {}
        mixed = {}
        with torch.autocast(is_own.device.type, enabled=False):  # it would round the mixture to bfloat16
            for name in names:
                sides = []
                for side, moved in enumerate(predicted[name].chunk(2)):
                    others = constant[name].chunk(2)[side] if constant else moved[:0].detach()
                    itself = batch["mixture"].diagonal().unsqueeze(1)
                    detached = torch.cat([moved.detach(), others])
                    sides.append(batch["mixture"] @ detached + itself * (moved - moved.detach()))
                mixed[name] = sides[0], sides[1]
        return mixed

    @torch.no_grad()
    def _constant(self, batch: dict[str, Tensor], names: Sequence[str], chosen: Tensor) -> dict[str, Tensor]:
        """Return answers that are constants to the gradient, as neighbours' are."""
        return self.answers(batch, names, chosen)

    def answers(self, batch: dict[str, Tensor], names: Sequence[str], chosen: Tensor) -> dict[str, Tensor]:
        """Return the answers of the chosen rows to each question [rows, vocabulary]; of 2 words unless it is `bias`.

        All questions go through the model at once: many short passes cost several times as much. Equal inputs go
        through it once: without its gendered words, a pair is mostly the same sentence twice.
        """
        width = max(batch[f"{name}_ids"].shape[1] for name in names)

        def together(part: str, value: int) -> Tensor:
            rows = [batch[f"{name}_{part}"][chosen] for name in names]
            return torch.cat([functional.pad(some, (0, width - some.shape[1]), value=value) for some in rows])

        ids, mask = together("ids", self.tokens.pad_id), together("mask", 0)
        columns = torch.cat([batch[f"{name}_places"][chosen] for name in names])
        asked = torch.stack([ids, mask, places(ids, columns).to(ids.dtype)], dim=1)
        distinct, number = asked.unique(dim=0, return_inverse=True)
        ids, mask, wanted = distinct.unbind(dim=1)
        logits = self.logits(ids, mask, wanted.bool())[number]
        found = {}
        for name, part in zip(names, logits.chunk(len(names)), strict=True):
            words = part if name == "bias" else part.gather(1, batch["choice_words"][chosen])
            found[name] = words.softmax(dim=-1)
        return found

    def language_losses(self, batch: dict[str, Tensor], name: str, step: int) -> Tensor:
        """Return each text's language-modelling loss [texts]: mean −log p over its masked (or all next) tokens."""
        ids, wanted, predicted = self.asked(batch, name, step)
        return text_losses(self.logits(ids, batch[f"{name}_mask"], wanted), batch[f"{name}_ids"], predicted)

    def drifts(self, batch: dict[str, Tensor], step: int) -> Tensor:
        """Return the KL divergence from the frozen model's prediction to the trained one's [neutral sentences]."""
        ids, wanted, predicted = self.asked(batch, "neutral", step)
        mask = batch["neutral_mask"]
        with torch.no_grad():
            before = logits_at(self.frozen, ids, mask, wanted, causal=self.kind == "causal").float().log_softmax(dim=-1)
        after = self.logits(ids, mask, wanted).log_softmax(dim=-1)
        losses = functional.kl_div(after, before, reduction="none", log_target=True).sum(dim=-1)
        return mean_by_row(losses, predicted)

    def logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the trained model's logits at the wanted places, in float32."""
        return logits_at(self.model, ids, mask, wanted, causal=self.kind == "causal").float()

    def asked(self, batch: dict[str, Tensor], name: str, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input, where its output is read, and which of the texts' tokens are predicted there."""
        ids, words = batch[f"{name}_ids"], batch[f"{name}_words"]
        if self.kind == "causal":
            return ids, functional.pad(words[:, 1:], (0, 1)), words
        hidden = torch.zeros_like(words)
        for row, number in enumerate(batch[f"{name}_numbers"].tolist()):
            choices = words[row].nonzero()[:, 0].cpu().numpy()
            count = max(1, round(self.settings.mask_share * len(choices)))
            draw = random_generator(self.seed, self.stage, "mask", step, number)
            hidden[row, draw.choice(choices, size=count, replace=False).tolist()] = True
        return ids.masked_fill(hidden, self.tokens.mask_id), hidden, hidden

    def held_out(self) -> list[dict[str, Tensor]]:
        """Return the batches that a look at held-out data takes."""
        return self._held_out

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return [sum of the pairs' biases, pairs, sum of the texts' losses, texts] of one held-out batch."""
        zero = torch.zeros(0, device=self.device)
        bias = self.bias_losses(batch) if "mixture" in batch else zero
        # Masked alike in every look (step −1): looks compare.
        language = self.language_losses(batch, "neutral", -1) if "neutral_ids" in batch else zero
        parts = (bias.sum(), len(bias), language.sum(), len(language))
        return torch.stack([torch.as_tensor(part, dtype=torch.float64, device=self.device) for part in parts])

    def look(self, step: int, measured: list[Any]) -> Look:
        """Return the held-out pairs' mean bias and the held-out texts' mean loss."""
        bias, pairs, language, texts = torch.stack(measured).sum(dim=0).tolist()
        return Look(step, bias / max(1, pairs), language / max(1, texts))


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of paired distributions [n, outcomes] in nats, at most log 2 (Lin 1991)."""
    p, q = first.clamp(min=SMALLEST), second.clamp(min=SMALLEST)
    middle = ((p + q) / 2).log()
    return 0.5 * ((p * (p.log() - middle)).sum(dim=-1) + (q * (q.log() - middle)).sum(dim=-1))


def text_losses(logits: Tensor, ids: Tensor, predicted: Tensor) -> Tensor:
    """Return each text's mean −log p [texts] over its predicted tokens, from the logits [tokens, vocabulary] of all."""
    return mean_by_row(functional.cross_entropy(logits, ids[predicted], reduction="none"), predicted)


def mean_by_row(values: Tensor, predicted: Tensor) -> Tensor:
    """Return the mean of the values of each row [rows]; `predicted` [rows, tokens] says which row each belongs to."""
    counts = predicted.sum(dim=1)
    owners = predicted.nonzero()[:, 0]
    return values.new_zeros(len(counts)).index_add(0, owners, values) / counts.clamp(min=1)


def without_dropout(model: Any) -> Any:
    """Switch every dropout of a model off, also while it is in training mode (gradient checkpointing asks for that)."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model


def build(job: "Job") -> tuple[TrainingModule, TrainingData, Any]:
    """Return module, data and tokenizer of a job (`tasks.train_plm`) whose data is an `Incorporation` as plain data."""
    from fairloop.training.plm import load_plm

    settings = FairGenderSettings.model_validate(job.settings)
    kind: Kind = job.data["kind"]
    shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
    model, tokenizer = load_plm(job, kind, settings)
    frozen = load_plm(job, kind, settings.model_copy(update={"weights": "full"}))[0] if settings.lambda_r else None
    tokens = Tokens(tokenizer, kind, settings.max_length)
    pairs, held_out = ([_training_pair(row) for row in job.data[name]] for name in ("pairs", "held_out_pairs"))
    data = fair_gender_data(pairs, job.data["neutral"], tokens, settings, **shared)
    batches = plain_batches(held_out, job.data["held_out_neutral"], tokens, 2 * settings.batch_size, settings.predicted)
    module = FairGenderModule(model, frozen, tokens, settings, total_steps=data.total_steps, held_out=batches, **shared)
    return module, data, tokenizer


def _training_pair(row: dict[str, Any]) -> TrainingPair:
    """Return a pair that went through JSON, which has no tuples."""
    return TrainingPair(**{**row, **{name: tuple(row[name]) for name in ("neighbours", "mixture")}})
