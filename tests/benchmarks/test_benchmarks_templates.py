"""LPBS and perplexity against their papers' formulas."""

import math

import numpy as np
import pytest
import torch
from plm_models import MASKED, SENTENCES

from fairloop.benchmarks import lpbs
from fairloop.benchmarks.lpbs import LpbsSettings
from fairloop.benchmarks.perplexity import PerplexitySettings
from fairloop.benchmarks.registry import measure
from fairloop.errors import Fault, UserError
from fairloop.lexicon.occupations import occupation, with_article


@torch.no_grad()
def kurita(plm, template, name):
    """log p(he | mask is a nurse) - log p(he | mask is a mask), less the same for she (Kurita et al., section 2)."""
    tokenizer = plm.tokenizer
    named = with_article(name)
    he, she = (tokenizer.encode(f"{person} is", add_special_tokens=False)[0] for person in ("He", "She"))

    def log_odds(ids):
        variant = torch.tensor([ids])
        variant[0, 1] = tokenizer.mask_token_id
        scores = torch.log_softmax(plm.model(variant).logits[0, 1], -1)
        return (scores[he] - scores[she]).item()

    ids = tokenizer.encode(template.format(person="He", occupation=named))
    with_a = tokenizer.encode(template.split("{occupation}")[0].format(person="He") + named.split(" ", 1)[0])[:-1]
    upto = tokenizer.encode(template.split("{occupation}")[0].format(person="He") + named)[:-1]
    hidden = list(ids)
    for place in range(len(with_a), len(upto)):
        hidden[place] = tokenizer.mask_token_id
    return log_odds(ids) - log_odds(hidden)


@pytest.mark.parametrize("family", MASKED)
def test_lpbs_of_masked_models(tiny_plm, family):
    plm = tiny_plm(family)
    result = measure(plm, LpbsSettings(resamples=50))
    assert len(result.items) == 80 * len(lpbs.TEMPLATES)
    for item in result.items[::29]:
        assert item.score == pytest.approx(kurita(plm, item.template, item.occupation), abs=2e-5)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_lpbs_of_causal_models_is_bayes_rule(tiny_plm, family):
    """log p(sentence with He) - log p(sentence with She), less the same of the bare first word."""
    plm = tiny_plm(family)
    result = measure(plm, LpbsSettings(resamples=50))

    @torch.no_grad()
    def log_likelihood(text):
        ids = plm.tokenizer.encode(text)
        if ids[0] != plm.tokenizer.bos_token_id:
            ids = [plm.tokenizer.bos_token_id, *ids]
        scores = torch.log_softmax(plm.model(torch.tensor([ids])).logits[0], -1)
        return sum(scores[place - 1, ids[place]].item() for place in range(1, len(ids)))

    for item in result.items[::41]:
        texts = [item.template.format(person=p, occupation=with_article(item.occupation)) for p in ("He", "She")]
        first = [log_likelihood(p) for p in ("He", "She")]
        expected = (log_likelihood(texts[0]) - log_likelihood(texts[1])) - (first[0] - first[1])
        assert item.score == pytest.approx(expected, abs=5e-5)


@torch.no_grad()
def test_lpbs_of_gpt2_conditions_on_the_pronoun_alone(tiny_plm):
    plm = tiny_plm("gpt2")
    item = measure(plm, LpbsSettings(resamples=50)).items[17]
    totals = []
    for person in ("He", "She"):
        ids = plm.tokenizer.encode(item.template.format(person=person, occupation=with_article(item.occupation)))
        scores = torch.log_softmax(plm.model(torch.tensor([ids])).logits[0], -1)
        totals.append(sum(scores[place - 1, ids[place]].item() for place in range(1, len(ids))))
    assert item.score == pytest.approx(totals[0] - totals[1], abs=2e-5)


def test_lpbs_measures_summarise_the_items(tiny_plm):
    result = measure(tiny_plm("bert"), LpbsSettings(resamples=50))
    means = {}
    for item in result.items:
        means.setdefault(item.occupation, []).append(item.score)
    scores = {name: np.mean(some) for name, some in means.items()}
    male = np.mean([score for name, score in scores.items() if occupation(name).majority == "male"])
    female = np.mean([score for name, score in scores.items() if occupation(name).majority == "female"])
    assert result.value("lpbs/gap") == pytest.approx(male - female)
    men = [1 - occupation(name).female_share for name in scores]
    assert result.value("lpbs/correlation") == pytest.approx(np.corrcoef(list(scores.values()), men)[0, 1])


def test_articles():
    assert with_article("engineer") == "an engineer"
    assert with_article("nurse") == "a nurse"


def test_lpbs_says_when_a_pronoun_is_split(tiny_plm):
    plm = tiny_plm("bert")
    with pytest.raises(Fault, match="splits 'Unbelievable'"):
        lpbs._target_token(plm, "Unbelievable")


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "gemma3"])
def test_perplexity(tiny_plm, tmp_path, family):
    from fairloop.plm.scoring import token_scores

    plm = tiny_plm(family)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join([*SENTENCES, SENTENCES[0] * 9]), encoding="utf-8")
    result = measure(plm, PerplexitySettings(text=str(text), resamples=200))
    scores = token_scores(plm, SENTENCES)
    tokens = sum(len(score.tokens) for score in scores)
    expected = math.exp(-sum(score.total for score in scores) / tokens)
    name = "perplexity/perplexity" if plm.kind == "causal" else "perplexity/pseudo_perplexity"
    assert result.value(name) == pytest.approx(expected)
    assert result.value("perplexity/tokens") == tokens
    assert [skip.item for skip in result.skipped] == ["8"]
    measurement = result.measurements[0]
    assert measurement.low < measurement.value < measurement.high


def test_perplexity_without_a_text_is_that_of_the_packaged_sentences(tiny_plm, tmp_path):
    from fairloop.lexicon import neutral_sentences

    plm = tiny_plm("bert", window=200)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(neutral_sentences("heldout")), encoding="utf-8")
    given = measure(plm, PerplexitySettings(text=str(text), resamples=50))
    assert measure(plm, PerplexitySettings(resamples=50)).measurements == given.measurements


def test_perplexity_of_a_text_that_is_not_there(tiny_plm, tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        measure(tiny_plm("bert"), PerplexitySettings(text=str(tmp_path / "missing.txt")))
