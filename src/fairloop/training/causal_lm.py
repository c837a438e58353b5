"""Fine-tuning of a causal language model: LoRA or all weights, loss on the sentence and not on its prompt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fairloop.plm.loading import Dtype, load_model, load_tokenizer, pad_id
from fairloop.training.data import TrainingData, pad
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.module import TrainingModule
from fairloop.training.plm import add_lora, set_up
from fairloop.training.predictions import logits_at
from fairloop.training.settings import CausalLMSettings, StepSettings
from fairloop.training.trainer import uses_bfloat16

ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class CausalExample:
    """A sentence to learn, after a prompt that is only read; `ended`: the end-of-text token is learned after it."""

    prompt: str
    sentence: str
    ended: bool = True


@dataclass(frozen=True)
class Tokens:
    """Token ids of prompt and sentence, and where the sentence begins."""

    ids: list[int]
    start: int


class CausalLMModule(TrainingModule):
    """Minimise the mean negative log-likelihood of the sentences' tokens, each token counting the same."""

    def __init__(self, model: Any, settings: StepSettings, *, seed: int, stage: str, total_steps: int) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.model = model

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of the sentences' tokens and their number.

        With a vocabulary of 262,144 the model's head is most of the work. So it runs only where a sentence's token is
        predicted.
        """
        predicts = batch["labels"][:, 1:] != -100
        wanted = functional.pad(predicts, (0, 1))
        logits = logits_at(self.model, batch["input_ids"], batch["attention_mask"], wanted, causal=True)
        targets = batch["labels"][:, 1:][predicts]
        total: Tensor = SummedCrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
        return total, predicts.sum()


class SummedCrossEntropy(torch.autograd.Function):
    """Σ −log softmax(logits)[target], some rows at a time: in float32 whatever the logits' type, without a float32 copy
    of all of them. With 262,144 words such copies, made and read again, cost more than the matrix products."""

    ROWS = 32

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over the rows of `logits` [n, words] for `targets` [n], and keep its gradient."""
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for first in range(0, len(targets), SummedCrossEntropy.ROWS):
            rows = slice(first, first + SummedCrossEntropy.ROWS)
            log_p = functional.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
            wanted = targets[rows, None]
            total -= log_p.gather(1, wanted).sum()
            if gradient is not None:
                p = log_p.exp_()
                gradient[rows] = p.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=p.dtype))
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        """Return the kept gradient (softmax − one-hot), scaled."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None


def tokenize(examples: Sequence[CausalExample], tokenizer: Any, max_length: int) -> list[Tokens]:
    """Return the examples' token ids; what is longer than `max_length` loses the beginning of its prompt.

    Prompt and sentence are tokenised together, as a generator sees them: a token over the boundary is the sentence's.
    """
    rows, end = [], tokenizer.eos_token_id
    for example in examples:
        # A chat template writes the beginning-of-text token itself; the tokeniser must not add a second one.
        begin = not (tokenizer.bos_token and example.prompt.startswith(tokenizer.bos_token))
        prompt, whole = (
            tokenizer(text, add_special_tokens=begin)["input_ids"]
            for text in (example.prompt, example.prompt + example.sentence)
        )
        prompt = prompt[:-1] if prompt and prompt[-1] == end else prompt
        whole = whole[:-1] if whole and whole[-1] == end else whole
        start = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt))
        whole = [*whole, end] if example.ended and end is not None else whole
        cut = min(max(0, len(whole) - max_length), start - 1) if start > 1 else 0
        whole, start = whole[cut : cut + max_length], start - cut
        # The first token of all has nothing before it from which it could be predicted.
        rows.append(Tokens(whole, max(1, start)))
    return [row for row in rows if row.start < len(row.ids)]


def causal_data(
    examples: Sequence[CausalExample], tokenizer: Any, settings: StepSettings, *, seed: int, stage: str
) -> TrainingData:
    """Return the data module of `examples`."""
    rows = tokenize(examples, tokenizer, settings.max_length)
    filler = pad_id(tokenizer)

    def collate(items: Sequence[Tokens]) -> dict[str, Tensor]:
        ids, mask = pad([item.ids for item in items], filler)
        labels = torch.full_like(ids, -100)
        for row, item in enumerate(items):
            labels[row, item.start : len(item.ids)] = torch.tensor(item.ids[item.start :])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    lengths = [len(row.ids) for row in rows]
    return TrainingData(rows, lengths, collate, settings, seed=seed, stage=stage, what="sentences")


@dataclass(frozen=True)
class CausalLMTask(TrainingTask):
    """Fine-tune a causal language model.

    The result is an adapter of a few MB, which `plm.loading.merge_adapter` adds to its base, or with `weights=full` a
    model.

    Attributes:
        settings: what to train, and how.
        examples: sentences with their prompts.
        base: what an adapter shall call its base model; empty: the model as given.
    """

    settings: CausalLMSettings
    examples: tuple[CausalExample, ...]
    base: str = field(default="", metadata={"incidental": True})

    def components(self, job: TrainingJob) -> Components:
        """Load the model and tokenise the examples; see `TrainingTask`."""
        settings = self.settings
        tokenizer = load_tokenizer(job.model, job.revision, "model.path")
        data = causal_data(self.examples, tokenizer, settings, seed=job.seed, stage=job.stage)
        # Frozen weights may be kept in bfloat16; those that are trained need float32 to take small steps.
        frozen = settings.weights == "lora" and uses_bfloat16(job.trainer)
        dtype: Dtype = "bfloat16" if frozen else "float32"
        model = load_model(job.model, "causal", dtype=dtype, revision=job.revision, key="model.path")
        if settings.weights == "lora":
            model = add_lora(
                model, settings.lora, dropout=settings.lora.dropout, task="CAUSAL_LM", seed=job.seed, stage=job.stage
            )
        set_up(model, job.trainer)
        module = CausalLMModule(model, settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps)
        return Components(module, data, tokenizer)

    def save(self, components: Components, folder: Path, job: TrainingJob) -> None:
        """Write the adapter or the model; see `TrainingTask`."""
        save_causal_lm(components.module.model, components.tokenizer, folder, self.base or job.model)


def save_causal_lm(model: Any, tokenizer: Any, folder: Path, base: str) -> None:
    """Write a Hugging Face folder: the whole model, or with LoRA the adapter (a few MB), which names `base`."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    path = folder / ADAPTER
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base
        config = {key: sorted(value) if key == "target_modules" else value for key, value in config.items()}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def base_of(folder: Path) -> str | None:
    """Return the name of the model that an adapter folder updates; None if the folder is a whole model."""
    path = folder / ADAPTER
    if not path.exists():
        return None
    return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
