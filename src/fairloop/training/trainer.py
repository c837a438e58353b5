"""One place that builds Lightning trainers and runs them: quiet, repeatable, resumed after a kill."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from fairloop.errors import Fault, UserError
from fairloop.numerics import has_bfloat16
from fairloop.training.checkpoints import BEST, LAST, Checkpoints, read_checkpoint
from fairloop.training.data import TrainingData
from fairloop.training.module import TrainingModule
from fairloop.training.settings import TrainerSettings

Progress = Callable[[int, int], None]
OnLogged = Callable[[str, int, dict[str, float]], None]
"""Called with a curve (`train/<stage>` or `validation/<stage>`), the steps done, and the values by name."""

MOST_POINTS = 500
"""Points of a curve; in a training of more steps a point is the mean over several."""


@dataclass(frozen=True)
class FitResult:
    """What a training left behind; its module holds the weights that were asked for."""

    last: Path
    best: Path | None
    steps: int


def build_trainer(
    settings: TrainerSettings,
    folder: Path,
    *,
    max_steps: int,
    callbacks: Sequence[pl.Callback] = (),
    accumulate: int = 1,
) -> pl.Trainer:
    """Return a Lightning trainer for the config group `trainer`: no logger, no files but those of `callbacks`.

    Several processes must have been started already (`training.launch`); this never starts any.

    Raises:
        UserError: if the accelerator or the number of devices asked for is not there.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    accelerator = resolve_accelerator(settings)
    # On one machine the workers' own variables count, not those of a scheduler around them.
    plugins = [LightningEnvironment()] if not settings.launcher else []
    return pl.Trainer(
        accelerator=accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=_strategy(settings),
        precision="bf16-mixed" if uses_bfloat16(settings) else "32-true",
        max_steps=max_steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        # On a GPU some operations have no repeatable form: better those few than no training at all.
        deterministic=settings.deterministic and ("warn" if accelerator == "gpu" else True),
        benchmark=False,
        use_distributed_sampler=False,
        callbacks=[*callbacks],
        plugins=plugins,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def _strategy(settings: TrainerSettings) -> Any:
    from datetime import timedelta

    from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy

    timeout = timedelta(seconds=settings.timeout_seconds)
    if settings.strategy == "fsdp":
        return FSDPStrategy(timeout=timeout, state_dict_type="full", use_orig_params=True)
    if settings.world_size > 1 or settings.strategy == "ddp":
        backend = "gloo" if resolve_accelerator(settings) == "cpu" else "nccl"
        return DDPStrategy(timeout=timeout, process_group_backend=backend)
    return "auto"


def resolve_accelerator(settings: TrainerSettings) -> str:
    """Return `cpu` or `gpu`: what `trainer.accelerator` means on this machine."""
    if settings.accelerator == "cpu":
        return "cpu"
    found = torch.cuda.device_count()
    if settings.accelerator == "auto" and found == 0:
        return "cpu"
    if found == 0:
        raise UserError.of("trainer.accelerator", "gpu", "no GPU on this machine; use cpu or auto")
    if settings.devices > found:
        raise UserError.of("trainer.devices", settings.devices, f"at most {found}, the GPUs of this machine")
    return "gpu"


def uses_bfloat16(settings: TrainerSettings) -> bool:
    """Return whether training computes in bfloat16: asked for, or `auto` on hardware with units for it."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    return has_bfloat16("cuda" if resolve_accelerator(settings) == "gpu" else "cpu")


def fit(
    module: TrainingModule,
    data: TrainingData,
    settings: TrainerSettings,
    folder: Path,
    *,
    owner: str,
    on_progress: Progress | None = None,
    on_logged: OnLogged | None = None,
) -> FitResult:
    """Train `module`, going on from `folder/last.ckpt` if there is one, and leave the wanted weights in it.

    `owner` is a fingerprint of model, data and settings (`data.fingerprint`). Killed at any time and called again,
    the final weights equal those of an uninterrupted call, bit for bit on the same CPU with the same threads.

    Raises:
        Fault: if the checkpoint in `folder` is damaged or another training's, or if the loss is not a finite number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last, best = folder / LAST, folder / BEST
    if last.exists():
        read_checkpoint(last, owner)
    callbacks = [
        _Guard(on_progress, data.total_steps),
        _Curve(on_logged, data.total_steps),
        Checkpoints(folder, settings.checkpoint_every_steps, owner, module.patience),
    ]
    with _quiet_and_restored(settings):
        trainer = build_trainer(
            settings, folder, max_steps=data.total_steps, callbacks=callbacks, accumulate=module.parts
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
        except SystemExit as stop:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from stop
    if module.optimization.schedule.keep == "best" and best.exists():
        module.load_state_dict(read_checkpoint(best, owner)["state_dict"], strict=False)
    return FitResult(last, best if best.exists() else None, trainer.global_step)


class _Guard(pl.Callback):  # type: ignore[misc]
    """Report progress, stop at a loss that is no number, and end a worker whose starter is gone."""

    def __init__(self, on_progress: Progress | None, total: int) -> None:
        self.on_progress, self.total = on_progress, total
        self.parent = os.getppid()

    def on_train_batch_end(self, trainer: Any, pl_module: TrainingModule, outputs: Any, batch: Any, idx: int) -> None:
        if not torch.isfinite(outputs["value"]):
            raise Fault(f"training: the loss became {float(outputs['value'])} at step {trainer.global_step}")
        if "FAIRLOOP_WORKER" in os.environ and os.getppid() != self.parent:
            os._exit(1)  # or it would go on writing beside the training that was started again
        if self.on_progress is not None and trainer.is_global_zero:
            self.on_progress(trainer.global_step, self.total)


class _Curve(pl.Callback):  # type: ignore[misc]
    """Hand on what the module logs, from the first process.

    A resumed training reports the steps after its checkpoint again, as they were.
    """

    def __init__(self, on_logged: OnLogged | None, total: int) -> None:
        self.on_logged, self.total = on_logged, total
        self.every = -(-total // MOST_POINTS)
        self.sums: dict[str, float] = {}
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the steps since the last point."""
        return {"sums": dict(self.sums), "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the point that was interrupted."""
        self.sums, self.count = dict(state_dict["sums"]), state_dict["count"]

    def on_train_batch_end(self, trainer: Any, pl_module: TrainingModule, outputs: Any, batch: Any, idx: int) -> None:
        """Add what was logged in this part of a step; report the mean if a point is complete."""
        for name, value in _logged(trainer, "train/").items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if (idx + 1) % pl_module.parts or (trainer.global_step % self.every and trainer.global_step < self.total):
            return
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        self._report(trainer, f"train/{pl_module.stage}", means)

    def on_validation_end(self, trainer: Any, pl_module: TrainingModule) -> None:
        """Report what was logged of the items held out."""
        self._report(trainer, f"validation/{pl_module.stage}", _logged(trainer, "validation/"))

    def _report(self, trainer: Any, curve: str, values: dict[str, float]) -> None:
        if self.on_logged is not None and trainer.is_global_zero and values:
            self.on_logged(curve, trainer.global_step, values)


def _logged(trainer: Any, prefix: str) -> dict[str, float]:
    logged = trainer.callback_metrics
    return {name.removeprefix(prefix): float(value) for name, value in logged.items() if name.startswith(prefix)}


@contextmanager
def _quiet_and_restored(settings: TrainerSettings) -> Iterator[None]:
    """Silence Lightning's tips, and give back random state, threads and determinism as they were."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
