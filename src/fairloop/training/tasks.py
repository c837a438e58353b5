"""The trainings a study may ask for: fine-tune a generator, train an encoder or a classifier, debias a PLM.

Each call describes its training as plain data (`Job`), so that it runs in this process or, with several devices, in
workers of its own (`training.launch`): a study stays one process, with one run store and one W&B run.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairloop.errors import UserError
from fairloop.files import computing_into, folder_written_aside
from fairloop.seeding import derive
from fairloop.training import causal_lm, classifier, contrastive
from fairloop.training.checkpoints import BEST, LAST, Saved, read_checkpoint
from fairloop.training.data import TrainingData, fingerprint
from fairloop.training.job import Job
from fairloop.training.launch import launch
from fairloop.training.module import TrainingModule
from fairloop.training.settings import (
    CausalLMSettings,
    ClassifierSettings,
    ContrastiveSettings,
    OptimizationSettings,
    TrainerSettings,
)
from fairloop.training.trainer import Fitted, OnLogged, Progress, fit, resolve_accelerator, uses_bfloat16
from fairloop.training.watch import Look

TRAINED = "trained"
_SETTINGS: dict[str, type[OptimizationSettings]] = {
    "causal_lm": CausalLMSettings,
    "contrastive": ContrastiveSettings,
    "classifier": ClassifierSettings,
}


@dataclass(frozen=True)
class Built:
    """A job's module and data, and the tokeniser where it has one."""

    module: TrainingModule
    data: TrainingData
    tokenizer: Any = None


@dataclass(frozen=True)
class Trained:
    """What a training returns: `folder` is a Hugging Face folder (or adapter); checkpoints are Lightning's.

    `looks` are those at held-out data, of a training that watched it.
    """

    folder: Path
    last: Path
    best: Path | None
    steps: int
    looks: tuple[Look, ...] = ()


def train_causal_lm(
    examples: Sequence[causal_lm.CausalExample],
    model: str | Path,
    settings: CausalLMSettings,
    trainer: TrainerSettings,
    folder: Path,
    *,
    seed: int,
    stage: str,
    base: str | None = None,
    revision: str | None = None,
    on_progress: Progress | None = None,
    on_saved: Callable[[Saved], None] | None = None,
    on_logged: OnLogged | None = None,
) -> Trained:
    """Fine-tune a causal language model.

    The result is an adapter of a few MB, which `causal_lm.merge_adapter` adds to its base; a model with `weights=full`.

    Args:
        examples: sentences with their prompts.
        model: folder or Hub id of the model to start from.
        settings: what to train, and how.
        trainer: where to train.
        folder: for checkpoints and the result; what an interrupted call left in it is gone on with.
        seed: of the study.
        stage: names this training's random numbers.
        base: what an adapter shall call its base model; by default `model` as given.
        revision: of a Hub id; None is the newest.
        on_progress: called with (steps done, all steps).
        on_saved: called after each checkpoint.
        on_logged: called with each point of a loss curve.

    Raises:
        UserError: no example, or fewer than one batch takes.
        Fault: the checkpoint in `folder` is damaged or another training's.
    """
    data = [[example.prompt, example.sentence, example.ended] for example in examples]
    job = replace(_job("causal_lm", model, data, settings, trainer, seed, stage, folder), revision=revision)
    built, fitted = _run(job, on_progress, on_saved, on_logged)

    def export(target: Path) -> None:
        causal_lm.save_causal_lm(built.module.model, built.tokenizer, target, base or str(model))

    return _export(job, fitted, export)


def train_encoder(
    pairs: Sequence[tuple[str, str]],
    model: str | Path,
    settings: ContrastiveSettings,
    trainer: TrainerSettings,
    folder: Path,
    *,
    seed: int,
    stage: str,
    on_progress: Progress | None = None,
    on_saved: Callable[[Saved], None] | None = None,
    on_logged: OnLogged | None = None,
) -> Trained:
    """Train a sentence encoder contrastively on pairs of sentences; arguments and errors as of `train_causal_lm`."""
    job = _job("contrastive", model, [list(pair) for pair in pairs], settings, trainer, seed, stage, folder)
    built, fitted = _run(job, on_progress, on_saved, on_logged)

    def export(target: Path) -> None:
        built.module.model.save_pretrained(target)
        built.tokenizer.save_pretrained(target)

    return _export(job, fitted, export)


def train_plm(
    task: str,
    model: str | Path,
    data: dict[str, Any],
    settings: OptimizationSettings,
    trainer: TrainerSettings,
    folder: Path,
    *,
    seed: int,
    stage: str,
    revision: str | None = None,
    on_progress: Progress | None = None,
    on_saved: Callable[[Saved], None] | None = None,
    on_logged: OnLogged | None = None,
) -> Trained:
    """Train a PLM with a loss of its own; the result is a whole model, adapters merged.

    Args:
        task: the dotted name of the module with that loss. It has `SETTINGS`, the class of its settings, and
            `build(job)`, which returns module, data module and tokenizer; the module's `model` is what is written.
        model: folder or Hub id of the PLM to start from.
        data: plain data, as that module's `build` wants it.
        settings: of that class; fields that it does not know are ignored.
        trainer: where to train.
        folder: for checkpoints and the result; what an interrupted call left in it is gone on with.
        seed: of the study.
        stage: names this training's random numbers.
        revision: of a Hub id; None is the newest.
        on_progress: called with (steps done, all steps).
        on_saved: called after each checkpoint.
        on_logged: called with each point of a loss curve.

    Raises:
        UserError: nothing to train on, or less than one batch takes.
        Fault: the checkpoint in `folder` is damaged or another training's.
    """
    job = replace(_job(task, model, data, settings, trainer, seed, stage, folder), revision=revision)
    built, fitted = _run(job, on_progress, on_saved, on_logged)
    looks = built.module.watch.looks if built.module.watch is not None else []
    return replace(_export(job, fitted, partial(_write_whole, built)), looks=tuple(looks))


@dataclass(frozen=True)
class Classifier:
    """A trained classifier or regression."""

    module: classifier.ClassifierModule
    tokenizer: Any
    max_length: int
    device: str = "cpu"

    def answers(self, items: NDArray[np.float32] | classifier.Texts, batch_size: int = 256) -> NDArray[np.float64]:
        """Return logits [n, classes], or numbers [n, 1], of what the classifier was trained on: vectors or texts."""
        rows: Sequence[Any] = list(items)
        if self.tokenizer is not None:
            rows = classifier.encode(rows, self.tokenizer, self.max_length)
        lengths = [1 if self.tokenizer is None else len(row.ids) for row in rows]
        order = np.argsort(lengths, kind="stable")
        found = np.zeros((len(rows), self.module.head.out_features))
        module = self.module.eval().to(self.device)
        for first in range(0, len(rows), batch_size):
            chunk = order[first : first + batch_size]
            batch = _collate(self.tokenizer)([rows[number] for number in chunk])
            with torch.inference_mode():
                found[chunk] = module({name: part.to(self.device) for name, part in batch.items()}).double().cpu()
        return found

    def probabilities(
        self, items: NDArray[np.float32] | classifier.Texts, batch_size: int = 256
    ) -> NDArray[np.float64]:
        """Return class probabilities [n, classes]."""
        return torch.from_numpy(self.answers(items, batch_size)).softmax(dim=1).numpy()


def train_classifier(
    items: NDArray[np.float32] | classifier.Texts,
    labels: Sequence[float],
    settings: ClassifierSettings,
    trainer: TrainerSettings,
    folder: Path,
    *,
    validation: tuple[NDArray[np.float32] | classifier.Texts, Sequence[float]] | None = None,
    encoder: str | Path | None = None,
    revision: str | None = None,
    loader: str = "",
    seed: int,
    stage: str,
    on_progress: Progress | None = None,
    on_saved: Callable[[Saved], None] | None = None,
    on_logged: OnLogged | None = None,
) -> Classifier:
    """Train a classifier with labels 0 … classes − 1, or a regression (`settings.target`).

    Args:
        items: sentence vectors [n, d], or sentences or pairs of sentences if `encoder` is given.
        labels: one for each item.
        settings: what to train, and how.
        trainer: where to train.
        folder: for checkpoints; what an interrupted call left in it is gone on with.
        validation: held-out items with their labels; without them, `settings.validation_share` of the items.
        encoder: folder or Hub id of an encoder; `settings.weights` says what of it is trained.
        revision: of a Hub id; None is the newest.
        loader: `module:function` of a room above this one that loads `encoder` and its tokenizer from path and
            revision, in each process that trains; empty: transformers' own classes.
        seed: of the study.
        stage: names this training's random numbers.
        on_progress: called with (steps done, all steps).
        on_saved: called after each checkpoint.
        on_logged: called with each point of a loss curve.

    Raises:
        UserError: nothing to train on, one class only, or fewer items than one batch takes.
        Fault: the checkpoint in `folder` is damaged or another training's.
    """
    if len(items) == 0:
        raise UserError("there are no sentences to train a classifier on")
    classifier.check_labels(labels, len(items), settings.target)
    data = _labelled(items, labels, settings, folder, "features" if encoder is None else "")
    if validation is not None:
        name = "validation_features" if encoder is None else ""
        data["validation"] = _labelled(*validation, settings, folder, name)
    job = _job("classifier", encoder or "", data, settings, trainer, seed, stage, folder)
    built, _ = _run(replace(job, revision=revision, loader=loader), on_progress, on_saved, on_logged)
    assert isinstance(built.module, classifier.ClassifierModule)  # noqa: S101 - tells the type checker
    return Classifier(built.module.eval(), built.tokenizer, settings.max_length, _device(trainer))


def _labelled(
    items: NDArray[np.float32] | classifier.Texts,
    labels: Sequence[float],
    settings: ClassifierSettings,
    folder: Path,
    features: str,
) -> dict[str, Any]:
    """Return labelled items as plain data; vectors lie in a file of that name beside the checkpoints."""
    plain = [float(label) if settings.target == "number" else int(label) for label in labels]
    if not features:
        texts = [item if isinstance(item, str) else [str(side) for side in item] for item in items]
        return {"sentences": texts, "labels": plain}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{features}.npy"
    np.save(path, np.asarray(items, dtype=np.float32))
    return {"features": str(path), "labels": plain}


def work(
    job: Job,
    on_progress: Progress | None = None,
    on_saved: Callable[[Saved], None] | None = None,
    on_logged: OnLogged | None = None,
) -> tuple[Built, Fitted]:
    """Build and fit a job in this process, alone or as one of several workers."""
    built = build(job)
    owner = _owner(job, built)
    fitted = fit(
        built.module,
        built.data,
        job.trainer_settings,
        Path(job.folder),
        owner=owner,
        on_progress=on_progress,
        on_saved=on_saved,
        on_logged=on_logged,
    )
    return built, fitted


def build(job: Job) -> Built:
    """Return the module and data of a job, equal in every process that builds it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if job.task not in _SETTINGS:
        return Built(*_plm_task(job.task).build(job))
    return {"causal_lm": _causal_lm, "contrastive": _contrastive, "classifier": _classifier}[job.task](job)


def _plm_task(task: str) -> Any:
    return importlib.import_module(task)


def _causal_lm(job: Job) -> Built:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    settings = CausalLMSettings.model_validate(job.settings)
    tokenizer = AutoTokenizer.from_pretrained(job.model, revision=job.revision or "main")
    examples = [causal_lm.CausalExample(*row) for row in job.data]
    data = causal_lm.causal_data(examples, tokenizer, settings, seed=job.seed, stage=job.stage)
    # Frozen weights may be kept in bfloat16; those that are trained need float32 to take small steps.
    frozen = settings.weights == "lora" and uses_bfloat16(job.trainer_settings)
    config = AutoConfig.from_pretrained(job.model, revision=job.revision or "main")
    model = AutoModelForCausalLM.from_pretrained(
        job.model,
        revision=job.revision or "main",
        dtype=torch.bfloat16 if frozen else torch.float32,
        attn_implementation=causal_lm.attention_of(config),
        use_safetensors=True,
    )
    if settings.weights == "lora":
        model = causal_lm.add_lora(
            model, settings.lora, dropout=settings.lora.dropout, task="CAUSAL_LM", seed=job.seed, stage=job.stage
        )
    _set_up(model, job.trainer_settings)
    module = causal_lm.CausalLMModule(model, settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps)
    return Built(module, data, tokenizer)


def _contrastive(job: Job) -> Built:
    from transformers import AutoModel, AutoTokenizer

    settings = ContrastiveSettings.model_validate(job.settings)
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    pairs = [(first, second) for first, second in job.data]
    data = contrastive.contrastive_data(pairs, tokenizer, settings, seed=job.seed, stage=job.stage)
    model = AutoModel.from_pretrained(job.model, dtype=torch.float32, use_safetensors=True)
    _drop_unused(model)
    _set_up(model, job.trainer_settings)
    module = contrastive.ContrastiveModule(
        model, settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps
    )
    return Built(module, data, tokenizer)


def _classifier(job: Job) -> Built:
    settings = ClassifierSettings.model_validate(job.settings)
    encoder, tokenizer = _load_encoder(job) if job.model else (None, None)
    labels, validation = job.data["labels"], job.data.get("validation")
    inputs = _inputs(job.data, tokenizer, settings)
    given = (_inputs(validation, tokenizer, settings), validation["labels"]) if validation else None
    outputs = 1
    if settings.target == "class":
        outputs = int(max(labels + (validation["labels"] if validation else []))) + 1
    width = inputs.shape[1] if encoder is None else encoder.config.get_text_config().hidden_size
    frozen = encoder is not None and settings.weights == "frozen"
    if encoder is not None:
        encoder = _trainable(encoder, job, settings)
    shared: dict[str, Any] = {"seed": job.seed, "stage": job.stage}

    def module(total_steps: int) -> classifier.ClassifierModule:
        return classifier.ClassifierModule(outputs, width, settings, encoder=encoder, total_steps=total_steps, **shared)

    if frozen:
        inputs = _sentence_vectors(module(1), inputs, tokenizer, job.trainer_settings)
        given = given and (_sentence_vectors(module(1), given[0], tokenizer, job.trainer_settings), given[1])
    collate = _collate(None if frozen else tokenizer)
    data = classifier.labelled_data(inputs, labels, collate, settings, validation=given, **shared)
    built = module(data.total_steps)
    if encoder is None or frozen:
        built.standardize(torch.from_numpy(inputs))
    if settings.target == "number":
        built.standardize_labels(labels)
    return Built(built, data, tokenizer)


def _inputs(data: dict[str, Any], tokenizer: Any, settings: ClassifierSettings) -> Any:
    if "features" in data:
        return np.load(data["features"])
    texts = [text if isinstance(text, str) else tuple(text) for text in data["sentences"]]
    return classifier.encode(texts, tokenizer, settings.max_length)


def _collate(tokenizer: Any) -> Callable[[Sequence[Any]], dict[str, Any]]:
    if tokenizer is None:
        return classifier.collate_vectors
    return partial(classifier.collate_tokens, tokenizer=tokenizer)


def _load_encoder(job: Job) -> tuple[Any, Any]:
    """Return a job's encoder and its tokenizer; weights that its files lack are drawn from the job's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(job.seed, job.stage, "encoder"))
        if job.loader:
            module, function = job.loader.split(":")
            loaded: tuple[Any, Any] = getattr(importlib.import_module(module), function)(job.model, job.revision)
            return loaded
        from transformers import AutoModel, AutoTokenizer

        chosen = {"revision": job.revision or "main"}
        encoder = AutoModel.from_pretrained(job.model, dtype=torch.float32, use_safetensors=True, **chosen)
        return encoder, AutoTokenizer.from_pretrained(job.model, **chosen)


def _trainable(encoder: Any, job: Job, settings: ClassifierSettings) -> Any:
    """Return the encoder with what `settings.weights` names ready to be trained, and all else frozen."""
    if settings.weights == "frozen":
        return encoder.requires_grad_(False).eval()
    if settings.weights == "lora":
        encoder = causal_lm.add_lora(
            encoder,
            settings.lora,
            dropout=settings.lora.dropout,
            task="FEATURE_EXTRACTION",
            seed=job.seed,
            stage=job.stage,
        )
    _drop_unused(encoder)
    _set_up(encoder, job.trainer_settings)
    return encoder


def _sentence_vectors(
    module: classifier.ClassifierModule, rows: Sequence[classifier.Tokens], tokenizer: Any, trainer: TrainerSettings
) -> NDArray[np.float32]:
    """Return a frozen encoder's vectors [n, d]: computed once, not in every epoch."""
    device = _device(trainer)
    module.eval().to(device)
    order = np.argsort([len(row.ids) for row in rows], kind="stable")
    vectors = np.empty((len(rows), module.head.in_features), dtype=np.float32)
    for chunk in np.array_split(order, -(-len(rows) // 64)):
        batch = classifier.collate_tokens([rows[number] for number in chunk], tokenizer)
        with torch.inference_mode():
            vectors[chunk] = module.vectors({name: part.to(device) for name, part in batch.items()}).cpu().numpy()
    module.to("cpu")
    return vectors


def _device(trainer: TrainerSettings) -> str:
    """Return the torch device of this process."""
    return "cpu" if resolve_accelerator(trainer) == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def _set_up(model: Any, trainer: TrainerSettings) -> None:
    """Switch dropout on (loading switched it off), and gradient checkpointing as asked."""
    model.train()
    if trainer.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if hasattr(model, "enable_input_require_grads"):
            model.enable_input_require_grads()


def _drop_unused(encoder: Any) -> None:
    """Freeze BERT's pooler: no loss here reads it, and DDP waits for the gradient of every trained weight."""
    pooler = getattr(encoder, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)


def _job(
    task: str,
    model: str | Path,
    data: Any,
    settings: OptimizationSettings,
    trainer: TrainerSettings,
    seed: int,
    stage: str,
    folder: Path,
) -> Job:
    # A caller's settings may have fields of its own: what the training knows is what its checkpoints belong to.
    known = set((_SETTINGS.get(task) or _plm_task(task).SETTINGS).model_fields)
    plain = (settings.model_dump(include=known), json.loads(trainer.model_dump_json()))
    return Job(task, str(model), data, *plain, seed, stage, str(folder))


def _run(
    job: Job,
    on_progress: Progress | None,
    on_saved: Callable[[Saved], None] | None,
    on_logged: OnLogged | None,
) -> tuple[Built, Fitted]:
    with computing_into(Path(job.folder)):
        return _run_anywhere(job, on_progress, on_saved, on_logged)


def _run_anywhere(
    job: Job,
    on_progress: Progress | None,
    on_saved: Callable[[Saved], None] | None,
    on_logged: OnLogged | None,
) -> tuple[Built, Fitted]:
    if job.trainer_settings.world_size == 1 and not job.trainer_settings.launcher:
        return work(job, on_progress, on_saved, on_logged)
    built = build(job)  # before any worker starts: bad data is one line from here, not a line from each of them
    owner, folder = _owner(job, built), Path(job.folder)
    launch(job, on_progress, on_saved, on_logged)
    best = folder / BEST
    wanted = best if built.module.optimization.keep == "best" and best.exists() else folder / LAST
    built.module.load_state_dict(read_checkpoint(wanted, owner)["state_dict"], strict=False)
    last = read_checkpoint(folder / LAST, owner)
    built.module.on_load_checkpoint(last)
    steps = int(last["global_step"])
    return built, Fitted(folder / LAST, best if best.exists() else None, steps)


def _export(job: Job, fitted: Fitted, write: Callable[[Path], None]) -> Trained:
    target = Path(job.folder) / TRAINED
    with folder_written_aside(target) as aside, computing_into(target):
        write(aside)
    return Trained(target, fitted.last, fitted.best, fitted.steps)


def _write_whole(built: Built, target: Path) -> None:
    """Write a whole model, adapters merged, and its tokenizer."""
    trained = built.module.model
    whole = trained.merge_and_unload() if hasattr(trained, "merge_and_unload") else trained
    whole.save_pretrained(target)
    built.tokenizer.save_pretrained(target)


def _owner(job: Job, built: Built) -> str:
    """Return what a checkpoint of this job belongs to: never a path, so that folders may be moved."""
    return fingerprint(job.task, job.settings, _without_paths(job.data), job.seed, job.stage, _digest(built.module))


def _without_paths(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {key: _without_paths(value) for key, value in data.items() if key != "features"}


def _digest(module: TrainingModule) -> str:
    """Return a digest of names, shapes and a sample of each parameter, alike in float32 and bfloat16."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weights in module.state_dict().items():
        sample = weights.detach().flatten()[:64].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name}{tuple(weights.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
