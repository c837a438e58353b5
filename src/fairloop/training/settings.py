"""Settings of the config group `trainer`, and of each kind of training; none of these needs torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from fairloop.errors import UserError
from fairloop.settings import Settings, incidental


def _tuple_of(value: object) -> object:
    """Let a YAML list stand for a tuple: strict settings would refuse it."""
    return tuple(value) if isinstance(value, list) else value


class TrainerSettings(Settings):
    """Where and how training runs (config group `trainer`). Nothing here decides a result: all of it is incidental."""

    name: str = incidental("cpu", description="name of the choice, for logs")
    accelerator: Literal["auto", "cpu", "gpu"] = incidental("auto", description="`auto` takes a GPU where there is one")
    devices: int = incidental(1, ge=1, le=1024, description="devices (on a CPU: processes) on each node")
    nodes: int = incidental(1, ge=1, le=4096, description="machines that train together")
    strategy: Literal["auto", "ddp", "fsdp"] = incidental(
        "auto",
        description="`ddp` copies the model to every device, `fsdp` shards it; `auto`: `ddp` if there are several",
    )
    launcher: Annotated[tuple[str, ...], BeforeValidator(_tuple_of)] = incidental(
        (), description="command that starts one worker per device on every node (SLURM: srun ...); empty: this machine"
    )
    precision: Literal["auto", "float32", "bfloat16"] = incidental(
        "auto", description="`bfloat16`: mixed precision; `auto`: bfloat16 where the hardware has it, float32 elsewhere"
    )
    gradient_checkpointing: bool = incidental(False, description="recompute activations: less memory, more time")
    threads: int | None = incidental(None, ge=1, le=1024, description="CPU threads of each process; null: torch's own")
    checkpoint_every_steps: int = incidental(
        50, ge=1, description="a checkpoint each time so many steps are done, besides the one after every epoch"
    )
    deterministic: bool = incidental(True, description="repeatable operations only; on a GPU where there are such")
    timeout_seconds: int = incidental(
        600, ge=10, description="how long a process waits for the others before the training is given up"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainerSettings":
        if self.strategy == "fsdp" and self.accelerator == "cpu":
            raise ValueError("trainer.strategy=fsdp: needs trainer.accelerator=gpu")
        if self.nodes > 1 and not self.launcher:
            raise ValueError(f"trainer.nodes={self.nodes}: needs trainer.launcher, the command that starts the workers")
        return self

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Schedule:
    """How long a training takes, and which weights it returns.

    Attributes:
        epochs: passes over the data; None: as many as the steps take.
        max_steps: steps after which it ends, even inside an epoch; None: after its epochs.
        validation_share: share of the items held out to choose the best checkpoint; 0: by training loss.
        keep: the checkpoint whose weights are returned.
    """

    epochs: int | None
    max_steps: int | None
    validation_share: float
    keep: Literal["last", "best"]


class StepSettings(Settings):
    """What every training shares: AdamW, linear warm-up, linear decay to zero."""

    batch_size: int = Field(ge=1, le=65536, description="items in one step, over all devices together")
    learning_rate: float = Field(gt=0, le=10, description="highest learning rate, reached after the warm-up")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's decay of matrices (not of biases or norms)")
    clip_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0: never")
    max_length: int = Field(128, ge=4, le=32768, description="tokens of an item; what is longer is cut")

    @property
    def schedule(self) -> Schedule:
        """How long it takes."""
        raise NotImplementedError


class OptimizationSettings(StepSettings):
    """A training of so many epochs."""

    batch_size: int = Field(16, ge=1, le=65536, description="items in one step, over all devices together")
    learning_rate: float = Field(1e-4, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    epochs: int = Field(1, ge=1, le=1000, description="passes over the data")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps, even inside an epoch")
    validation_share: float = Field(
        0.0, ge=0, le=0.5, description="share of the items held out to choose the best checkpoint; 0: by training loss"
    )
    keep: Literal["last", "best"] = Field("last", description="which checkpoint's weights the training returns")

    @property
    def schedule(self) -> Schedule:
        """So many epochs, or fewer steps."""
        return Schedule(self.epochs, self.max_steps, self.validation_share, self.keep)


class LowRankSettings(Settings):
    """Low-rank adaptation (Hu et al. 2022) of every linear layer except the head."""

    rank: int = Field(8, ge=1, le=1024, description="rank r of the update B·A")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / rank")


class LoraSettings(LowRankSettings):
    """Low-rank adaptation with dropout before the update."""

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the update")


class CausalLMSettings(OptimizationSettings):
    """Fine-tuning of a causal language model on sentences, each after its prompt."""

    learning_rate: float = Field(2e-4, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    weights: Literal["lora", "full"] = Field("lora", description="train a low-rank update, or all weights")
    lora: LoraSettings = Field(LoraSettings(), description="the low-rank update; unused with weights=full")


class BudgetSettings(StepSettings):
    """The budget of a method that trains a PLM, the same for all of them (conf/debias/budget/steps.yaml)."""

    steps: int = Field(250, ge=1, le=10_000_000, description="steps of the optimiser")
    batch_size: int = Field(8, ge=1, le=65536, description="pairs in one step, over all devices together")
    learning_rate: float = Field(7e-5, gt=0, le=10, description="highest learning rate (AdamW), after the warm-up")
    weights: Literal["lora", "full"] = Field("full", description="train a low-rank update, or all weights")
    lora: LowRankSettings = Field(LowRankSettings(), description="the low-rank update; unused with weights=full")

    @property
    def schedule(self) -> Schedule:
        """So many steps, whatever there is to train on; the last weights."""
        return Schedule(epochs=None, max_steps=self.steps, validation_share=0.0, keep="last")


class ContrastiveSettings(OptimizationSettings):
    """Contrastive training of a sentence encoder; a `batch_size` of B pairs gives 2B − 2 negatives to each sentence."""

    batch_size: int = Field(32, ge=2, le=65536, description="pairs in one step, over all devices together")
    learning_rate: float = Field(5e-5, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    temperature: float = Field(0.05, gt=0, le=100, description="InfoNCE: cosines are divided by it")
    pooling: Literal["mean", "cls"] = Field("mean", description="how token vectors become one sentence vector")


class ClassifierSettings(OptimizationSettings):
    """Training of a classifier, or of a regression, on sentence vectors or on sentences and pairs of sentences."""

    epochs: int = Field(20, ge=1, le=1000, description="passes over the data")
    batch_size: int = Field(32, ge=1, le=65536, description="items in one step, over all devices together")
    learning_rate: float = Field(1e-2, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decay of matrices (not of biases or norms)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the sentence vector")
    pooling: Literal["mean", "cls", "last"] = Field("mean", description="how token vectors become one sentence vector")
    target: Literal["class", "number"] = Field("class", description="cross-entropy over classes, or squared error")
    weights: Literal["full", "lora", "frozen"] = Field(
        "full", description="what of an encoder is trained with the linear layer: all, a low-rank update, or nothing"
    )
    lora: LoraSettings = Field(LoraSettings(), description="the low-rank update; unused unless weights=lora")
    select: Annotated[tuple[str, ...], BeforeValidator(_tuple_of)] = Field(
        (), description="measures of agreement whose mean on the held-out items chooses the best epoch; empty: the loss"
    )
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a new best; null: never")


def fitting_batch_size(batch_size: int, items: int, what: str) -> int:
    """Return `batch_size` if there are at least so many items to train on.

    Raises:
        UserError: if there are none, or fewer than one batch takes.
    """
    if items == 0:
        raise UserError(f"there are no {what} to train on")
    if batch_size > items:
        raise UserError.of("batch_size", batch_size, f"at most {items}, the {what} there are to train on")
    return batch_size
