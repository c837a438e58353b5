import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fairloop.errors import Fault, UserError
from fairloop.training import launch
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.settings import ContrastiveSettings, TrainerSettings
from masked_models import tiny_masked
from tiny_models import pairs, tiny_encoder, tiny_generator, tiny_masked_lm
from trainings import trained

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """Loss and gradients of one step, by one process and by two (CPU, gloo, Lightning's DDP)."""
    folder = tmp_path_factory.mktemp("two")
    tiny_generator(folder / "generator")
    tiny_encoder(folder / "encoder")
    tiny_masked(folder / "masked")
    tiny_masked_lm(folder / "masked_lm")
    sys.path.append(str(SCRIPT.parent))
    from two_processes import step_of_each

    one = step_of_each(folder, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "NODE_RANK": "0",
    }
    command = [sys.executable, str(SCRIPT), str(folder), "2"]
    workers = [subprocess.Popen(command, env=environment | {"LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return one, torch.load(folder / "two.pt", weights_only=True)


@pytest.mark.parametrize(
    "name",
    [
        "contrastive",
        "fair_gender",
        "causal_lm lora",
        "causal_lm full",
        "classifier",
        "language_modeling",
        "orthogonality",
        "prompt_divergence",
        "pair_alignment",
    ],
)
def test_two_processes_give_the_loss_and_gradients_of_one(gradients, name):
    one, two = gradients[0][name], gradients[1][name]
    assert one.keys() == two.keys()
    assert len(one) > 2
    for key in one:
        # A small number in a gradient of larger ones is what is left of a sum over tokens: it is rounded as they are.
        scale = max(1.0, float(one[key].abs().max()))
        assert torch.allclose(one[key], two[key], rtol=1e-5, atol=1e-6 * scale), key
    assert max(float(value.abs().max()) for key, value in two.items() if key != "loss") > 1e-4


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python")


@pytest.mark.slow
@pytest.mark.parametrize("started_by", [(), TORCHRUN], ids=["itself", "torchrun"])
def test_a_training_started_in_two_workers_matches_one_process(tmp_path, started_by):
    from safetensors.torch import load_file

    model = tiny_encoder(tmp_path / "encoder")
    settings = ContrastiveSettings(batch_size=7, epochs=2, learning_rate=1e-3)
    results, progress, curves = {}, [], {1: [], 2: []}
    for devices, launcher in ((1, ()), (2, started_by)):
        trainer = TrainerSettings(
            accelerator="cpu",
            devices=devices,
            strategy="ddp",
            precision="float32",
            threads=1,
            checkpoint_every_steps=2,
            launcher=launcher,
        )
        results[devices] = trained(
            ContrastiveTask(settings, tuple(pairs())),
            model,
            trainer,
            tmp_path / str(devices),
            on_progress=lambda done, total: progress.append((done, total)),
            on_logged=lambda *point, number=devices: curves[number].append(point),
        )
    one, two = (load_file(results[n].folder / "model.safetensors") for n in (1, 2))
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)
    assert progress == [(n, 6) for n in range(1, 7)] * 2
    assert all((tmp_path / "2" / name).is_file() for name in ("last.ckpt", "best.ckpt"))
    assert [point[:2] for point in curves[2]] == [("train/s", step) for step in range(1, 7)]  # the first worker's
    for (_, _, one), (_, _, two) in zip(curves[1], curves[2], strict=True):
        assert two == pytest.approx(one, rel=1e-3)  # the mean over both workers
    assert not list(tmp_path.rglob("lightning_logs"))


@pytest.mark.parametrize(
    ("status", "error", "said"), [(2, UserError, "^plm.path=x: no$"), (1, Fault, "process 1 ended with status 1: plm")]
)
def test_a_mistake_is_one_whichever_process_finds_it_first(tmp_path, status, error, said):
    """The first process may be ended for the second one's failure before it can tell of its own."""
    workers = [subprocess.Popen(["sh", "-c", command]) for command in ("kill -9 $$", f"exit {status}")]
    for rank, text in enumerate(["", "a warning\nplm.path=x: no\n"]):
        (tmp_path / f"{rank}.log").write_text(text)
    with pytest.raises(error, match=said):
        launch._wait(workers, tmp_path, 60)


@pytest.mark.slow
def test_a_worker_that_fails_ends_the_training_with_one_line(tmp_path, monkeypatch):
    from fairloop.training import train

    model = tiny_encoder(tmp_path / "encoder")
    trainer = TrainerSettings(accelerator="cpu", devices=2, strategy="ddp", precision="float32", threads=1)
    begin = train.launch
    monkeypatch.setattr(train, "launch", lambda job: begin(replace(job, model=str(tmp_path / "absent"))))
    with pytest.raises(UserError, match=r"^study.encoder=.*absent: no such folder"):
        trained(ContrastiveTask(ContrastiveSettings(batch_size=4), tuple(pairs())), model, trainer, tmp_path / "x")
