"""Further training of a PLM with its own objective: masked tokens (Devlin et al. 2019), or the next token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fairloop.plm.loading import pad_id
from fairloop.plm.model import Kind
from fairloop.training.causal_lm import CausalExample, CausalLMModule, causal_data
from fairloop.training.data import TrainingData
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.masking import Masking, collated, encode, masked_lm_loss
from fairloop.training.module import TrainingModule
from fairloop.training.plm import load_plm
from fairloop.training.settings import BudgetSettings, StepSettings


class MaskedLMModule(TrainingModule):
    """Minimise the mean negative log-likelihood of masked tokens, newly chosen in every step."""

    def __init__(
        self,
        model: Any,
        masking: Masking,
        settings: StepSettings,
        *,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.model, self.masking = model, masking

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of the masked tokens and their number."""
        ids, chosen = self.masking(batch, self.global_step if self.training else -1)
        return masked_lm_loss(self.model, batch, ids, chosen), chosen.sum()


def masked_data(texts: Sequence[str], tokenizer: Any, settings: StepSettings, *, seed: int, stage: str) -> TrainingData:
    """Return the data module of `texts`, each with its number."""
    rows = list(enumerate(encode(texts, tokenizer, settings.max_length)))
    filler = pad_id(tokenizer)

    def collate(items: Sequence[tuple[int, tuple[list[int], list[bool]]]]) -> dict[str, Tensor]:
        return collated([row for _, row in items], [number for number, _ in items], filler)

    lengths = [len(ids) for _, (ids, _) in rows]
    return TrainingData(rows, lengths, collate, settings, seed=seed, stage=stage, what="sentences")


@dataclass(frozen=True)
class LanguageModelingTask(TrainingTask):
    """Train a PLM further with its own objective.

    Attributes:
        settings: the budget.
        kind: masked or causal.
        texts: what it is trained on.
        mask_share: masked PLM: share of the tokens that are predicted.
        hidden_dropout: of hidden states; None: the PLM's own.
        attention_dropout: of attention; None: the PLM's own.
    """

    settings: BudgetSettings
    kind: Kind
    texts: tuple[str, ...]
    mask_share: float
    hidden_dropout: float | None = None
    attention_dropout: float | None = None

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM and tokenise the texts; see `TrainingTask`."""
        rates = {"hidden": self.hidden_dropout, "attention": self.attention_dropout}
        model, tokenizer = load_plm(job, self.kind, self.settings, rates=rates)
        shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
        if self.kind == "masked":
            data = masked_data(self.texts, tokenizer, self.settings, **shared)
            masking = Masking(tokenizer, self.mask_share, **shared)
            module: TrainingModule = MaskedLMModule(
                model, masking, self.settings, total_steps=data.total_steps, **shared
            )
            return Components(module, data, tokenizer)
        # A sentence stands for itself: no prompt, and an end only if the tokenizer of the PLM writes one by itself.
        examples = [CausalExample("", text, ended=False) for text in self.texts]
        data = causal_data(examples, tokenizer, self.settings, **shared)
        module = CausalLMModule(model, self.settings, total_steps=data.total_steps, **shared)
        return Components(module, data, tokenizer)
