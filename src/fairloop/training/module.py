"""What all Lightning modules here share: the optimiser, repeatable dropout, checkpoints of the trained part."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from fairloop.seeding import derive
from fairloop.training.distributed import global_sum
from fairloop.training.early_stopping import EarlyStopping, Evaluation
from fairloop.training.settings import StepSettings


class TrainingModule(pl.LightningModule):  # type: ignore[misc]
    """A loss to be minimised; subclasses give `loss_parts(batch)`.

    Dropout in step t of process r depends on (seed, stage, t, r) alone, so that a resumed training takes the very
    same steps. A checkpoint keeps the trained parameters only: with LoRA that is a small part of the model.

    Attributes:
        early_stopping: on held-out data, for a module that has an `evaluation`; None: all steps, judged by their loss.
        parts: parts in which a batch is computed (gradient accumulation).
        fused_on_cpu: whether a processor takes the optimiser's fused form.
    """

    early_stopping: EarlyStopping | None = None
    parts: int = 1
    fused_on_cpu: bool = False

    def __init__(self, optimization: StepSettings, *, seed: int, stage: str, total_steps: int) -> None:
        super().__init__()
        self.optimization = optimization
        self.seed, self.stage, self.total_steps = seed, stage, total_steps
        self.strict_loading = False
        self.patience: int | None = None
        self.validation_loss: float | None = None
        self._validation = torch.zeros(2, dtype=torch.float64)
        self._terms: dict[str, Tensor] = {}
        self._trained: frozenset[str] = frozenset()

    def setup(self, stage: str) -> None:
        """Note the trained parameters' names, before a strategy wraps the model."""
        self._trained = frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum of this process's losses, with gradient, and how many they are.

        The loss of a step is the sum over all processes divided by their global number, so that it does not depend
        on how a batch is split, even if one process has longer sentences than another.
        """
        raise NotImplementedError

    def log_terms(self, **sums: Tensor) -> None:
        """Log terms of the loss beside it: sums, as `loss_parts` returns one, without the terms' weights."""
        self._terms = {name: value.detach() for name, value in sums.items()}

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Derive this step's dropout from its number."""
        torch.manual_seed(derive(self.seed, self.stage, "dropout", self.global_step, self.global_rank))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss for the backward pass, and under `value` the loss over all processes; log its terms."""
        total, count = self.loss_parts(batch)
        sums = {"loss": total.detach(), **self._terms}
        totals = global_sum(torch.stack([count.detach().double(), *(one.double() for one in sums.values())]))
        count = totals[0].clamp(min=1)
        means = totals[1:] / count
        self.log_dict({f"train/{name}": mean for name, mean in zip(sums, means, strict=True)})
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        # DDP and FSDP average gradients over processes, so that their number cancels out.
        return {"loss": total * (self.trainer.world_size / count.float()), "value": means[0]}

    def on_validation_epoch_start(self) -> None:
        """Start a new sum."""
        self._validation = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        """Add one batch to the validation loss."""
        total, count = self.loss_parts(batch)
        self._validation += torch.stack([total.detach().double(), count.detach().double()])

    def on_validation_epoch_end(self) -> None:
        """Keep the mean over all processes as `validation_loss`, and log it."""
        total, count = global_sum(self._validation).tolist()
        self.validation_loss = total / max(count, 1)
        self.log("validation/loss", self.validation_loss)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with linear warm-up and linear decay, as settings say."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.optimization.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.optimization.learning_rate,
            # One pass over the weights, where a processor has many; it rounds otherwise. A GPU's default is as good.
            fused=True if self.fused_on_cpu and self.device.type == "cpu" else None,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Scale gradients down to `clip_norm`; sharded ones (FSDP) can only be measured by their wrapper."""
        if not self.optimization.clip_norm:
            return
        if hasattr(self.trainer.model, "clip_grad_norm_"):
            self.trainer.model.clip_grad_norm_(self.optimization.clip_norm)
        else:
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.optimization.clip_norm)

    def learning_rate_factor(self, step: int) -> float:
        """Return the share of the highest learning rate that step `step` (from 0) uses."""
        warmup = int(self.optimization.warmup_share * self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - warmup))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out, and note what was seen on held-out data."""
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: weight for name, weight in weights.items() if name in self._trained}
        if self.early_stopping is not None:
            checkpoint["early_stopping"] = self.early_stopping.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what was seen on held-out data."""
        if self.early_stopping is not None:
            self.early_stopping.restore(checkpoint["early_stopping"])

    def held_out(self) -> list[dict[str, Tensor]]:
        """Return the batches of `validation_step` of an evaluation; every process takes all of them."""
        raise NotImplementedError

    def evaluation(self, step: int, measured: list[Any]) -> Evaluation:
        """Return what the answers of `validation_step` to `held_out` say."""
        raise NotImplementedError
