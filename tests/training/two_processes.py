"""One training step of each module: run as one process, or as one of two; the first writes the gradients to a file.

Started by test_training_two_processes.py as `two_processes.py FOLDER DEVICES`, with LOCAL_RANK set if there are two.
"""

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from plm_tasks import plm_tasks

from fairloop.debias.fair_gender.loss import IncorporationTask
from fairloop.debias.fair_gender.settings import MethodSettings as FairGender
from fairloop.debias.fair_gender.tokens import TrainingPair
from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.classify import ClassifierTask, LabelledItems, Vectors
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.hook import Training
from fairloop.training.job import TrainingJob
from fairloop.training.settings import (
    CausalLMSettings,
    ClassifierSettings,
    ContrastiveSettings,
    TrainerSettings,
)
from fairloop.training.trainer import build_trainer
from tiny_models import pairs

BATCH = 7  # uneven: four items for one process, three for the other


class Gradients(pl.Callback):
    def __init__(self):
        self.found = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found["loss"] = outputs["value"].detach().double()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.found |= {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}


def jobs(folder: Path, trainer: TrainerSettings) -> dict[str, TrainingJob]:
    sentences = [
        CausalExample(" ".join(first.split()[:3]), first[len(" ".join(first.split()[:3])) :]) for first, _ in pairs()
    ]
    # One long sentence among short ones: the processes then hold different numbers of tokens.
    sentences[0] = CausalExample("the nurse", " said that she will be there today and checked the chart of the teacher")
    examples = tuple(sentences[:BATCH])
    duplicated = (*pairs()[: BATCH - 2], pairs()[0], pairs()[1][::-1])
    step = {"batch_size": BATCH, "warmup_share": 0.0, "clip_norm": 0.0}
    once = {"max_steps": 1, **step}
    people = tuple(
        TrainingPair(first, second, first.split()[1], 0.5 + n / BATCH, (n, (n + 2) % BATCH), (0.7, 0.3))
        for n, (first, second) in enumerate(pairs()[:BATCH])
    )
    settings = FairGender(
        mask_share=0.3, lambda_r=1.0, text_weight=1.0, predicted="target", steps=1, early_stopping={"enabled": False},
        **step,
    )  # fmt: skip
    features = np.random.default_rng(0).normal(size=(BATCH, 8)).astype(np.float32)
    np.save(folder / "features.npy", features) if not (folder / "features.npy").exists() else None
    vectors = LabelledItems(Vectors("features.npy", ""), (0, 1, 2, 0, 1, 2, 0))
    neutral = ("read the report", "built a plan with care and lunch .")
    tasks = {
        "causal_lm lora": (CausalLMTask(CausalLMSettings(**once), examples), "generator"),
        "causal_lm full": (CausalLMTask(CausalLMSettings(weights="full", **once), examples), "generator"),
        "contrastive": (ContrastiveTask(ContrastiveSettings(**once), duplicated), "encoder"),
        "fair_gender": (IncorporationTask(settings, "masked", people, neutral), "masked_lm"),
        "classifier": (ClassifierTask(ClassifierSettings(**once), vectors), ""),
        **{
            name: (task, "masked") for name, task in plm_tasks(folder / "masked", BATCH, **{**step, "steps": 1}).items()
        },
    }
    training = Training(trainer, 0, folder)
    return {
        name: TrainingJob(task, str(folder / model) if model else "", training, "two")
        for name, (task, model) in tasks.items()
    }


def step_of_each(folder: Path, devices: int) -> dict[str, dict[str, torch.Tensor]]:
    settings = TrainerSettings(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="float32",
        threads=1,
        timeout_seconds=120,
    )
    results = {}
    for name, job in jobs(folder, settings).items():
        built, gradients = job.task.components(job), Gradients()
        if "lora" in name:  # B starts at zero, and with it every gradient of A
            torch.manual_seed(1)
            for key, parameter in built.module.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.1)
        trainer = build_trainer(settings, folder, max_steps=1, callbacks=[gradients])
        trainer.fit(built.module, datamodule=built.data)
        results[name] = gradients.found
    return results


if __name__ == "__main__":
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    found = step_of_each(folder, devices)
    if torch.distributed.get_rank() == 0:
        torch.save(found, folder / "two.pt")
