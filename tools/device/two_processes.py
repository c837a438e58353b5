"""The contrastive module as one of two processes on one device: `device.two_processes BERT OUT DEVICE BATCH`."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from fairloop.training.hook import Training
from fairloop.training.job import TrainingJob
from fairloop.training.settings import TrainerSettings

from .tasks import tasks


def main(bert: Path, out: Path, device: str, batch: int) -> None:
    """Compute loss and gradients of one batch alone, and then as one of two; the first writes how far they differ."""
    task = tasks(bert, batch, 1)["contrastive"]
    trainer = TrainerSettings(accelerator="gpu" if device == "cuda" else "cpu", precision="float32")
    built = task.components(TrainingJob(task, str(bert), Training(trainer, 0, out), "device"))
    module = built.module.to(device).eval()  # without dropout, which no two processes draw alike
    items = [built.data.training[number] for number in next(iter(built.data.order.epoch(0)))]

    def step(share: list[object]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        module.zero_grad()
        moved = {key: value.to(device) for key, value in built.data.collate(share).items()}
        total, _ = module.loss_parts(moved)
        total.backward()
        return total.detach(), [one.grad.clone() for one in module.parameters() if one.grad is not None]

    whole, alone = step(items)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    part, together = step(items[rank::2])
    for one in (part, *together):
        dist.all_reduce(one)
    if rank == 0:
        scale = max(float(one.abs().max()) for one in alone)
        furthest = max(float((one - two).abs().max()) for one, two in zip(alone, together, strict=True))
        far = {"loss": abs(float(part - whole)) / abs(float(whole)), "gradients": furthest / scale}
        (out / "two.json").write_text(json.dumps(far))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
