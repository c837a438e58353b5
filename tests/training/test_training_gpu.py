"""One step of each module on a GPU, the generator with the shape of Gemma 2 2B and random weights."""

import json
import time

import numpy as np
import pytest
import torch

from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.settings import CausalLMSettings, ClassifierSettings, ContrastiveSettings, TrainerSettings
from tiny_models import pairs, tiny_encoder, write_tokenizer
from trainings import classified, trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch finds none"),
]
GPU = TrainerSettings(accelerator="gpu")


def gemma_2_2b(folder):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    write_tokenizer(folder)
    config = Gemma2Config(pad_token_id=0, bos_token_id=1, eos_token_id=2)  # the defaults are those of 2B
    config.update({"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8})
    config.update({"num_key_value_heads": 4, "head_dim": 256})
    with torch.device("cuda"):
        torch.manual_seed(0)
        Gemma2ForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    torch.cuda.empty_cache()
    return folder


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_of_a_generator_the_size_of_gemma_2_2b(tmp_path, checkpointing):
    model = gemma_2_2b(tmp_path / "model")
    examples = [CausalExample("the ", first[4:]) for first, _ in pairs()] * 16
    torch.cuda.reset_peak_memory_stats()
    started, steps = time.perf_counter(), []
    trainer = GPU.model_copy(update={"gradient_checkpointing": checkpointing})
    settings = CausalLMSettings(batch_size=32)
    trained(
        CausalLMTask(settings, tuple(examples)), model, trainer, tmp_path / "run",
        on_progress=lambda done, total: steps.append(time.perf_counter() - started),
    )  # fmt: skip
    print(json.dumps({
        "checkpointing": checkpointing,
        "steps_per_second": (len(steps) - 1) / (steps[-1] - steps[0]),
        "peak_GiB": torch.cuda.max_memory_allocated() / 2**30,
    }))  # fmt: skip


def test_contrastive_and_classifier(tmp_path):
    model = tiny_encoder(tmp_path / "model")
    trained(ContrastiveTask(ContrastiveSettings(batch_size=10), tuple(pairs())), model, GPU, tmp_path / "c")
    features = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    found = classified(features, [0, 1] * 32, ClassifierSettings(), GPU, tmp_path / "d")
    assert found.probabilities(features).shape == (64, 2)
