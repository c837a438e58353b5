"""Auto-Debias: a masked PLM shall answer prompts about men and about women alike.

Guo, Yang and Abbasi 2022, "Auto-Debias: Debiasing Masked Language Models with Automated Biased Prompts" (ACL).
Section 3.3; as in the published implementation the divergence is over the whole vocabulary. That implementation also
brings BERT's pooled outputs together, which a masked language model does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fairloop.debias.auto_debias.settings import MethodSettings
from fairloop.plm.loading import pad_id
from fairloop.training.data import TrainingData, pad
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.module import TrainingModule
from fairloop.training.plm import load_plm
from fairloop.training.predictions import logits_at


@dataclass(frozen=True)
class Probe:
    """Token ids of a prompt about a man and of the same one about a woman, each with one mask token."""

    male: list[int]
    female: list[int]


class PromptDivergenceModule(TrainingModule):
    """Minimise the mean divergence of the two answers over the vocabulary."""

    def __init__(
        self,
        model: Any,
        settings: MethodSettings,
        *,
        mask_id: int,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.model, self.mask_id = model, mask_id

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed divergences of the probes and their number."""
        logits = answers(self.model, batch, self.mask_id)
        count = len(logits) // 2
        return divergence(logits[:count], logits[count:]).sum(), torch.tensor(count, device=logits.device)


def answers(model: Any, batch: dict[str, Tensor], mask_id: int) -> Tensor:
    """Return the logits [2n, vocabulary] at the mask tokens of a batch of `probe_batch`."""
    ids = batch["input_ids"]
    return logits_at(model, ids, batch["attention_mask"], ids == mask_id, causal=False).float()


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence, in nats, of the distributions of two sets of logits, [n]."""
    first, second = torch.log_softmax(first.float(), dim=-1), torch.log_softmax(second.float(), dim=-1)
    middle = torch.logsumexp(torch.stack([first, second]), dim=0) - torch.log(torch.tensor(2.0))
    one, two = (functional.kl_div(middle, part, reduction="none", log_target=True).sum(-1) for part in (first, second))
    return (one + two) / 2


def probe_batch(probes: Sequence[Probe], filler: int) -> dict[str, Tensor]:
    """Return a batch of the male probes, then the female ones."""
    ids, mask = pad([*(probe.male for probe in probes), *(probe.female for probe in probes)], filler)
    return {"input_ids": ids, "attention_mask": mask}


@dataclass(frozen=True)
class PromptDivergenceTask(TrainingTask):
    """Let a PLM answer the probes about men and about women alike."""

    settings: MethodSettings
    probes: tuple[Probe, ...]

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM; see `TrainingTask`."""
        model, tokenizer = load_plm(job, "masked", self.settings)
        filler = pad_id(tokenizer)
        shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
        data = TrainingData(
            self.probes,
            [max(len(probe.male), len(probe.female)) for probe in self.probes],
            lambda items: probe_batch(items, filler),
            self.settings,
            what="prompts with their words",
            **shared,
        )
        mask_id = int(tokenizer.mask_token_id)
        module = PromptDivergenceModule(model, self.settings, mask_id=mask_id, total_steps=data.total_steps, **shared)
        return Components(module, data, tokenizer)
