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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fairloop.debias.fair_gender.batches import fair_gender_data, plain_batches
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Kind, Tokens, TrainingPair
from fairloop.seeding import random_generator
from fairloop.training.early_stopping import EarlyStopping, Evaluation
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.module import TrainingModule
from fairloop.training.plm import load_plm
from fairloop.training.predictions import logits_at, places

QUESTIONS = ("bias", "choice", "blind")
SMALLEST = 1e-30  # a probability below this counts as this: logarithms and their gradients stay finite


class FairGenderModule(TrainingModule):
    """Minimise L = L_b + λ·L_r.

    `frozen` is the untouched model; there is none with λ = 0, nor before the first step, where its KL term is zero.
    """

    fused_on_cpu = True

    def __init__(
        self,
        model: Any,
        frozen: Any | None,
        tokens: Tokens,
        settings: MethodSettings,
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
        early = settings.early_stopping
        if early.enabled:
            self.early_stopping = EarlyStopping(early.every, early.patience, early.tolerance)
        self._held_out = list(held_out)

    def train(self, mode: bool = True) -> "FairGenderModule":
        """Switch training on or off; the frozen model stays as it is."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed losses of this batch's pairs, and their number."""
        total, terms = self.loss(batch, [self.global_step])
        self.log_terms(**terms)
        return total, batch.get("count", torch.tensor(len(batch["weights"]), device=total.device))

    def loss(self, batch: dict[str, Tensor], steps: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return Σ_i L over the batch's pairs, and its terms: what the training minimises and the filter estimates.

        Args:
            batch: of `batches`.
            steps: whose masks the texts get; the terms of L_r are means over them.
        """
        total = (batch["weights"] * self.bias_losses(batch)).sum()
        terms, weight = {"L_b": total}, self.settings.effective_lambda
        if not weight:
            return total, terms
        regularizer: Tensor | float = 0.0
        if self.frozen is not None:
            terms["kl"] = torch.stack([self.drifts(batch, step).sum() for step in steps]).mean()
            total, regularizer = total + weight * terms["kl"], terms["kl"]
        if self.settings.text_weight:
            terms["language"] = torch.stack([self._language(batch, step) for step in steps]).mean()
            total = total + weight * self.settings.text_weight * terms["language"]
        terms["L_r"] = regularizer + self.settings.text_weight * terms.get("language", torch.zeros(()))
        return total, terms

    def _language(self, batch: dict[str, Tensor], step: int) -> Tensor:
        """Return the pairs' own masked-LM losses, summed."""
        return self.language_losses(batch, "text", step).view(2, -1).mean(dim=0).sum()

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

        All questions go through the model at once: many short passes cost several times as much.
        """
        width = max(batch[f"{name}_ids"].shape[1] for name in names)

        def together(part: str, value: int) -> Tensor:
            rows = [batch[f"{name}_{part}"][chosen] for name in names]
            return torch.cat([functional.pad(some, (0, width - some.shape[1]), value=value) for some in rows])

        ids, mask = together("ids", self.tokens.pad_id), together("mask", 0)
        columns = torch.cat([batch[f"{name}_places"][chosen] for name in names])
        logits = self.answer_logits(ids, mask, places(ids, columns))
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

    def answer_logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at each row's one wanted place.

        Equal inputs go through the model once: without its gendered words, a pair is mostly the same sentence twice.
        """
        asked = torch.stack([ids, mask, wanted.to(ids.dtype)], dim=1)
        distinct, number = asked.unique(dim=0, return_inverse=True)
        ids, mask, wanted = distinct.unbind(dim=1)
        return self.logits(ids, mask, wanted.bool())[number]

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
        """Return the batches of an evaluation on held-out data."""
        return self._held_out

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return [sum of the pairs' biases, pairs, sum of the texts' losses, texts] of one held-out batch."""
        zero = torch.zeros(0, device=self.device)
        bias = self.bias_losses(batch) if "mixture" in batch else zero
        # Masked alike in every evaluation (step −1): they compare.
        language = self.language_losses(batch, "neutral", -1) if "neutral_ids" in batch else zero
        parts = (bias.sum(), len(bias), language.sum(), len(language))
        return torch.stack([torch.as_tensor(part, dtype=torch.float64, device=self.device) for part in parts])

    def evaluation(self, step: int, measured: list[Any]) -> Evaluation:
        """Return the held-out pairs' mean bias and the held-out texts' mean loss."""
        bias, pairs, language, texts = torch.stack(measured).sum(dim=0).tolist()
        return Evaluation(step, bias / max(1, pairs), language / max(1, texts))


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


@dataclass(frozen=True)
class IncorporationTask(TrainingTask):
    """Incorporate pairs into a PLM.

    Attributes:
        settings: of the method, with sentences of at most as many tokens as the PLM takes.
        kind: of the PLM.
        pairs: to learn from.
        neutral: sentences on which the PLM is to stay as it is.
        held_out_pairs: for early stopping.
        held_out_neutral: for early stopping.
    """

    settings: MethodSettings
    kind: Kind
    pairs: tuple[TrainingPair, ...]
    neutral: tuple[str, ...]
    held_out_pairs: tuple[TrainingPair, ...] = ()
    held_out_neutral: tuple[str, ...] = ()

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM, once more as it is if the regulariser asks for it; see `TrainingTask`."""
        settings = self.settings
        shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
        model, tokenizer = load_plm(job, self.kind, settings)
        frozen = None
        if settings.effective_lambda:
            frozen, _ = load_plm(job, self.kind, settings.model_copy(update={"weights": "full"}))
        tokens = Tokens(tokenizer, self.kind, settings.max_length)
        data = fair_gender_data(self.pairs, self.neutral, tokens, settings, **shared)
        held_out = plain_batches(
            self.held_out_pairs,
            self.held_out_neutral,
            tokens,
            2 * settings.batch_size,
            settings.compared(self.kind),
        )
        module = FairGenderModule(
            model, frozen, tokens, settings, total_steps=data.total_steps, held_out=held_out, **shared
        )
        return Components(module, data, tokenizer)
