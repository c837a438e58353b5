"""What learning from a pair does to the PLM: estimated before training, so that harmful pairs can be left out.

This filter is ours. The causal estimate of Fair-Gender's paper (arXiv 2501.06795) is, as far as it is public, the
average over nearest neighbours inside L_b (`loss`, `neighbours`); its "aligned" pairs are those of `alignment`.

Learning from pair i means the first step that the incorporation would take on a batch of this pair alone: its loss
(`loss`, with the settings of the training: questions, neighbours, λ, μ, masks of step 0; the KL term and its gradient
are zero at the start), clipped, by AdamW at its beginning. With the clipped gradient g_i that step is, for each weight
and in units of the learning rate, −s(g_i), s(g) = g / (|g| + ε) (Kingma and Ba 2015 with both moments at zero). Weight
decay, the same for every pair, is left out. To first order the step changes the held-out loss H by

    e_i = −⟨s(g_i), ∇H⟩

Above zero the pair does harm. H is the language-modelling loss of neutral sentences that nothing is trained on, and,
reported beside it, the mean bias L_b over the pool of pairs.

- `influence`: e_i with the gradients of all weights that are trained, one backward pass for each pair (Pruthi et al.
  2020, "Estimating training data influence by tracing gradient descent", equation 1, at the untouched model; with
  Adam's step in place of the gradient as Xia et al. 2024, "LESS", section 3.1).
- `knn`: Σ_k W_ik · ê_k over the K nearest pairs k (cosine in the frozen PLM's representation, `neighbours`). ê_k
  is e_k restricted to the output embeddings, their input vectors and the predictions' errors being all it takes (the
  last layer of Pruthi et al., section 4.2): forward passes alone. What ê leaves out, the effect through all other
  weights, is most of it: `experiments/fair_gender` says how much is left.

How well either does against steps that are really taken, and of how large a group of pairs the effect can be told from
noise at all, is measured in `experiments/fair_gender` (effects.csv).

A pair is harmful if its effect on language exceeds `tolerance` times the root mean square of all the effects.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop.console import OnProgress
from fairloop.debias.fair_gender.batches import plain_batches, step_batches
from fairloop.debias.fair_gender.loss import FairGenderModule
from fairloop.debias.fair_gender.neighbours import Neighbours
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens, TrainingPair
from fairloop.errors import UserError
from fairloop.seeding import random_generator
from fairloop.training.plm import add_lora
from fairloop.training.predictions import hidden_and_logits

Batch = dict[str, Tensor]
HARMFUL, AT_RANDOM = "harmful to language modelling", "dropped at random"
#: Names the random numbers of an incorporation; the filter's masks and low-rank update are the training's own.
STAGE = "fair-gender"
EPSILON = 1e-8  # of AdamW (torch's default, which the training takes)
_AT_ONCE = 16  # pairs, or sentences, in one forward pass
_DRAWS = 4  # masked variants of each held-out text
#: Elements of a gradient of the output embeddings that are held at once: 64 MB, but on a processor the 1 MB that its
#: cache holds (six times as fast).
_ELEMENTS_AT_ONCE, _ELEMENTS_IN_CACHE = 2**24, 2**18


@dataclass(frozen=True)
class Effects:
    """First-order change of held-out losses by each pair's step [n], per unit of learning rate; above zero: harm."""

    language: NDArray[np.float64]
    bias: NDArray[np.float64]

    def harmful(self, tolerance: float) -> NDArray[np.bool_]:
        """Return which pairs harm beyond the tolerance, in units of the effects' root mean square."""
        scale = float(np.sqrt(np.mean(self.language**2))) if len(self.language) else 0.0
        harmed: NDArray[np.bool_] = self.language > tolerance * scale
        return harmed

    def averaged(self, neighbours: Neighbours) -> "Effects":
        """Return the neighbour-weighted averages."""
        return Effects(neighbours.average(self.language), neighbours.average(self.bias))


def as_many_at_random(harmful: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Return a random selection of as many pairs: the ablation of the estimate at an equal number of pairs."""
    chosen = np.zeros(len(harmful), dtype=bool)
    draw = random_generator(seed, "random-filter")
    chosen[draw.choice(len(harmful), size=int(harmful.sum()), replace=False)] = True
    return chosen


@dataclass(frozen=True)
class Read:
    """What was read of one batch: the output embeddings' inputs [n, width] and the logits [n, vocabulary]."""

    hidden: Tensor
    logits: Tensor


class OutputLayerModule(FairGenderModule):
    """The same loss, a function of the logits that it keeps as it is computed."""

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self._reads: list[Read] = []

    def logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at the wanted places as the beginning of a graph, and keep what they were made of."""
        with torch.no_grad():
            hidden, logits = hidden_and_logits(self.model, ids, mask, wanted, causal=self.kind == "causal")
        self._reads.append(Read(hidden.float(), logits.float().detach().requires_grad_()))
        return self._reads[-1].logits

    def answer_logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at each row's one wanted place; equal inputs stay apart, each with its own error."""
        return self.logits(ids, mask, wanted)

    def errors(self, loss: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the inputs of the output embeddings that the loss was made of, with the gradient of their logits."""
        reads, self._reads = self._reads, []
        found = torch.autograd.grad(loss, [read.logits for read in reads], allow_unused=True)
        for read, error in zip(reads, found, strict=True):
            if error is not None:  # a neighbour's answer, which is a constant to the loss, has none
                yield read.hidden, error

    def gradient(self, loss: Tensor) -> Tensor:
        """Return the gradient of a loss of one batch with respect to the output embeddings [vocabulary, width]."""
        return _sum(error.T @ hidden for hidden, error in self.errors(loss))


Module = TypeVar("Module", bound=FairGenderModule)


class EffectEstimator:
    """Estimates the effects of a pool of pairs on one frozen PLM, by either of two sets of gradients."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        pairs: Sequence[TrainingPair],
        held_out: Sequence[str],
        settings: MethodSettings,
        *,
        seed: int,
    ) -> None:
        """Take the PLM and the texts.

        Args:
            model: the PLM (transformers) with its language-model head.
            tokens: how a training on this PLM tokenises.
            pairs: the pool, as a training gets it, with neighbours and weights.
            held_out: neutral sentences that nothing is trained on.
            settings: of the incorporation.
            seed: of the incorporation: draws the masked tokens.

        Raises:
            UserError: there is no held-out sentence.
        """
        if not held_out:
            raise UserError("debias.causal: there is no held-out neutral sentence to estimate effects on")
        self.model, self.tokens, self.seed = model.requires_grad_(False).eval(), tokens, seed
        self.settings = settings
        self.module = self._module(FairGenderModule)
        self.draws = range(_DRAWS if tokens.kind == "masked" else 1)
        self.pairs, self.sentences = len(pairs), len(held_out)
        self.compared = settings.compared(tokens.kind)
        self.texts = list(pairs)
        self.pool = self._placed(plain_batches(pairs, [], tokens, _AT_ONCE, self.compared))
        self.held_out = self._placed(plain_batches([], held_out, tokens, _AT_ONCE))

    def _placed(self, batches: Iterable[Batch]) -> list[Batch]:
        device = next(self.model.parameters()).device
        return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]

    def _module(self, cls: type[Module]) -> Module:
        """Return the loss of the training, before its first step."""
        return cls(self.model, None, self.tokens, self.settings, seed=self.seed, stage=STAGE, total_steps=1)

    def steps(self, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield the batch of each group of pairs, given by their numbers, as a training on the pool makes it."""
        for batch in step_batches(self.texts, groups, self.tokens, self.compared):
            yield from self._placed([batch])

    def trained(self) -> list[nn.Parameter]:
        """Make the weights that the incorporation trains take gradients, and return them."""
        module = self.module
        if self.settings.weights == "full":
            module.model.requires_grad_(True)
        elif not hasattr(module.model, "peft_config"):
            task = "CAUSAL_LM" if self.tokens.kind == "causal" else None
            lora = self.settings.lora
            module.model = add_lora(module.model, lora, dropout=0.0, task=task, seed=self.seed, stage=STAGE)
        else:  # an earlier call wrapped it
            for name, weight in module.model.named_parameters():
                weight.requires_grad_("lora_" in name)
        return [weight for weight in module.model.parameters() if weight.requires_grad]

    def by_influence(
        self, on_progress: OnProgress | None = None, groups: Sequence[Sequence[int]] | None = None
    ) -> Effects:
        """Return e_i with the gradients of all trained weights: of each pair, or of the steps on groups of them."""
        module, weights = self.module, self.trained()
        language = _gradient(weights, (self.held_out_loss(batch) for batch in self.held_out))
        bias = _gradient(weights, (module.bias_losses(batch).sum() / self.pairs for batch in self.pool))
        chosen, found = groups or [[number] for number in range(self.pairs)], []
        for number, batch in enumerate(self.steps(chosen)):
            loss = module.loss(batch, [0])[0] / len(batch["weights"])
            step = first_step(torch.autograd.grad(loss, weights, allow_unused=True), self.settings.clip_norm)
            found.append([-_inner(step, language), -_inner(step, bias)])
            if on_progress is not None:
                on_progress(number + 1, len(chosen))
        module.model.requires_grad_(False)
        return _effects(found)

    def held_out_loss(self, batch: Batch) -> Tensor:
        """Return a held-out batch's contribution to H."""
        drawn = [self.module.language_losses(batch, "neutral", draw).sum() for draw in self.draws]
        return torch.stack(drawn).mean() / self.sentences

    def by_output_layer(self, on_progress: OnProgress | None = None) -> Effects:
        """Return ê_i, with the gradients of the output embeddings alone; they need no backward pass.

        The gradient is clipped by its own norm, as that of the other weights is not known.
        """
        module = self._module(OutputLayerModule)
        scale = len(self.draws) * self.sentences
        language = _sum(
            module.gradient(module.language_losses(batch, "neutral", draw).sum() / scale)
            for batch in self.held_out
            for draw in self.draws
        )
        bias = _sum(module.gradient(module.bias_losses(batch).sum() / self.pairs) for batch in self.pool)
        found: list[list[float]] = []
        for batch in self.steps([[number] for number in range(self.pairs)]):
            parts = list(module.errors(module.loss(batch, [0])[0]))
            hidden, errors = (torch.cat(some) for some in zip(*parts, strict=True))
            found.append(_inner_with_outer(errors, hidden, (language, bias), self.settings.clip_norm))
            if on_progress is not None:
                on_progress(len(found), self.pairs)
        return _effects(found)


def first_step(gradients: Sequence[Tensor | None], clip_norm: float) -> list[Tensor | None]:
    """Return s(g): AdamW's first step, its sign reversed and in units of the learning rate, without weight decay.

    Args:
        gradients: of each weight; None where the loss does not depend on it.
        clip_norm: the gradients are scaled down to this norm; 0: never.
    """
    norm = torch.stack([part.float().norm() for part in gradients if part is not None]).norm()
    scale = _clipping(norm, clip_norm)
    return [part if part is None else _adam(part * scale) for part in gradients]


def _adam(gradient: Tensor) -> Tensor:
    return gradient / (gradient.abs() + EPSILON)


def _clipping(norm: Tensor, clip_norm: float) -> float:
    """Return what `clip_grad_norm_` multiplies gradients of this norm by."""
    return min(1.0, clip_norm / (float(norm) + 1e-6)) if clip_norm else 1.0


def _inner_with_outer(errors: Tensor, hidden: Tensor, targets: Sequence[Tensor], clip_norm: float) -> list[float]:
    """Return −⟨s(EᵀH), T⟩ for each target T [vocabulary, width], some rows at a time.

    Args:
        errors: E, the gradients of logits [n, vocabulary].
        hidden: H, what the logits were made of [n, width].
        targets: gradients with respect to the output embeddings.
        clip_norm: as of the training; ‖EᵀH‖² = ⟨EEᵀ, HHᵀ⟩.
    """
    norm = ((errors @ errors.T) * (hidden @ hidden.T)).sum().clamp(min=0).sqrt()
    errors = errors * _clipping(norm, clip_norm)
    elements = _ELEMENTS_IN_CACHE if hidden.device.type == "cpu" else _ELEMENTS_AT_ONCE
    rows, totals = max(1, elements // hidden.shape[1]), [0.0] * len(targets)
    for start in range(0, errors.shape[1], rows):
        step = _adam(errors[:, start : start + rows].T @ hidden)
        for place, target in enumerate(targets):
            totals[place] -= float((step * target[start : start + rows]).sum(dim=1).double().sum())
    return totals


def _gradient(weights: Sequence[Tensor], losses: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradient of the sum of losses, one of which is held at a time."""
    total = [torch.zeros_like(weight) for weight in weights]
    for loss in losses:
        for sum_, part in zip(total, torch.autograd.grad(loss, list(weights), allow_unused=True), strict=True):
            if part is not None:
                sum_ += part
    return total


def _sum(matrices: Iterable[Tensor]) -> Tensor:
    """Return the sum of matrices that are made one after the other: each has a row for every word of the vocabulary."""
    made = iter(matrices)
    total = next(made)
    for matrix in made:
        total += matrix
    return total


def _inner(first: Sequence[Tensor | None], second: Sequence[Tensor]) -> float:
    return sum(float((a * b).sum().double()) for a, b in zip(first, second, strict=True) if a is not None)


def _effects(found: Sequence[Sequence[float]]) -> Effects:
    columns = np.array(found, dtype=np.float64).reshape(-1, 2)
    return Effects(columns[:, 0], columns[:, 1])
