"""Load a PLM to be trained: all its weights, or a low-rank update; with the dropout that is asked for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from fairloop.errors import UserError
from fairloop.plm.loading import Head, load_config, load_model, load_tokenizer
from fairloop.training.causal_lm import add_lora
from fairloop.training.plm_settings import PlmTrainingSettings

if TYPE_CHECKING:
    from fairloop.training.job import Job

#: What the families call the dropout of hidden states (embeddings included) and of attention in their configurations.
DROPOUTS = {
    "hidden": ("hidden_dropout_prob", "dropout", "resid_pdrop", "embd_pdrop"),
    "attention": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
}


def load_plm(
    job: "Job", kind: str, settings: PlmTrainingSettings, *, rates: Mapping[str, float | None] | None = None
) -> tuple[Any, Any]:
    """Return the job's model, in training mode, with the head of its kind (masked or causal), and its tokenizer.

    Args:
        job: names the model.
        kind: masked or causal.
        settings: say whether all weights are trained, or a low-rank update (LoRA).
        rates: dropout of `hidden` states and of `attention`; None leaves the model's own.

    Raises:
        UserError: if the model's family has no such dropout, or a masked model's tokenizer no mask token.
    """
    tokenizer = load_tokenizer(job.model, job.revision)
    if kind == "masked" and tokenizer.mask_token_id is None:
        raise UserError(f"plm.path={job.model}: a masked language model needs a mask token, and its tokenizer has none")
    config = load_config(job.model, job.revision)
    own = set_dropout(config, rates or {})
    head: Head = "masked" if kind == "masked" else "causal"
    # On short sentences plain attention is much faster on a processor than the fused one.
    plain = "eager" if head == "masked" and not torch.cuda.is_available() else None
    model = load_model(job.model, head, revision=job.revision, config=config, attention=plain)
    for name, rate in own.items():  # the layers have been built: the model that is written keeps its own rates
        setattr(model.config, name, rate)
    if settings.weights == "lora":
        task = "CAUSAL_LM" if kind == "causal" else None
        model = add_lora(model, settings.lora, dropout=0.0, task=task, seed=job.seed, stage=job.stage)
    model.train()
    if job.trainer_settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model, tokenizer


def backbone(model: Any) -> Any:
    """Return the model without its head, whether it is wrapped for LoRA or not."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model


def freeze_head(model: Any) -> None:
    """Freeze all but the backbone, for a loss that does not read the head: DDP waits for every trained gradient."""
    kept = {id(weight) for weight in backbone(model).parameters()}
    for weight in model.parameters():
        if id(weight) not in kept:
            weight.requires_grad_(False)


def set_dropout(config: Any, rates: Mapping[str, float | None]) -> dict[str, float]:
    """Set the rates in a model's configuration, and return what stood there.

    Raises:
        UserError: if its family has no such dropout.
    """
    before: dict[str, float] = {}
    for what, rate in rates.items():
        if rate is None:
            continue
        names = [name for name in DROPOUTS[what] if hasattr(config, name)]
        if not names:
            raise UserError.of(f"debias.{what}_dropout", rate, f"null; {config.model_type} has no such dropout")
        for name in names:
            before[name] = getattr(config, name)
            setattr(config, name, rate)
    return before
