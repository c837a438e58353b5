"""Context-Debias: hidden states of target words are made orthogonal to those of gendered words.

Kaneko and Bollegala 2021, "Debiasing Pre-trained Contextualised Embeddings" (EACL), equations 1 to 5, with the
normalisation of the published implementation, for which its weights are chosen: inner products are squared and
averaged over targets, layers and attributes, distances over tokens, layers and dimensions.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairloop.debias.context_debias.sentences import Attribute, Sentence
from fairloop.debias.context_debias.settings import MethodSettings
from fairloop.plm.loading import pad_id
from fairloop.plm.model import Kind
from fairloop.training.data import TrainingData, pad
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.module import TrainingModule
from fairloop.training.plm import backbone, freeze_head, load_plm


class OrthogonalityModule(TrainingModule):
    """Minimise α·(⟨v_i(a), E_i(t, x)⟩)² + β·‖E_i(w, x; θ) − E_i(w, x; θ_pre)‖², each over its own sentences.

    v_i(a), the mean state of attribute word a in layer i, is computed anew at the beginning of every epoch, without
    gradient and without dropout, as in the published implementation.
    """

    def __init__(
        self,
        model: Any,
        attributes: Sequence[Attribute],
        settings: MethodSettings,
        *,
        filler: int,
        epoch_steps: int,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.settings, self.attributes = settings, attributes
        self.filler, self.epoch_steps = filler, epoch_steps
        self.model = model
        freeze_head(model)
        self.reference = deepcopy(backbone(model)).requires_grad_(False)
        self.directions: Tensor | None = None

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Compute the attributes' vectors if an epoch begins."""
        if self.directions is None or self.global_step % self.epoch_steps == 0:
            self.directions = self.attribute_vectors()
        super().on_train_batch_start(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's vectors: computed in the middle of an epoch they would be others."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["directions"] = self.directions

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the epoch's vectors."""
        super().on_load_checkpoint(checkpoint)
        self.directions = checkpoint["directions"]

    @torch.no_grad()
    def attribute_vectors(self) -> Tensor:
        """Return v [attributes, layers, width]."""
        training = self.model.training
        self.model.eval()
        vectors = []
        for attribute in self.attributes:
            total = torch.zeros((), device=self.device)
            for first in range(0, len(attribute.sentences), 64):
                some = attribute.sentences[first : first + 64]
                ids, mask = (part.to(self.device) for part in pad([ids for ids, _ in some], self.filler))
                wanted = places_mask([places for _, places in some], ids)
                states = self.states(backbone(self.model), ids, mask)
                total = total + (mean_over(states, wanted)).sum(dim=0)
            vectors.append(total / len(attribute.sentences))
        self.model.train(training)
        return torch.stack(vectors)

    def states(self, network: Any, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden states of the debiased layers, [n, tokens, layers, width], in float32."""
        layers = network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        chosen = {"all": layers, "first": layers[:1], "last": layers[-1:]}[self.settings.layers]
        return torch.stack([layer.float() for layer in chosen], dim=2)

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum over sentences of their weighted terms, and the number of sentences."""
        assert self.directions is not None or not self.training  # noqa: S101
        ids, mask = batch["input_ids"], batch["attention_mask"]
        directions = self.directions if self.directions is not None else self.attribute_vectors()
        states = self.states(backbone(self.model), ids, mask)
        with torch.no_grad():
            self.reference.eval()
            before = self.states(self.reference, ids, mask)
        products = self.orthogonality(states, batch["targets"], directions.to(states.device)).sum()
        moved = mean_over((states - before).pow(2).mean(dim=(2, 3)), batch["kept"]).sum()
        self.log_terms(orthogonality=products, distance=moved)
        return self.settings.alpha * products + self.settings.beta * moved, torch.tensor(len(ids), device=ids.device)

    def orthogonality(self, states: Tensor, targets: Tensor, directions: Tensor) -> Tensor:
        """Return for each sentence the mean squared inner product of its target with the attributes, [n].

        Args:
            states: [n, tokens, layers, width].
            targets: [n, tokens], true at the target's tokens; with `level=sentence` each of them counts by itself.
            directions: v, [attributes, layers, width].
        """
        if self.settings.level == "sentence":
            products = torch.einsum("ntlw,alw->ntla", states, directions)
            return mean_over(products.pow(2).mean(dim=(2, 3)), targets)
        products = torch.einsum("nlw,alw->nla", mean_over(states, targets), directions)
        return products.pow(2).mean(dim=(1, 2))


def places_mask(places: Sequence[Sequence[int]], ids: Tensor) -> Tensor:
    """Return a mask [n, tokens] that is true at each row's places."""
    mask = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    for row, some in enumerate(places):
        mask[row, list(some)] = True
    return mask


def mean_over(values: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean of `values` [n, tokens, ...] over each row's wanted tokens, [n, ...]; 0 where there are none."""
    weights = wanted.float() / wanted.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("nt...,nt->n...", values, weights)


def orthogonality_data(
    sentences: Sequence[Sentence], settings: MethodSettings, *, filler: int, seed: int, stage: str
) -> TrainingData:
    """Return the data module of the sentences."""

    def collate(items: Sequence[Sentence]) -> dict[str, Tensor]:
        ids, mask = pad([item.ids for item in items], filler)
        targets, kept = (places_mask([getattr(item, name) for item in items], ids) for name in ("targets", "kept"))
        return {"input_ids": ids, "attention_mask": mask, "targets": targets, "kept": kept}

    lengths = [len(item.ids) for item in sentences]
    return TrainingData(sentences, lengths, collate, settings, seed=seed, stage=stage, what="sentences")


@dataclass(frozen=True)
class OrthogonalityTask(TrainingTask):
    """Make target words orthogonal to attribute words."""

    settings: MethodSettings
    kind: Kind
    sentences: tuple[Sentence, ...]
    attributes: tuple[Attribute, ...]

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM; see `TrainingTask`."""
        model, tokenizer = load_plm(job, self.kind, self.settings)
        filler = pad_id(tokenizer)
        data = orthogonality_data(self.sentences, self.settings, filler=filler, seed=job.seed, stage=job.stage)
        module = OrthogonalityModule(
            model,
            self.attributes,
            self.settings,
            filler=filler,
            epoch_steps=len(data.order),
            seed=job.seed,
            stage=job.stage,
            total_steps=data.total_steps,
        )
        return Components(module, data, tokenizer)
