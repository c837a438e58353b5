"""One training step of each module: run as one process, or as one of two; the first writes the gradients to a file.

Started by test_training_two_processes.py as `two_processes.py FOLDER DEVICES`, with LOCAL_RANK set if there are two.
"""

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from plm_jobs import plm_jobs

from fairloop.training.causal_lm import CausalExample
from fairloop.training.job import Job
from fairloop.training.plm_settings import FairGenderSettings
from fairloop.training.settings import (
    CausalLMSettings,
    ClassifierSettings,
    ContrastiveSettings,
    TrainerSettings,
)
from fairloop.training.tasks import build
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


def jobs(folder: Path, trainer: dict) -> dict[str, Job]:
    sentences = [
        CausalExample(" ".join(first.split()[:3]), first[len(" ".join(first.split()[:3])) :]) for first, _ in pairs()
    ]
    # One long sentence among short ones: the processes then hold different numbers of tokens.
    sentences[0] = CausalExample("the nurse", " said that she will be there today and checked the chart of the teacher")
    examples = [[e.prompt, e.sentence, e.ended] for e in sentences[:BATCH]]
    duplicated = [list(pair) for pair in [*pairs()[: BATCH - 2], pairs()[0], pairs()[1][::-1]]]
    step = {"batch_size": BATCH, "max_steps": 1, "warmup_share": 0.0, "clip_norm": 0.0}
    lora, full = CausalLMSettings(**step), CausalLMSettings(weights="full", **step)
    contrast, classify = ContrastiveSettings(**step), ClassifierSettings(**step)
    people = [{"male": first, "female": second, "target": first.split()[1], "weight": 0.5 + n / BATCH,
               "neighbours": [n, (n + 2) % BATCH], "mixture": [0.7, 0.3]}
              for n, (first, second) in enumerate(pairs()[:BATCH])]  # fmt: skip
    material = {"kind": "masked", "pairs": people, "neutral": ["read the report", "built a plan with care and lunch ."],
                "held_out_pairs": [], "held_out_neutral": []}  # fmt: skip
    absorb = FairGenderSettings(mask_share=0.3, **step)
    features = np.random.default_rng(0).normal(size=(BATCH, 8)).astype(np.float32)
    np.save(folder / "features.npy", features) if not (folder / "features.npy").exists() else None
    vectors = {"features": str(folder / "features.npy"), "labels": [0, 1, 2, 0, 1, 2, 0]}
    rest = (trainer, 0, "two", str(folder))
    return {
        "causal_lm lora": Job("causal_lm", str(folder / "generator"), examples, lora.model_dump(), *rest),
        "causal_lm full": Job("causal_lm", str(folder / "generator"), examples, full.model_dump(), *rest),
        "contrastive": Job("contrastive", str(folder / "encoder"), duplicated, contrast.model_dump(), *rest),
        "fair_gender": Job(
            "fairloop.debias.fair_gender.loss", str(folder / "masked_lm"), material, absorb.model_dump(), *rest
        ),
        "classifier": Job("classifier", "", vectors, classify.model_dump(), *rest),
    } | plm_jobs(folder / "masked", rest, BATCH, max_steps=1, warmup_share=0.0, clip_norm=0.0)


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
    for name, job in jobs(folder, settings.model_dump(mode="json")).items():
        built, gradients = build(job), Gradients()
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
