import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fairloop.errors import Fault
from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.settings import CausalLMSettings, ContrastiveSettings, LoraSettings, TrainerSettings
from tiny_models import pairs, tiny_encoder, tiny_generator
from trainings import trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=2)
SETTINGS = ContrastiveSettings(batch_size=8, epochs=3, learning_rate=1e-3, validation_share=0.1)


class StoppedError(Exception):
    pass


def checksum(folder: Path) -> str:
    return hashlib.sha256(next(folder.glob("*.safetensors")).read_bytes()).hexdigest()


def train(model, folder, settings=SETTINGS, stop_at=None, data=None, seed=0):
    seen = []

    def on_progress(done, total):
        seen.append(done)
        if done == stop_at:
            raise StoppedError

    torch.manual_seed(len(seen) + os.getpid())  # what ran before must not matter
    task = ContrastiveTask(settings, tuple(data or pairs()))
    return trained(task, model, CPU, folder, seed=seed, on_progress=on_progress), seen


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), dropout=0.2)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_training_interrupted_after_any_step_ends_with_the_same_weights(encoder, tmp_path, keep):
    settings = SETTINGS.model_copy(update={"keep": keep})
    whole, steps = train(encoder, tmp_path / "whole", settings)
    assert steps == list(range(1, 10))  # 18 pairs, 3 batches of 6, 3 epochs
    for stop in range(1, 10):  # each attempt begins at the last checkpoint of those before it
        with pytest.raises(StoppedError):
            train(encoder, tmp_path / "parts", settings, stop_at=stop)
    resumed, rest = train(encoder, tmp_path / "parts", settings)
    assert rest == [9], "did not go on"
    assert checksum(resumed.folder) == checksum(whole.folder)


def test_a_finished_training_is_not_repeated(encoder, tmp_path):
    first, _ = train(encoder, tmp_path)
    before = checksum(first.folder)
    again, steps = train(encoder, tmp_path)
    assert steps == []
    assert checksum(again.folder) == before


def test_max_steps_ends_inside_an_epoch_and_is_resumed(encoder, tmp_path):
    settings = SETTINGS.model_copy(update={"max_steps": 5})
    whole, steps = train(encoder, tmp_path / "whole", settings)
    assert steps == [1, 2, 3, 4, 5]
    with pytest.raises(StoppedError):
        train(encoder, tmp_path / "parts", settings, stop_at=5)
    resumed, steps = train(encoder, tmp_path / "parts", settings)
    assert steps == [5]
    assert checksum(resumed.folder) == checksum(whole.folder)


def test_dropout_and_order_depend_on_the_seed(encoder, tmp_path):
    sums = {checksum(train(encoder, tmp_path / str(seed), seed=seed)[0].folder) for seed in (0, 1)}
    assert len(sums) == 2


EXAMPLES = tuple(CausalExample("the ", first[4:]) for first, _ in pairs())
LORA = CausalLMSettings(batch_size=8, epochs=3, learning_rate=1e-2, lora=LoraSettings(dropout=0.2))


def test_killed_in_the_middle_and_started_again_gives_the_same_weights(tmp_path):
    model = tiny_generator(tmp_path / "model", dropout=0.1)
    script = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from test_training_resume import CPU, EXAMPLES, LORA, CausalLMTask, trained
def kill(done, total):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
model, folder = Path({str(model)!r}), Path({str(tmp_path / "killed")!r})
trained(CausalLMTask(LORA, EXAMPLES), model, CPU, folder, on_progress=kill)
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=240, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "trained").exists()
    seen = []
    task = CausalLMTask(LORA, EXAMPLES)
    again = trained(task, model, CPU, tmp_path / "killed", on_progress=lambda done, _: seen.append(done))
    assert seen == [5, 6, 7, 8, 9]  # the checkpoint after step 4, in the second epoch
    whole = trained(task, model, CPU, tmp_path / "whole")
    assert checksum(again.folder) == checksum(whole.folder)
    for name in ("adapter_config.json", "tokenizer.json"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_checkpoint_of_another_model_data_or_settings_is_refused_in_one_line(encoder, tmp_path):
    train(encoder, tmp_path / "run")
    wide = tiny_encoder(tmp_path / "wide", width=64)
    for change in (
        {"model": wide},
        {"data": pairs()[:-1]},
        {"settings": SETTINGS.model_copy(update={"temperature": 0.1})},
        {"seed": 1},
    ):
        with pytest.raises(
            Fault, match=r"last.ckpt: a checkpoint of another model, other data or other settings"
        ) as info:
            train(**{"model": encoder, "folder": tmp_path / "run"} | change)
        assert "\n" not in str(info.value)


def test_a_damaged_checkpoint_is_named(encoder, tmp_path):
    result, _ = train(encoder, tmp_path)
    content = result.fit.last.read_bytes()
    result.fit.last.write_bytes(content[: len(content) // 2])
    with pytest.raises(Fault, match=r"last.ckpt: not a readable checkpoint"):
        train(encoder, tmp_path)


def test_checkpoints_are_read_without_running_code_and_hold_trained_weights_only(tmp_path):
    model = tiny_generator(tmp_path / "model")
    result = trained(CausalLMTask(LORA, EXAMPLES), model, CPU, tmp_path / "run")
    content = torch.load(result.fit.last, weights_only=True)
    assert content["state_dict"]
    assert all("lora_" in name for name in content["state_dict"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"last.ckpt", "best.ckpt", "trained"}


def test_training_prints_nothing_and_leaves_the_process_as_it_was(encoder, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.use_deterministic_algorithms(False)
    trained(ContrastiveTask(SETTINGS, tuple(pairs())), encoder, CPU, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    output = capfd.readouterr()
    assert output.out == ""
    assert "Tip" not in output.err
    assert "GPU available" not in output.err


def test_a_loss_that_is_no_number_ends_the_training(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr("fairloop.training.contrastive.info_nce", lambda vectors, *_: vectors.sum() * float("inf"))
    with pytest.raises(Fault, match=r"^training: the loss became (nan|inf|-inf) at step 1$"):
        train(encoder, tmp_path)
