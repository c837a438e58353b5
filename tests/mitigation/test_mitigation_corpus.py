from itertools import permutations
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.corpus.annotation import annotate
from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.seed import seed_corpus
from fairloop.corpus.table import make_corpus
from fairloop.errors import Fault, UserError
from fairloop.generation.settings import ModelSettings
from fairloop.mitigation.compose import compose, strategies, validate

CONF = Path(__file__).parents[2] / "conf" / "mitigation"
ALL = ("augment", "contrastive", "contrastive_augment", "finetune", "prompt")
MODEL = ModelSettings(name="m", path="embedded:gemma-3-270m")


def net_rate(corpus):
    return sum(corpus["stereotype"]) / len(corpus)


def mitigation(*names):
    return compose(validate({name: {} for name in names}))


def rows(*texts, occupation="nurse", generation=1):
    made = []
    for item, text in enumerate(texts):
        label = annotate(text, occupation)
        made.append(
            {
                "text": text, "occupation": occupation, "gender": label.gender, "stereotype": label.stereotype,
                "generation": generation, "source": "generated", "item": item, "group": item // 2, "attempt": 0,
            }
        )  # fmt: skip
    return make_corpus(made)


def test_every_strategy_is_one_file_and_one_yaml_that_names_every_setting():
    assert strategies() == ALL
    for name in ALL:
        content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        assert list(content) == [name]
        found = validate(content)[name]
        assert content[name].keys() == type(found).model_fields.keys()
        assert found == type(found)()
        assert found.deciding() == found.model_dump()


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.1, 0.3, 0.6, 1.0]), st.integers(20, 200), st.integers(0, 99))
def test_swapping_makes_the_net_stereotype_rate_exactly_zero(level, sentences, seed):
    corpus = seed_corpus(level, sentences, 0.2, seed)
    assert net_rate(corpus) > 0
    for name in ("augment", "contrastive"):
        changed = mitigation(name).change_corpus(corpus, 0)
        assert net_rate(changed) == 0
        assert changed["gender"].count("male") == changed["gender"].count("female") or name == "contrastive"


def test_both_readings_of_contrastive_augmentation_add_the_same_and_one_of_them_trains_nothing():
    corpus = seed_corpus(0.3, 200, 0.2, 0)
    both = [mitigation(name) for name in ("contrastive", "contrastive_augment")]
    first, second = (one.change_corpus(corpus, 1).to_list() for one in both)
    assert first == second
    added = [row for row in second if row["source"] == "counterfactual"]
    assert len(added) == sum(sigma != 0 for sigma in corpus["stereotype"])
    assert [one.trains_encoder for one in both] == [True, False]


def test_augment_adds_the_variant_of_every_gendered_sentence_and_nothing_else():
    corpus = seed_corpus(0.3, 200, 0.2, 0)
    changed = mitigation("augment").change_corpus(corpus, 0)
    added = changed.filter(lambda row: row["source"] == "counterfactual")
    kept = changed.filter(lambda row: row["source"] != "counterfactual")
    assert kept.to_list() == corpus.to_list()
    gendered = corpus.filter(lambda row: row["gender"] != "none")
    assert added["text"] == [swap_gender(text) for text in gendered["text"]]
    assert added["item"] == gendered["item"]
    for row in added:
        fresh = annotate(row["text"], row["occupation"])
        original = corpus[row["item"]]
        if annotate(original["text"], row["occupation"]).gender == original["gender"]:
            assert (fresh.gender, fresh.stereotype) == (row["gender"], row["stereotype"])


def test_contrastive_adds_variants_of_stereotypical_and_anti_stereotypical_sentences_only():
    nurses = rows("The nurse said she was late.", "The nurse said he was late.", "The nurse was late.")
    changed = mitigation("contrastive").change_corpus(nurses, 1)
    assert changed["text"] == [
        "The nurse said she was late.",
        "The nurse said he was late.",
        "The nurse said he was late.",
        "The nurse said she was late.",
        "The nurse was late.",
    ]
    balanced = rows("The accountant said she was late.", occupation="accountant")
    assert balanced["stereotype"] == [0]
    assert mitigation("contrastive").change_corpus(balanced, 1).to_list() == balanced.to_list()
    assert len(mitigation("augment").change_corpus(balanced, 1)) == 2


def test_variants_are_added_once_in_whatever_order_strategies_come():
    corpus = seed_corpus(0.3, 60, 0.2, 0)
    parts = [mitigation(name) for name in ("augment", "contrastive", "prompt")]
    results = []
    for order in permutations(parts):
        changed = corpus
        for part in order:
            changed = part.change_corpus(changed, 0)
        results.append(sorted(map(str, changed.to_list())))
    whole = mitigation("prompt", "contrastive", "augment").change_corpus(corpus, 0)
    assert all(result == results[0] == sorted(map(str, whole.to_list())) for result in results)
    assert mitigation("augment").change_corpus(whole, 0).to_list() == whole.to_list()


def test_the_order_of_names_decides_nothing_and_the_name_shows_the_composition():
    first, second = validate({"prompt": {}, "augment": {}}), validate({"augment": {}, "prompt": {}})
    assert list(first.items()) == list(second.items())
    assert compose(first).name == "augment+prompt"
    assert compose({}).name == "none"


def test_none_does_nothing(tmp_path):
    nothing, corpus = compose(validate({})), seed_corpus(0.3, 20, 0.2, 0)
    nothing.check(MODEL, 1)
    assert nothing.instruction(1) == ""
    assert nothing.change_corpus(corpus, 0) is corpus
    assert nothing.encoder(corpus, "an/encoder", tmp_path, 1, None) == "an/encoder"
    assert nothing.generator(corpus, MODEL, tmp_path, 1, None) is None
    assert not nothing.trains_encoder
    assert not nothing.trains_generator
    assert mitigation(*ALL).trains_encoder
    assert mitigation(*ALL).trains_generator


def test_prompt_adds_its_instruction_to_every_prompt():
    from fairloop.generation.prompts import base_prompt
    from fairloop.generation.requests import Example, plan_requests

    chosen = compose(validate({"prompt": {"instruction": "Write\n about {everyone}."}}))
    assert chosen.instruction(2) == "Write about {everyone}."
    requests = plan_requests(
        [Example("nurse", "The nurse slept.")] * 4, ["nurse", "welder"],
        sentences=4, examples=2, group_size=2, seed=0, stage="g", instruction=chosen.instruction(1),
    )  # fmt: skip
    assert all("Write about {everyone}." in base_prompt(request).shared for request in requests)
    assert mitigation("augment").instruction(1) == ""
    assert "stereotypes" in mitigation("augment", "prompt").instruction(1)


@pytest.mark.parametrize(
    ("choices", "line"),
    [
        (
            {"argument": {}},
            "mitigation=argument: use none, augment, contrastive, contrastive_augment, finetune, prompt",
        ),
        ({"base": {}}, "mitigation=base: use none, "),
        (
            {"contrastive": {"temperature": 0.0}},
            "mitigation.contrastive.temperature=0.0: allowed is a number above 0",
        ),
        ({"finetune": {"lora": {"rank": 0}}}, "mitigation.finetune.lora.rank=0: allowed is a whole number at least 1"),
        ({"augment": {"share": 1}}, "mitigation.augment.share=1: unknown key"),
        ({"prompt": {"instruction": ""}}, "mitigation.prompt.instruction=: allowed is non-empty text"),
        ({"prompt": 3}, "mitigation.prompt=3: allowed is a group of keys"),
    ],
)
def test_a_wrong_choice_is_one_line_that_names_the_key(choices, line):
    with pytest.raises(UserError) as info:
        validate(choices)
    assert str(info.value).startswith(line)


def test_a_batch_larger_than_a_generation_is_refused_before_the_run():
    for name, line in (
        ("contrastive", "mitigation.contrastive.batch_size=999: at most study.sentences=50"),
        ("finetune", "mitigation.finetune.batch_size=999: at most 100, study.sentences with their variants"),
    ):
        chosen = compose(validate({name: {"batch_size": 999}}))
        with pytest.raises(UserError, match=f"^{line}$"):
            chosen.check(MODEL, 50)
        chosen.check(MODEL, 1000)


def test_strategies_that_train_the_same_model_do_not_compose(monkeypatch):
    from fairloop.mitigation import prompt

    monkeypatch.setattr(prompt.Strategy, "trains_generator", True)
    with pytest.raises(UserError, match=r"^mitigation=finetune,prompt: only one strategy can train the generator$"):
        mitigation("finetune", "prompt")


@pytest.mark.parametrize("name", ["augment", "contrastive"])
def test_an_empty_corpus_is_one_line(name):
    with pytest.raises(Fault, match=f"^mitigation={name}: the corpus of generation 2 is empty$"):
        mitigation(name).change_corpus(make_corpus([]), 2)


def test_one_sentence_or_one_gender_only_can_be_balanced():
    one = mitigation("augment").change_corpus(rows("The nurse said she was late."), 1)
    assert one["gender"] == ["female", "male"]
    women = rows(*(f"The nurse said she was {n} minutes late." for n in range(9)))
    assert net_rate(women) == 1
    assert net_rate(mitigation("augment").change_corpus(women, 1)) == 0
    neutral = rows("The nurse was late.")
    assert mitigation("augment").change_corpus(neutral, 1).to_list() == neutral.to_list()


def test_nothing_here_imports_torch():
    import subprocess
    import sys

    code = """
import sys
from fairloop.mitigation.compose import compose, strategies, validate
compose(validate({name: {} for name in strategies()})).instruction(1)
sys.exit(bool({"torch", "transformers", "datasets"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
