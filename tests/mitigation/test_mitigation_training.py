import hashlib
import logging
import re

import pytest
import torch

from fairloop.corpus.annotation import annotate
from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.table import make_corpus
from fairloop.errors import Fault
from fairloop.generation.prompts import base_prompt
from fairloop.generation.requests import Request
from fairloop.generation.settings import ModelSettings
from fairloop.mitigation.base import Training
from fairloop.mitigation.compose import compose, validate
from fairloop.mitigation.generators import load_generator
from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.settings import CausalLMSettings, TrainerSettings
from tiny_models import tiny_encoder, tiny_generator
from trainings import trained
from unit_vectors import alignment, uniformity

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=4)
MEN = ("electrician", "firefighter", "machinist", "pilot", "welder")
WOMEN = ("dietitian", "hairdresser", "housekeeper", "nurse", "receptionist")
PLOTS = (
    "said that {} will be there today .",
    "wrote the report before {} went to lunch .",
    "said {} checked the chart .",
    "built a plan and then {} read it with care .",
)
TEXT = " ".join((*MEN, *WOMEN, *PLOTS, "The the he she : Everyday sentences about people at work"))
WORDS = sorted(set(re.findall(r"[\w']+|[.,:]", TEXT)))


def corpus(stereotypical=1.0):
    """Forty sentences about ten occupations; each plot's share of stereotypical ones as given."""
    rows = []
    for number, (name, plot) in enumerate((name, plot) for plot in range(len(PLOTS)) for name in (*MEN, *WOMEN)):
        he = (name in MEN) == (plot < stereotypical * len(PLOTS))
        text = f"The {name} {PLOTS[plot].format('he' if he else 'she')}"
        label = annotate(text, name)
        rows.append(
            {
                "text": text, "occupation": name, "gender": label.gender, "stereotype": label.stereotype,
                "generation": 1, "source": "generated", "item": number, "group": number // 8, "attempt": 0,
            }
        )  # fmt: skip
    return make_corpus(rows)


def mitigation(**choices):
    return compose(validate(choices))


def training(folder):
    return Training(CPU, seed=0, work=folder / "work")


# contrastive


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder"), words=WORDS)
    pull_genders_apart(folder)
    return str(folder)


def pull_genders_apart(folder):
    """Give the words he and she opposite directions, so that the encoder's vectors tell gender."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    direction = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for word, sign in (("he", 1), ("she", -1)):
            model.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids(word)] += 0.3 * sign * direction
    model.save_pretrained(folder)


def embedded(path, texts):
    from fairloop.plm.encoder import SentenceEncoder

    return torch.from_numpy(SentenceEncoder.load(path).embed(texts))


def separation(path, sentences):
    first, second = embedded(path, sentences), embedded(path, [swap_gender(text) for text in sentences])
    return alignment(first, second), uniformity(first)


def test_contrastive_brings_pairs_together_and_keeps_other_sentences_apart(encoder, tmp_path):
    chosen = mitigation(contrastive={"epochs": 10, "learning_rate": 1e-3, "batch_size": 20})
    path = chosen.encoder(corpus(), encoder, tmp_path / "out", 1, training(tmp_path))
    assert path == str(tmp_path / "out")
    before, after = separation(encoder, corpus()["text"]), separation(path, corpus()["text"])
    assert after[0] < 0.6 * before[0], (before, after)
    assert after[1] < before[1] - 0.3, (before, after)


def test_contrastive_needs_two_different_sensitive_sentences(encoder, tmp_path):
    neutral = corpus().map(lambda row: {"stereotype": 0, "gender": "none"})
    for few, count in (
        (neutral, "0 sentences"),
        (corpus().select([0]), "1 sentence"),
        (corpus().select([0, 0, 0]), "3 sentences"),
    ):
        line = f"^mitigation=contrastive: generation 2 has {count} with a stereotype and a variant; "
        with pytest.raises(Fault, match=line):
            mitigation(contrastive={}).encoder(few, encoder, tmp_path / "out", 2, training(tmp_path))
    with pytest.raises(Fault, match=r"^mitigation=contrastive: the corpus of generation 2 is empty$"):
        mitigation(contrastive={}).encoder(make_corpus([]), encoder, tmp_path / "out", 2, training(tmp_path))


def test_one_gender_only_trains_and_a_generation_with_few_pairs_warns_in_one_line(encoder, tmp_path, caplog):
    women = corpus().filter(lambda row: row["gender"] == "female")
    with caplog.at_level(logging.WARNING):
        mitigation(contrastive={"batch_size": 64, "epochs": 1}).encoder(
            women, encoder, tmp_path / "out", 3, training(tmp_path)
        )
    assert [record.getMessage() for record in caplog.records] == [
        "mitigation.contrastive.batch_size=64: generation 3 has only 20 to train on"
    ]


# finetune


def preference(generator):
    """Mean over occupations of P(he | occupation) − P(she | occupation), men's occupations counted positive and
    women's negative: 0 if the pronoun does not depend on the occupation."""
    total = 0.0
    tokenizer = generator.tokenizer
    for sign, names in ((1, MEN), (-1, WOMEN)):
        for name in names:
            prompt = base_prompt(Request(0, 0, name, ()))
            text = f"{prompt.shared}{prompt.rest} The {name} said that"
            with torch.inference_mode():
                logits = generator.model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).logits
            p = logits[0, -1].float().softmax(dim=-1)
            he, she = (float(p[tokenizer.convert_tokens_to_ids(word)]) for word in ("he", "she"))
            total += sign * (he - she)
    return total / (len(MEN) + len(WOMEN))


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A tiny model that has learned a wholly stereotypical corpus."""
    folder = tmp_path_factory.mktemp("biased")
    start = tiny_generator(folder / "start", words=WORDS)
    settings = ModelSettings(name="tiny", path=str(start), dtype="float32")
    examples = []
    for row in corpus():
        prompt = base_prompt(Request(0, 0, row["occupation"], ()))
        examples.append(CausalExample(prompt.shared + prompt.rest, f" {row['text']}\n", ended=False))
    chosen = CausalLMSettings(weights="full", epochs=60, learning_rate=5e-3, batch_size=20)
    result = trained(CausalLMTask(chosen, tuple(examples)), start, CPU, folder / "run", stage="bias")
    return settings.model_copy(update={"path": str(result.folder)})


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_finetuning_lowers_the_generators_own_preference(biased, tmp_path, weights):
    before = preference(load_generator(biased, None))
    assert before > 0.4
    chosen = mitigation(finetune={"weights": weights, "epochs": 15, "learning_rate": 5e-3, "batch_size": 20})
    # The corpus itself is wholly stereotypical: it is the strategy that balances it.
    adapted = chosen.generator(corpus(), biased, tmp_path / "out", 1, training(tmp_path))
    assert adapted == tmp_path / "out"
    after = preference(load_generator(biased, adapted))
    print({"preference": (before, after)})
    assert abs(after) < 0.25 * before, (before, after)


def test_the_finetuned_generator_writes_and_equal_calls_give_equal_adapters(biased, tmp_path):
    from collections import deque

    from fairloop.generation.requests import Attempt

    sums = []
    for name in ("a", "b"):
        folder = tmp_path / name
        mitigation(finetune={"batch_size": 20}).generator(corpus(), biased, folder / "out", 1, training(folder))
        files = sorted(path for path in (folder / "out").iterdir())
        assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in files}
        sums.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert sums[0] == sums[1]
    generator = load_generator(biased, tmp_path / "a" / "out")
    attempts = deque([Attempt.of(Request(0, 0, "nurse", ()), 0, 0, "g")])
    assert len(list(generator.complete(attempts))) == 1


def test_training_prompts_are_those_of_writing_and_never_show_the_sentence_itself(biased):
    from fairloop.mitigation.finetune import Strategy, StrategySettings

    examples = Strategy(StrategySettings(examples=3)).training_examples(corpus(), biased, seed=0, stage="s")
    assert len(examples) == 2 * len(corpus())
    texts = [example.sentence.strip() for example in examples]
    assert sorted(texts) == sorted([*corpus()["text"], *map(swap_gender, corpus()["text"])])
    for example, text in zip(examples, texts, strict=True):
        assert text not in example.prompt
        assert sum(other in example.prompt for other in set(texts)) == 3
    bare = Strategy(StrategySettings()).training_examples(corpus(), biased, seed=0, stage="s")
    plain = base_prompt(Request(0, 0, "electrician", ()))
    assert bare[0].prompt == plain.shared + plain.rest


def test_a_chat_models_answer_ends_as_its_template_ends_it(biased, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    from fairloop.mitigation.finetune import Strategy, StrategySettings

    shutil.copytree(biased.path, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "chat")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "chat")
    chat = biased.model_copy(update={"path": str(tmp_path / "chat")})
    (example, *_) = Strategy(StrategySettings()).training_examples(corpus(), chat, seed=0, stage="s")
    assert re.search(r'<user>Write one sentence with the words? "[^"]+"\.<end>\n<assistant>$', example.prompt)
    assert example.sentence == corpus()["text"][0] + "<end>"


def test_bad_input_is_one_line(biased, tmp_path):
    with pytest.raises(Fault, match=r"^mitigation=finetune: the corpus of generation 1 is empty$"):
        mitigation(finetune={}).generator(make_corpus([]), biased, tmp_path / "out", 2, training(tmp_path))
    one = corpus().select([0])
    adapted = mitigation(finetune={"examples": 4}).generator(one, biased, tmp_path / "out", 2, training(tmp_path))
    other = tiny_generator(tmp_path / "other", words=WORDS, width=64)
    with pytest.raises(Fault, match=r"this adapter was trained for the model .*, not for "):
        load_generator(biased.model_copy(update={"path": str(other)}), adapted)
    with pytest.raises(Fault, match=r"last.ckpt: a checkpoint of another model, other data or other settings"):
        mitigation(finetune={}).generator(corpus(), biased, tmp_path / "out", 2, training(tmp_path))


def test_compositions_run_all_their_hooks(biased, encoder, tmp_path):
    chosen = mitigation(augment={}, contrastive={"batch_size": 20}, finetune={"batch_size": 20}, prompt={})
    assert chosen.name == "augment+contrastive+finetune+prompt"
    chosen.check(biased, 40)
    changed = chosen.change_corpus(corpus(), 1)
    assert sum(changed["stereotype"]) == 0
    assert chosen.generator(changed, biased, tmp_path / "g", 2, Training(CPU, 0, tmp_path / "wg")) == tmp_path / "g"
    assert chosen.encoder(changed, encoder, tmp_path / "e", 1, Training(CPU, 0, tmp_path / "we")) == str(tmp_path / "e")
    assert chosen.instruction(1)


@pytest.mark.slow
@pytest.mark.embedded
def test_contrastive_training_of_minilm(tmp_path):
    from fairloop.corpus.seed import seed_corpus

    start, seeds = "embedded:all-minilm-l6-v2", seed_corpus(0.3, 300, 0.2, 0)
    held_out = seed_corpus(0.3, 200, 0.0, 1)["text"]
    path = mitigation(contrastive={"epochs": 1}).encoder(seeds, start, tmp_path / "out", 0, training(tmp_path))
    before, after = separation(start, held_out), separation(path, held_out)
    print({"alignment": (before[0], after[0]), "uniformity": (before[1], after[1])})
    assert after[0] < 0.3 * before[0]
    assert after[1] < before[1] + 0.1
