"""What learning from a pair does to the PLM: estimated before training, so that harmful pairs can be left out.

Fair-Gender (arXiv 2501.06795) keeps the sentences whose causal effect promises positive transfer, estimated over
nearest neighbours in the PLM's own representation. How one pair's effect is estimated is not public; here it is this.
Learning from pair i means a gradient step on what the incorporation minimises of it (`loss`, neighbours
left out, the KL term being zero at the start, λ = 1 so that a filter is the same for every λ):

    l_i = JSD(p_m(i), p_f(i)) + (masked-LM loss of x_m + of x_f) / 2

To first order, a step of size η changes the held-out loss H by −η·⟨∇l_i, ∇H⟩: that, for η = 1, is the effect e_i. Above
zero the pair does harm. H is the language-modelling loss of neutral sentences that nothing is trained on, and, reported
beside it, the mean bias JSD over the pool of pairs.

- `influence`: e_i with the gradients of all weights, one backward pass for each pair (the trace of Pruthi et al. 2020,
  "Estimating training data influence by tracing gradient descent", equation 1, at the untouched model).
- `knn`: Σ_k W_ik · ê_k over the K nearest pairs k (cosine in the frozen PLM's representation, `neighbours`). ê_k
  is e_k restricted to the output embeddings, their input vectors and the predictions' errors being all it takes (the
  last layer of Pruthi et al., section 4.2): forward passes alone. What ê leaves out, the effect through all other
  weights, differs even between similar pairs; averaging over neighbours reduces that noise.

A pair is harmful if its effect on language exceeds `tolerance` times the root mean square of all the effects.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairloop.console import OnProgress
from fairloop.debias.fair_gender.batches import plain_batches
from fairloop.debias.fair_gender.loss import FairGenderModule
from fairloop.debias.fair_gender.neighbours import Neighbours
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens, TrainingPair
from fairloop.errors import UserError
from fairloop.pairs.pair import Pair
from fairloop.seeding import random_generator
from fairloop.training.predictions import hidden_and_logits

Batch = dict[str, Tensor]
HARMFUL, AT_RANDOM = "harmful to language modelling", "dropped at random"
#: What a step is estimated with in place of the method's settings: a filter is the same whatever these are.
STEP = {"predicted": "target", "regularizer": True, "lambda_r": 1.0, "text_weight": 1.0}
_AT_ONCE = 16  # pairs, or sentences, in one forward pass
_DRAWS = 4  # masked variants of each text: an incorporation meets a text with another mask in every step


@dataclass(frozen=True)
class Effects:
    """First-order change of held-out losses by a unit step on each pair [n]; above zero is harmful."""

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
    """What was read of one batch: the output embeddings' inputs [n, width], logits [n, vocabulary], each one's row."""

    hidden: Tensor
    logits: Tensor
    rows: Tensor


class OutputLayerModule(FairGenderModule):
    """The same loss, a function of the logits that it keeps as it is computed."""

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self._reads: list[Read] = []

    def logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at the wanted places as the beginning of a graph, and keep what they were made of."""
        with torch.no_grad():
            hidden, logits = hidden_and_logits(self.model, ids, mask, wanted, causal=self.kind == "causal")
        self._reads.append(Read(hidden.float(), logits.float().requires_grad_(), wanted.nonzero()[:, 0]))
        return self._reads[-1].logits

    def answer_logits(self, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at each row's one wanted place; equal inputs stay apart, each with its own error."""
        return self.logits(ids, mask, wanted)

    def errors(self, loss: Tensor) -> Iterator[tuple[Read, Tensor]]:
        """Yield what the loss was computed of, with its gradient with respect to those logits."""
        reads, self._reads = self._reads, []
        yield from zip(reads, torch.autograd.grad(loss, [read.logits for read in reads]), strict=True)

    def gradient(self, loss: Tensor) -> Tensor:
        """Return the gradient of a loss of one batch with respect to the output embeddings [vocabulary, width]."""
        ((read, error),) = self.errors(loss)
        return error.T @ read.hidden


Module = TypeVar("Module", bound=FairGenderModule)


class EffectEstimator:
    """Estimates the effects of a pool of pairs on one frozen PLM, by either of two sets of gradients."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        pairs: Sequence[Pair],
        held_out: Sequence[str],
        settings: MethodSettings,
        *,
        seed: int,
    ) -> None:
        """Take the PLM and the texts.

        Args:
            model: the PLM (transformers) with its language-model head.
            tokens: how a training on this PLM tokenises.
            pairs: the pool.
            held_out: neutral sentences that nothing is trained on.
            settings: of the incorporation; `STEP` takes the place of some.
            seed: draws the masked tokens.

        Raises:
            UserError: there is no held-out sentence.
        """
        if not held_out:
            raise UserError("debias.causal: there is no held-out neutral sentence to estimate effects on")
        self.model, self.tokens, self.seed = model.requires_grad_(False).eval(), tokens, seed
        self.settings = settings.model_copy(update=STEP)
        self.module = self._module(FairGenderModule)
        self.draws = range(_DRAWS if tokens.kind == "masked" else 1)
        self.pairs, self.sentences = len(pairs), len(held_out)
        device = next(model.parameters()).device
        plain = [TrainingPair(pair.male, pair.female, pair.target) for pair in pairs]
        self.pool, self.singles, self.held_out = (
            [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
            for batches in (
                plain_batches(plain, [], tokens, _AT_ONCE),
                plain_batches(plain, [], tokens, 1),
                plain_batches([], held_out, tokens, _AT_ONCE),
            )
        )

    def _module(self, cls: type[Module]) -> Module:
        """Return the loss of the training, before its first step."""
        return cls(self.model, None, self.tokens, self.settings, seed=self.seed, stage="effect", total_steps=1)

    def by_influence(self, on_progress: OnProgress | None = None) -> Effects:
        """Return e_i, with the gradients of all weights."""
        module = self.module
        weights = list(module.model.requires_grad_(True).parameters())
        language = _gradient(weights, (self.held_out_loss(batch) for batch in self.held_out))
        bias = _gradient(weights, (module.bias_losses(batch).sum() / self.pairs for batch in self.pool))
        found = []
        for number, batch in enumerate(self.singles):
            own = torch.autograd.grad(module.loss(batch, self.draws)[0], weights, allow_unused=True)
            found.append([-_inner(own, language), -_inner(own, bias)])
            if on_progress is not None:
                on_progress(number + 1, self.pairs)
        module.model.requires_grad_(False)
        return _effects(found)

    def held_out_loss(self, batch: Batch) -> Tensor:
        """Return a held-out batch's contribution to H."""
        drawn = [self.module.language_losses(batch, "neutral", draw).sum() for draw in self.draws]
        return torch.stack(drawn).mean() / self.sentences

    def by_output_layer(self, on_progress: OnProgress | None = None) -> Effects:
        """Return ê_i, with the gradients of the output embeddings alone; they need no backward pass."""
        module = self._module(OutputLayerModule)
        scale = len(self.draws) * self.sentences
        language = _sum(
            module.gradient(module.language_losses(batch, "neutral", draw).sum() / scale)
            for batch in self.held_out
            for draw in self.draws
        )
        bias = _sum(module.gradient(module.bias_losses(batch).sum() / self.pairs) for batch in self.pool)
        found: list[list[float]] = []
        for batch in self.pool:
            loss, _ = module.loss(batch, self.draws)
            effects = torch.zeros(len(batch["weights"]), 2, dtype=torch.float64)
            for read, error in module.errors(loss):
                for column, target in enumerate((language, bias)):
                    inner = (error * (read.hidden @ target.T)).sum(dim=1).double().cpu()
                    effects[:, column].index_add_(0, read.rows.cpu() % len(effects), -inner)
            found += effects.tolist()
            if on_progress is not None:
                on_progress(len(found), self.pairs)
        return _effects(found)


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
