"""The estimators where the truth is known: a half-believed spelling that pairs keep or break (`planted`)."""

import numpy as np
import pytest
import torch
from planted import half_taught, neutral, pairs
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from fairloop.debias.fair_gender.effect import EffectEstimator, Effects, as_many_at_random
from fairloop.debias.fair_gender.neighbours import nearest, represent
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens
from fairloop.errors import UserError
from fairloop.plm.model import LanguageModel

SETTINGS = MethodSettings(mask_share=0.3)


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    model, tokenizer = half_taught(tmp_path_factory.mktemp("plm"))
    return LanguageModel(model, tokenizer, "masked")


@pytest.fixture(scope="module")
def estimator(plm):
    made, _ = pairs()
    tokens = Tokens(plm.tokenizer, "masked", 64)
    return EffectEstimator(plm.model, tokens, made, neutral(), SETTINGS, seed=0)


@pytest.fixture(scope="module")
def influence(estimator):
    return estimator.by_influence()


@pytest.fixture(scope="module")
def knn(plm, estimator):
    return estimator.by_output_layer().averaged(nearest(represent(plm, pairs()[0]), 5))


def auc(effects, what, above, below):
    chosen = np.isin(what, (above, below))
    return roc_auc_score(what[chosen] == above, effects[chosen])


def test_the_stereotype_is_planted_where_pairs_are_helpful_and_nowhere_else(estimator):
    with torch.no_grad():
        bias = np.concatenate([estimator.module.bias_losses(batch).numpy() for batch in estimator.pool])
    what = pairs()[1]
    assert bias[what == "helpful"].min() > 10 * bias[what == "useless"].max()


@pytest.mark.parametrize("name", ["influence", "knn"])
def test_the_ranking_separates_harmful_useless_and_helpful_pairs(request, name):
    """Harmful ones are told by what they do to the language; of the rest the helpful ones by what they do to bias."""
    effects, what = request.getfixturevalue(name), pairs()[1]
    found = {
        "harmful / useless": auc(effects.language, what, "harmful", "useless"),
        "harmful / helpful": auc(effects.language, what, "harmful", "helpful"),
        "useless / helpful": auc(effects.bias, what, "useless", "helpful"),
    }
    print({"estimator": name, "auc": found})
    assert min(found.values()) > 0.9, found
    dropped = effects.harmful(0.5)
    assert (what[dropped] == "harmful").mean() > 0.9
    assert dropped[what == "harmful"].mean() > 0.5


def test_the_first_order_effect_agrees_with_really_taking_the_step(estimator, influence):
    # Small enough for the first order to hold, large enough for the change to stand out of float32's rounding.
    model, step = estimator.module.model, 1e-3
    weights = list(model.parameters())

    def held_out():
        with torch.no_grad():
            language = sum(float(estimator.held_out_loss(batch)) for batch in estimator.held_out)
            bias = sum(float(estimator.module.bias_losses(batch).double().sum()) for batch in estimator.pool)
        return np.array([language, bias / estimator.pairs])

    before, really = held_out(), []
    some = range(0, estimator.pairs, 3)
    some = [n + k for n in some[::3] for k in range(3)]
    for number in some:
        model.requires_grad_(True)
        own = torch.autograd.grad(
            estimator.module.loss(estimator.singles[number], estimator.draws)[0], weights, allow_unused=True
        )
        model.requires_grad_(False)
        with torch.no_grad():
            kept = [weight.clone() for weight in weights]
            for weight, gradient in zip(weights, own, strict=True):
                weight.sub_(step * gradient) if gradient is not None else None
            really.append((held_out() - before) / step)
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
    really = np.array(really)
    found = {
        "language": spearmanr(really[:, 0], influence.language[some]).statistic,
        "bias": spearmanr(really[:, 1], influence.bias[some]).statistic,
    }
    print({"rank correlation": found})
    assert min(found.values()) > 0.9, found
    np.testing.assert_allclose(influence.language[some], really[:, 0], atol=0.2 * np.abs(really[:, 0]).max())


def test_the_output_layers_effect_is_the_gradient_product_of_its_weights(estimator):
    """By brute force: let autograd differentiate with respect to a copy of the output embeddings alone."""
    model = estimator.module.model
    decoder = model.get_output_embeddings()
    tied, alone = decoder.weight, torch.nn.Parameter(decoder.weight.detach().clone())
    estimate = estimator.by_output_layer()
    decoder.weight = alone  # no longer the input embeddings
    try:
        losses = sum(estimator.held_out_loss(batch) for batch in estimator.held_out)
        (language,) = torch.autograd.grad(losses, alone)
        for number in (0, 1, 2, 17):
            (own,) = torch.autograd.grad(estimator.module.loss(estimator.singles[number], estimator.draws)[0], alone)
            assert estimate.language[number] == pytest.approx(-float((own * language).sum()), rel=1e-3, abs=1e-7)
    finally:
        decoder.weight = tied


def test_a_tolerance_is_in_units_of_the_effects_and_random_drops_as_many():
    effects = Effects(np.array([3.0, -1.0, 0.5, -3.0]), np.zeros(4))
    scale = np.sqrt(np.mean([9, 1, 0.25, 9]))
    assert effects.harmful(0.0).tolist() == [True, False, True, False]
    assert effects.harmful(2.9 / scale).tolist() == [True, False, False, False]
    assert not effects.harmful(3.1 / scale).any()
    assert not Effects(np.zeros(0), np.zeros(0)).harmful(0.0).any()
    harmful = np.arange(200) < 60
    drawn = [as_many_at_random(harmful, seed) for seed in (0, 0, 1)]
    assert [int(one.sum()) for one in drawn] == [60, 60, 60]
    assert (drawn[0] == drawn[1]).all()
    assert 5 < (drawn[0] & harmful).sum() < 35
    assert (drawn[0] != drawn[2]).any()


def test_effects_need_held_out_text(plm):
    tokens = Tokens(plm.tokenizer, "masked", 64)
    with pytest.raises(UserError, match=r"^debias\.causal: there is no held-out neutral sentence"):
        EffectEstimator(plm.model, tokens, pairs()[0], [], SETTINGS, seed=0)
