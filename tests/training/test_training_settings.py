import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from fairloop.errors import UserError
from fairloop.training.settings import CausalLMSettings, TrainerSettings
from fairloop.training.trainer import build_trainer, resolve_accelerator, uses_bfloat16

CONF = Path(__file__).parents[2] / "conf" / "trainer"
CHOICES = ("cpu", "gpu", "ddp", "ddp_cpu", "fsdp", "multinode")


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_is_valid_names_every_field_and_decides_nothing(name):
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    settings = TrainerSettings.model_validate(content)
    assert content.keys() == TrainerSettings.model_fields.keys()
    assert settings.name == name
    assert settings.deciding() == {}
    assert (CONF / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"strategy": "fsdp", "accelerator": "cpu"}, "trainer.strategy=fsdp: needs trainer.accelerator=gpu"),
        ({"nodes": 2}, "trainer.nodes=2: needs trainer.launcher"),
        ({"devices": 0}, "greater than or equal to 1"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_go_together_is_refused(change, line):
    with pytest.raises(ValidationError, match=line):
        TrainerSettings(**change)


def test_ranges_are_checked():
    for wrong in (
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"epochs": 0},
        {"validation_share": 0.9},
        {"lora": {"rank": 0}},
    ):
        with pytest.raises(ValidationError):
            CausalLMSettings.model_validate(wrong)


def test_settings_do_not_import_torch():
    code = "import sys, fairloop.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(tmp_path):
    assert resolve_accelerator(TrainerSettings(accelerator="auto")) == "cpu"
    with pytest.raises(UserError, match=r"^trainer.accelerator=gpu: no GPU on this machine; use cpu or auto$"):
        build_trainer(TrainerSettings(accelerator="gpu"), tmp_path, max_steps=1)


def test_precision_is_what_was_asked_for(tmp_path):
    for precision, wanted in (("float32", "32-true"), ("bfloat16", "bf16-mixed")):
        settings = TrainerSettings(accelerator="cpu", precision=precision)
        assert uses_bfloat16(settings) == (precision == "bfloat16")
        assert build_trainer(settings, tmp_path, max_steps=1).precision == wanted


def test_an_interrupted_training_is_an_interruption(tmp_path, monkeypatch):
    """Lightning ends the process with status 1 on Ctrl-C; the command has to end with 130 and its own line."""
    from types import SimpleNamespace

    from fairloop.training import trainer

    def fit(*_, **__):
        raise SystemExit(1)

    monkeypatch.setattr(trainer, "build_trainer", lambda *_, **__: SimpleNamespace(fit=fit))
    module = SimpleNamespace(parts=1, patience=0)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(module, SimpleNamespace(total_steps=3), TrainerSettings(accelerator="cpu"), tmp_path, owner="x")
