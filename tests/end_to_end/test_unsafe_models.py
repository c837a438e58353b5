"""A model that brings code, pickled weights or no such head: one line, status 2, also where somebody says yes."""

import json
import subprocess
import sys

import pytest
import torch
from command import environment

from tiny_models import tiny_masked_lm

#: Every key by which a user names a model.
WAYS = {
    "masked": ["study=evaluate", "benchmark=lpbs", "plm.kind=masked", "plm.path=FOLDER"],
    "auto": ["study=evaluate", "benchmark=lpbs", "plm.kind=auto", "plm.path=FOLDER"],
    "encoder": ["study.encoder=FOLDER"],
    "calibration": ["study=metric_calibration", "study.encoder=FOLDER"],
    "generator": ["model.path=FOLDER"],
    "fine-tuned": ["mitigation=finetune", "model.path=FOLDER"],
    "debiased": ["study=fair_gender", "plm.path=FOLDER"],
    "toxicity": [
        "study=fair_gender",
        "debias.screen.toxicity=classifier",
        "debias.screen.toxicity_model=FOLDER",
    ],
}


def answering_yes(arguments, folder):
    command = [sys.executable, "-m", "fairloop", "runs_dir=runs", "tracking=none"]
    command += [argument.replace("FOLDER", "model") for argument in arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), input="y\n" * 9, capture_output=True, text=True, timeout=300
    )


def one_line(done):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Weights & Biases")]
    assert len(lines) == 1, done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    return lines[0]


@pytest.mark.parametrize("way", WAYS)
def test_code_of_a_folder_is_not_run(tmp_path, way):
    folder = tiny_masked_lm(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    names = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM")
    own = {"model_type": "evil", "auto_map": {name: f"evil.{name}" for name in names}}
    (folder / "config.json").write_text(json.dumps(config | own))
    tokenizer = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'RUN')!r}, 'w').close()\n")
    assert "=model: it needs the code in its folder" in one_line(answering_yes(WAYS[way], tmp_path))
    assert not (tmp_path / "RUN").exists()


@pytest.mark.parametrize("way", WAYS)
def test_pickled_weights_are_not_read(tmp_path, way):
    folder = tiny_masked_lm(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "=model: the folder holds no *.safetensors" in one_line(answering_yes(WAYS[way], tmp_path))


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["plm=minilm_encoder", "plm.kind=masked"], "no masked language model: its checkpoint holds no weights for"),
        (["plm=minilm", "plm.kind=causal"], "no causal language model: this bert reads in both directions"),
    ],
    ids=["no head", "both directions"],
)
def test_a_packaged_model_of_another_kind_is_refused(tmp_path, arguments, line):
    assert line in one_line(answering_yes(["study=evaluate", "benchmark=lpbs", *arguments], tmp_path))
