"""The held-out templates against their formula, computed sentence by sentence."""

import numpy as np
import pytest
import torch

from fairloop.benchmarks import heldout_templates as heldout
from fairloop.benchmarks.heldout_templates import HeldoutTemplatesSettings
from fairloop.benchmarks.registry import measure
from fairloop.lexicon import Target, attributes, occupation, targets

JOBS = [target.name for target in targets("heldout") if target.kind == "occupation"]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Keep a fifth of the subjects and half of the templates: the formula is the same."""
    chosen = [
        *targets("heldout")[:4],
        *targets("heldout")[8:11],
        *targets("heldout")[20:23],
        *targets("heldout")[40:43],
    ]
    full_templates, full_attributes = heldout.heldout_templates, heldout.attributes
    monkeypatch.setattr(heldout, "targets", lambda split: tuple(chosen))
    monkeypatch.setattr(heldout, "heldout_templates", lambda word: full_templates(word)[:3])
    monkeypatch.setattr(heldout, "attributes", lambda split: full_attributes(split)[:3])
    return chosen


def measured(plm):
    return measure(plm, HeldoutTemplatesSettings(resamples=200))


def sentence(template, subject, word):
    text = template.replace("{subject}", subject).replace("{word}", word)
    return text.replace("{Subject}", subject[0].upper() + subject[1:])


def subject_of(item):
    if item.kind == "occupation":
        return f"the {item.target}"
    return f"the {item.target} person" if item.kind == "trait" else f"the person who likes {item.target}"


@torch.no_grad()
def masked_odds(plm, template, subject):
    tokenizer = plm.tokenizer
    text = sentence(template, subject, tokenizer.mask_token)
    ids = torch.tensor([tokenizer.encode(text)])
    place = ids[0].tolist().index(tokenizer.mask_token_id)
    scores = torch.log_softmax(plm.models[0](ids).logits[0, place].double(), -1)
    he, she = (tokenizer.encode(f"a {word}", add_special_tokens=False)[-1] for word in ("he", "she"))
    return (scores[he] - scores[she]).item()


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert"])
def test_masked_models(tiny_plm, family):
    plm = tiny_plm(family, window=200)
    items = [item for item in measured(plm).items if item.words == "he/she"]
    assert len(items) == 13 * 3
    for item in items[::7]:
        expected = masked_odds(plm, item.template, subject_of(item))
        neutral = masked_odds(plm, item.template, "the person")
        assert item.log_odds == pytest.approx(expected, abs=2e-5)
        assert item.score == pytest.approx(expected - neutral, abs=4e-5)


@pytest.mark.parametrize("family", ["gemma3", "gemma2"])
def test_causal_models_are_scored_on_the_whole_sentence(tiny_plm, family):
    plm = tiny_plm(family, window=200)

    @torch.no_grad()
    def log_likelihood(text):
        ids = plm.tokenizer.encode(text)
        scores = torch.log_softmax(plm.models[0](torch.tensor([ids])).logits[0].double(), -1)
        return sum(scores[place - 1, ids[place]].item() for place in range(1, len(ids)))

    result = measured(plm)
    assert len(result.items) == 13 * 3 + 7 * 3 * 3
    assert not result.skipped
    phrase = {pair.name: pair for pair in attributes("heldout")}
    for item in result.items[::11]:
        words = (
            [phrase[item.words].subject(side) for side in ("male", "female")] if item.words in phrase else ("he", "she")
        )
        first, second = (log_likelihood(sentence(item.template, subject_of(item), word)) for word in words)
        base = [log_likelihood(sentence(item.template, "the person", word)) for word in words]
        assert item.score == pytest.approx((first - second) - (base[0] - base[1]), abs=2e-4)


def test_measures_summarise_the_items(tiny_plm):
    result = measured(tiny_plm("gemma3", window=200))
    pronoun = [item for item in result.items if item.words == "he/she"]
    jobs = [item for item in pronoun if item.kind == "occupation"]
    assert len(jobs) == 7 * 3
    scores = np.array([item.score for item in jobs])
    assert result.value("heldout_templates/mean_abs_log_odds") == pytest.approx(np.abs(scores).mean())
    assert result.value("heldout_templates/mean_log_odds") == pytest.approx(scores.mean())
    for kind, name in (("trait", "traits"), ("activity", "activities")):
        some = [abs(item.score) for item in pronoun if item.kind == kind]
        assert result.value(f"heldout_templates/{name}") == pytest.approx(np.mean(some))
    others = [abs(item.score) for item in result.items if item.words != "he/she"]
    assert result.value("heldout_templates/attribute_words") == pytest.approx(np.mean(others))
    means = {name: np.mean([item.score for item in jobs if item.target == name]) for name in {j.target for j in jobs}}
    men = [1 - occupation(name).female_share for name in means]
    expected = np.corrcoef(list(means.values()), men)[0, 1]
    assert result.value("heldout_templates/correlation_with_men") == pytest.approx(expected)
    measurement = result.measurements[0]
    assert measurement.low < measurement.value < measurement.high


def test_a_model_that_cannot_tell_he_from_she_has_no_bias(tiny_plm):
    import copy

    plm = tiny_plm("bert", window=200)
    model = copy.deepcopy(plm.models[0])
    he, she = plm.tokenizer.convert_tokens_to_ids(["he", "she"])
    with torch.no_grad():
        decoder = model.get_output_embeddings()
        for weight in (decoder.weight, decoder.bias):
            weight[she] = weight[he]
    plm.models[0] = model
    assert measured(plm).value("heldout_templates/mean_abs_log_odds") == pytest.approx(0.0, abs=1e-5)
    with torch.no_grad():  # a constant preference for "he" is no bias about occupations either
        decoder.bias[he] += 2.5
    assert measured(plm).value("heldout_templates/mean_abs_log_odds") == pytest.approx(0.0, abs=1e-5)


def test_words_that_the_tokenizer_splits_are_skipped_and_counted(tiny_plm):
    result = measured(tiny_plm("bert", window=200))
    assert {item.words for item in result.items} == {"he/she"}
    assert len(result.skipped) == 8 * 3 * 3
    assert result.value("heldout_templates/skipped") == 72
    assert "uncle/aunt" in result.skipped[0].item


def test_subjects_are_those_that_no_pair_contains():
    assert heldout._subject(Target("florist", "occupation")) == "the florist"
    assert heldout._subject(Target("loyal", "trait")) == "the loyal person"
    assert heldout._subject(Target("gardening", "activity")) == "the person who likes gardening"
    assert heldout._subject(None) == "the person"
    assert len(JOBS) == 20
