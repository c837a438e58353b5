"""Further training of a PLM with its own objective: masked tokens (Devlin et al. 2019), or the next token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fairloop.plm.loading import pad_id
from fairloop.training.causal_lm import CausalExample, CausalLMModule, causal_data
from fairloop.training.data import TrainingData
from fairloop.training.masking import Masking, collated, encode, masked_lm_loss
from fairloop.training.module import TrainingModule
from fairloop.training.plm import load_plm
from fairloop.training.plm_settings import LanguageModelingSettings

if TYPE_CHECKING:
    from fairloop.training.job import Job

SETTINGS = LanguageModelingSettings


class MaskedLMModule(TrainingModule):
    """Minimise the mean negative log-likelihood of masked tokens, newly chosen in every step."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: LanguageModelingSettings,
        *,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.model = model
        self.masking = Masking(tokenizer, settings.mask_share, seed=seed, stage=stage)

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of the masked tokens and their number."""
        ids, chosen = self.masking(batch, self.global_step if self.training else -1)
        return masked_lm_loss(self.model, batch, ids, chosen), chosen.sum()


def masked_data(
    texts: Sequence[str], tokenizer: Any, settings: LanguageModelingSettings, *, seed: int, stage: str
) -> TrainingData:
    """Return the data module of `texts`, each with its number."""
    rows = list(enumerate(encode(texts, tokenizer, settings.max_length)))
    filler = pad_id(tokenizer)

    def collate(items: Sequence[tuple[int, tuple[list[int], list[bool]]]]) -> dict[str, Tensor]:
        return collated([row for _, row in items], [number for number, _ in items], filler)

    lengths = [len(ids) for _, (ids, _) in rows]
    return TrainingData(rows, lengths, collate, settings, seed=seed, stage=stage, what="sentences")


def build(job: "Job") -> tuple[TrainingModule, TrainingData, Any]:
    """Return module, data and tokenizer of a job; its data: `kind` (masked or causal) and `texts`."""
    settings = LanguageModelingSettings.model_validate(job.settings)
    rates = {"hidden": settings.hidden_dropout, "attention": settings.attention_dropout}
    model, tokenizer = load_plm(job, job.data["kind"], settings, rates=rates)
    shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}
    if job.data["kind"] == "masked":
        data = masked_data(job.data["texts"], tokenizer, settings, **shared)
        return MaskedLMModule(model, tokenizer, settings, total_steps=data.total_steps, **shared), data, tokenizer
    # A sentence stands for itself: no prompt, and an end only if the tokenizer of the PLM writes one by itself.
    examples = [CausalExample("", text, ended=False) for text in job.data["texts"]]
    data = causal_data(examples, tokenizer, settings, **shared)
    return CausalLMModule(model, settings, total_steps=data.total_steps, **shared), data, tokenizer
