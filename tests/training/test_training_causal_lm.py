import json

import numpy as np
import pytest
import torch

from fairloop.errors import Fault, UserError
from fairloop.plm.loading import merge_adapter
from fairloop.training.causal_lm import (
    CausalExample,
    CausalLMModule,
    CausalLMTask,
    SummedCrossEntropy,
    base_of,
    causal_data,
    tokenize,
)
from fairloop.training.settings import CausalLMSettings, TrainerSettings
from tiny_models import pairs, tiny_generator
from trainings import trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1)
EXAMPLES = [CausalExample(" ".join(a.split()[:2]), a[len(" ".join(a.split()[:2])) :]) for a, _ in pairs()]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return tiny_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def loaded(generator):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(generator).eval(), AutoTokenizer.from_pretrained(generator)


def one_by_one(model, tokenizer, examples):
    """Negative log-likelihood of the sentences' tokens: one sentence at a time, no padding, all positions."""
    total, count = 0.0, 0
    for example in examples:
        prompt = tokenizer(example.prompt)["input_ids"]
        ids = tokenizer(example.prompt + example.sentence)["input_ids"] + [tokenizer.eos_token_id] * example.ended
        with torch.inference_mode():
            log_p = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
        for position in range(max(1, len(prompt)), len(ids)):
            total -= float(log_p[position - 1, ids[position]])
            count += 1
    return total, count


@pytest.mark.parametrize(
    "examples",
    [
        EXAMPLES,
        [CausalExample("", first) for first, _ in pairs()],
        [CausalExample(e.prompt, e.sentence, False) for e in EXAMPLES],
    ],
)
def test_the_loss_is_the_sentences_likelihood_whatever_the_padding(loaded, examples):
    model, tokenizer = loaded
    settings = CausalLMSettings(batch_size=len(examples), weights="full")
    data = causal_data(examples, tokenizer, settings, seed=0, stage="s")
    module = CausalLMModule(model, settings, seed=0, stage="s", total_steps=1)
    (batch,) = data.train_dataloader()
    assert len(set(batch["attention_mask"].sum(dim=1).tolist())) > 1
    with torch.inference_mode():
        total, count = module.loss_parts(batch)
    expected, tokens = one_by_one(model, tokenizer, examples)
    assert int(count) == tokens
    assert float(total) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "dtype", "close"), [(1, "float32", 1e-6), (77, "float32", 1e-6), (77, "bfloat16", 4e-3)]
)
def test_the_cross_entropy_in_parts_has_torchs_value_and_gradient(rows, dtype, close):
    torch.manual_seed(0)
    logits = (3 * torch.randn(rows, 501)).to(getattr(torch, dtype)).requires_grad_(True)
    targets = torch.randint(0, 501, (rows,))
    reference = logits.detach().double().requires_grad_(True)
    expected = torch.nn.functional.cross_entropy(reference, targets, reduction="sum")
    (expected / 7).backward()
    found = SummedCrossEntropy.apply(logits, targets)
    (found / 7).backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert logits.grad.dtype == logits.dtype
    assert torch.allclose(logits.grad.double(), reference.grad, rtol=close, atol=close / 7)


def test_long_prompts_lose_their_beginning_and_long_sentences_their_end(loaded):
    _, tokenizer = loaded
    ids = tokenizer("the nurse said that he will be there today")["input_ids"]
    (row,) = tokenize([CausalExample("the nurse said that he will be", " there today")], tokenizer, 5)
    assert row.ids == [*ids[-4:], tokenizer.eos_token_id]
    assert row.start == 2
    (row,) = tokenize([CausalExample("the", " nurse said that he will be there today")], tokenizer, 5)
    assert row.ids == ids[:5]
    assert row.start == 1


def test_a_prompt_that_begins_the_text_itself_is_not_begun_twice(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_generator(tmp_path))
    from tokenizers.processors import TemplateProcessing

    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    plain, begun = tokenize([CausalExample("the", " nurse"), CausalExample("<s> the", " nurse")], tokenizer, 32)
    assert plain == begun


def likelihood(folder, base=None):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base or folder)
    model, tokenizer = merge_adapter(model, folder) if base else model, AutoTokenizer.from_pretrained(folder)
    total, count = one_by_one(model.eval(), tokenizer, EXAMPLES)
    return total / count


@pytest.mark.parametrize("weights", ["lora", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fine_tuning_raises_the_likelihood_and_the_result_loads(generator, tmp_path, weights, precision):
    settings = CausalLMSettings(batch_size=10, epochs=15, learning_rate=1e-2, weights=weights)
    trainer = CPU.model_copy(update={"precision": precision, "gradient_checkpointing": precision == "bfloat16"})
    result = trained(CausalLMTask(settings, tuple(EXAMPLES), "embedded:tiny"), generator, trainer, tmp_path)
    assert base_of(result.folder) == ("embedded:tiny" if weights == "lora" else None)
    assert (
        likelihood(result.folder, generator if weights == "lora" else None) < likelihood(generator) - 0.3
    )  # a random head is frozen with LoRA
    size = sum(path.stat().st_size for path in result.folder.glob("*.safetensors"))
    full = (generator / "model.safetensors").stat().st_size
    assert (size < 0.8 * full) == (weights == "lora")


def test_an_adapter_of_another_model_is_refused_in_one_line(generator, tmp_path):
    settings = CausalLMSettings(batch_size=10, max_steps=1)
    result = trained(CausalLMTask(settings, tuple(EXAMPLES)), generator, CPU, tmp_path / "run")
    wide = tiny_generator(tmp_path / "wide", width=64)
    with pytest.raises(Fault, match=r"this adapter was trained for another model than"):
        likelihood(result.folder, wide)


@pytest.mark.parametrize(
    "planted", [{"megatron_config": {"hidden_size": 1}, "megatron_core": "planted"}, {"peft_type": "PROMPT_TUNING"}]
)
def test_an_adapter_whose_settings_name_code_is_refused(generator, tmp_path, monkeypatch, planted):
    from transformers import AutoModelForCausalLM

    adapter = trained(
        CausalLMTask(CausalLMSettings(batch_size=10, max_steps=1), tuple(EXAMPLES)), generator, CPU, tmp_path / "run"
    ).folder
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | planted))
    with pytest.raises(Fault, match=r"adapter_config\.json is not that of a plain LoRA adapter$"):
        merge_adapter(AutoModelForCausalLM.from_pretrained(generator), adapter)
    assert not (tmp_path / "ran").exists()


def test_no_sentence_or_too_few_for_a_batch_is_one_line(generator, tmp_path):
    for examples, line in (([], "there are no sentences to train on"), (EXAMPLES[:1], "batch_size=16: at most 1, ")):
        with pytest.raises(UserError, match=f"^{line}"):
            trained(CausalLMTask(CausalLMSettings(), tuple(examples)), generator, CPU, tmp_path)
    one = CausalLMSettings(batch_size=1)
    assert trained(CausalLMTask(one, tuple(EXAMPLES[:1])), generator, CPU, tmp_path).fit.steps == 1


def test_the_learning_rate_rises_and_falls():
    module = CausalLMModule(
        torch.nn.Linear(2, 2), CausalLMSettings(warmup_share=0.25), seed=0, stage="s", total_steps=8
    )
    rates = [module.learning_rate_factor(step) for step in range(9)]
    assert np.allclose(rates, [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
