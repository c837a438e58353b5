"""Train a task: in this process or, with several devices, in workers of its own (`training.launch`).

A study stays one process, with one run store and one W&B run.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from fairloop.files import computing_into, folder_written_aside
from fairloop.training.checkpoints import BEST, LAST, read_checkpoint
from fairloop.training.data import fingerprint
from fairloop.training.early_stopping import Evaluation
from fairloop.training.hook import Training
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.launch import launch
from fairloop.training.module import TrainingModule
from fairloop.training.trainer import FitResult, fit

RESULT = "trained"


@dataclass(frozen=True)
class TrainingResult:
    """What a training returns.

    Attributes:
        folder: a Hugging Face folder (or adapter).
        fit: its checkpoints, which are Lightning's.
        evaluations: those on held-out data, of a training with early stopping.
    """

    folder: Path
    fit: FitResult
    evaluations: tuple[Evaluation, ...] = ()


def train(
    task: TrainingTask, model: str | Path, training: Training, *, stage: str, revision: str | None = None
) -> TrainingResult:
    """Train a model with a task's loss, and write it; what an interrupted call left in `training.work` is gone on with.

    Args:
        task: loss, data and settings.
        model: folder or Hub id of the model to start from.
        training: where to train, the seed, the folder of checkpoints and result, and whom to tell.
        stage: names this training's random numbers.
        revision: of a Hub id; None is the newest.

    Raises:
        UserError: nothing to train on, or less than one batch takes.
        Fault: the checkpoint in the folder is damaged or another training's.
    """
    job = TrainingJob(task, str(model), training, stage, revision)
    components, fitted = run(job)
    target = job.folder / RESULT
    with folder_written_aside(target) as aside, computing_into(target):
        task.save(components, aside, job)
    stopping = components.module.early_stopping
    return TrainingResult(target, fitted, tuple(stopping.evaluations) if stopping is not None else ())


def run(job: TrainingJob) -> tuple[Components, FitResult]:
    """Train as the job says; the module that is returned holds the weights that were asked for."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with computing_into(job.folder):
        components = job.task.components(job)  # before any worker starts: bad data is one line, not one from each
        if job.trainer.world_size == 1 and not job.trainer.launcher:
            return components, _fit(job, components)
        launch(job)
        return components, _read(job, components)


def work(job: TrainingJob) -> None:
    """Train as one of several workers."""
    _fit(job, job.task.components(job))


def _fit(job: TrainingJob, components: Components) -> FitResult:
    told = job.training
    return fit(
        components.module,
        components.data,
        job.trainer,
        job.folder,
        owner=owner_of(job, components),
        on_progress=told.on_progress,
        on_logged=told.on_logged,
    )


def _read(job: TrainingJob, components: Components) -> FitResult:
    """Take what the workers left."""
    module, owner = components.module, owner_of(job, components)
    last, best = job.folder / LAST, job.folder / BEST
    wanted = best if module.optimization.schedule.keep == "best" and best.exists() else last
    module.load_state_dict(read_checkpoint(wanted, owner)["state_dict"], strict=False)
    state = read_checkpoint(last, owner)
    module.on_load_checkpoint(state)
    return FitResult(last, best if best.exists() else None, int(state["global_step"]))


def owner_of(job: TrainingJob, components: Components) -> str:
    """Return what a checkpoint of this job belongs to: never a path, so that folders may be moved."""
    module = components.module
    return fingerprint(
        type(job.task).__qualname__, job.task.identity(), job.seed, job.stage, module.parts, _digest(module)
    )


def _digest(module: TrainingModule) -> str:
    """Return a digest of names, shapes and a sample of each parameter, alike in float32 and bfloat16."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weights in module.state_dict().items():
        sample = weights.detach().flatten()[:64].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name}{tuple(weights.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
