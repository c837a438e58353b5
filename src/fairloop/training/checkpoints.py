"""Checkpoints that are whole or absent, of which the best and the last are kept."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from fairloop.errors import Fault
from fairloop.training.early_stopping import EarlyStopping
from fairloop.training.module import TrainingModule

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(pl.Callback):  # type: ignore[misc]
    """Write `last.ckpt` every N steps and after each epoch, and `best.ckpt` after an epoch with a new lowest loss.

    With early stopping an evaluation that is the best so far writes `best.ckpt`, and one may end the training.

    `owner` is a fingerprint of model, data and settings: a checkpoint of another training is refused, not continued.
    After `patience` epochs without a new lowest loss the training is stopped.
    """

    def __init__(self, folder: Path, every_steps: int, owner: str, patience: int | None = None) -> None:
        self.folder, self.every_steps, self.owner, self.patience = folder, every_steps, owner, patience
        self.best, self.waited = float("inf"), 0
        self.sum, self.steps = 0.0, 0
        self.saved_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to choose the same best checkpoint."""
        return {
            "owner": self.owner,
            "best": self.best,
            "waited": self.waited,
            "sum": self.sum,
            "steps": self.steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the sums of the interrupted epoch."""
        self.best, self.sum, self.steps = state_dict["best"], state_dict["sum"], state_dict["steps"]
        self.waited = state_dict.get("waited", 0)

    def on_train_start(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Remember the step at which a resumed training starts; evaluate before the first step.

        A training that was stopped early does not go on.
        """
        self.saved_step = trainer.global_step if trainer.global_step else -1
        self._stop_if_waited(trainer)
        stopping = pl_module.early_stopping
        if stopping is None:
            return
        if not stopping.evaluations:
            self._evaluate(trainer, pl_module, stopping)
        trainer.should_stop = stopping.stopped

    def on_train_batch_end(self, trainer: Any, pl_module: TrainingModule, outputs: Any, batch: Any, idx: int) -> None:
        """Add the step's loss; write a checkpoint if it is time (an epoch's last step is kept after its validation)."""
        self.sum += float(outputs["value"])
        self.steps += 1
        if (idx + 1) % pl_module.parts:
            return  # inside a batch: what its parts accumulated is in no checkpoint
        stopping = pl_module.early_stopping
        if stopping is not None and stopping.due(trainer.global_step):
            self._evaluate(trainer, pl_module, stopping)
            trainer.should_stop = stopping.stopped
        ends_epoch = idx + 1 == trainer.num_training_batches
        if trainer.global_step % self.every_steps == 0 and not ends_epoch:
            self._save(trainer, LAST)

    def on_train_epoch_end(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Compare the epoch with the best so far and write the checkpoints."""
        if self.steps == 0:  # resumed exactly here: the epoch has been judged already
            return
        loss = self.sum / self.steps if trainer.datamodule.validation_order is None else pl_module.validation_loss
        pl_module.validation_loss = None
        self.sum, self.steps = 0.0, 0
        # An epoch that `max_steps` cuts short is not validated, and so cannot be the best.
        if pl_module.early_stopping is None and loss is not None:
            self.waited = 0 if loss < self.best else self.waited + 1
            if loss < self.best:
                self.best = loss
                self._save(trainer, BEST)
        self._stop_if_waited(trainer)
        self._save(trainer, LAST)

    def on_train_end(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Write the last checkpoint of a training that ended inside an epoch."""
        if trainer.global_step != self.saved_step:
            self._save(trainer, LAST)

    def _stop_if_waited(self, trainer: Any) -> None:
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True

    def _evaluate(self, trainer: Any, module: TrainingModule, stopping: EarlyStopping) -> None:
        """Measure the held-out data; keep the weights if they are the best so far."""
        module.eval()
        with torch.no_grad():
            batches = [trainer.strategy.batch_to_device(batch) for batch in module.held_out()]
            # Through the strategy: a sharded model (FSDP) can be called in no other way.
            measured = [trainer.strategy.validation_step(batch, 0) for batch in batches]
        module.train()
        evaluation = module.evaluation(trainer.global_step, measured)
        if stopping.add(evaluation):
            self.best = evaluation.bias
            self._save(trainer, BEST)

    def _save(self, trainer: Any, name: str) -> None:
        path, partial = self.folder / name, self.folder / f"{name}.partial"
        trainer.save_checkpoint(partial)  # every process takes part, the first one writes
        if trainer.is_global_zero:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        trainer.strategy.barrier("checkpoint")
        if name == LAST:
            self.saved_step = trainer.global_step


def read_checkpoint(path: Path, owner: str) -> dict[str, Any]:
    """Return a checkpoint's content, read with `weights_only`.

    Raises:
        Fault: if it cannot be read or belongs to another training; the line names the file.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        states = [state for state in content["callbacks"].values() if "owner" in state]
        found = states[0]["owner"]
    except Exception as error:
        raise Fault(f"{path}: not a readable checkpoint ({type(error).__name__}); remove it to train anew") from error
    if found != owner:
        raise Fault(f"{path}: a checkpoint of another model, other data or other settings; remove it to train anew")
    return content
