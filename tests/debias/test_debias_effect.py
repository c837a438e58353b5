"""The estimators where the truth is known: a half-believed spelling that pairs keep or break (`planted`)."""

import numpy as np
import pytest
import torch
from planted import half_taught, neutral, pairs
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from fairloop.debias.fair_gender import effect
from fairloop.debias.fair_gender.batches import Item, fair_gender_data
from fairloop.debias.fair_gender.effect import STAGE, EffectEstimator, Effects, as_many_at_random, first_step
from fairloop.debias.fair_gender.loss import FairGenderModule, IncorporationTask
from fairloop.debias.fair_gender.method import Method, training_pairs
from fairloop.debias.fair_gender.neighbours import nearest, represent
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens
from fairloop.errors import UserError
from fairloop.plm.model import LanguageModel

#: Harmful pairs are told by what their text does to the language: at these weights of it, and asked about the target.
SETTINGS = MethodSettings(mask_share=0.3, lambda_r=1.0, text_weight=1.0, predicted="target", neighbours=1)
#: What `debias=fair_gender` trains with when nothing is chosen.
OWN = MethodSettings()


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    model, tokenizer = half_taught(tmp_path_factory.mktemp("plm"))
    return LanguageModel(model, tokenizer, "masked")


@pytest.fixture(scope="module")
def estimator(plm):
    return estimator_of(plm, SETTINGS)


def estimator_of(plm, settings):
    made, _ = pairs()
    near = nearest(represent(plm, made), settings.neighbours) if settings.neighbours > 1 else None
    tokens = Tokens(plm.tokenizer, "masked", 64)
    return EffectEstimator(plm.model, tokens, training_pairs(made, near), neutral(), settings, seed=0)


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


def held_out(estimator):
    with torch.no_grad():
        language = sum(float(estimator.held_out_loss(batch).double()) for batch in estimator.held_out)
        bias = sum(float(estimator.module.bias_losses(batch).double().sum()) for batch in estimator.pool)
    return np.array([language, bias / estimator.pairs])


def really_taken(estimator, some):
    """The first step of a training on each pair, by the training's own module and optimiser, per unit of its rate."""
    settings, model = estimator.settings, estimator.module.model
    module = FairGenderModule(model, None, estimator.tokens, settings, seed=0, stage=STAGE, total_steps=settings.steps)
    weights = [weight.requires_grad_(True) for weight in model.parameters()]
    kept, before, found = [weight.detach().clone() for weight in weights], held_out(estimator), []
    for batch in estimator.steps([[number] for number in some]):
        made = module.configure_optimizers()
        rate = made["lr_scheduler"]["scheduler"].get_last_lr()[0]
        total, count = module.loss_parts(batch)  # of step 0
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
        made["optimizer"].step()
        found.append((held_out(estimator) - before) / rate)
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
                weight.grad = None
    model.requires_grad_(False)
    return np.array(found)


@pytest.mark.parametrize("settings", [OWN, SETTINGS], ids=["own", "language"])
def test_the_estimate_ranks_pairs_as_the_steps_that_a_training_really_takes(plm, settings):
    estimator = estimator_of(plm, settings)
    effects = estimator.by_influence()
    some = range(0, estimator.pairs, 2)
    really = really_taken(estimator, some)
    found = {
        "language": spearmanr(really[:, 0], effects.language[some]).statistic,
        "bias": spearmanr(really[:, 1], effects.bias[some]).statistic,
    }
    print({"rank correlation": found})
    assert min(found.values()) > 0.9, found


def test_the_batch_of_a_pair_is_the_one_that_a_training_makes(plm):
    """Same questions, neighbours, weights, and, step by step, the same masks."""
    made = training_pairs(pairs()[0], nearest(represent(plm, pairs()[0]), OWN.neighbours))
    estimator = estimator_of(plm, OWN)
    task = IncorporationTask(OWN, "masked", made, tuple(neutral()))
    data = fair_gender_data(task.pairs, task.neutral, estimator.tokens, OWN, seed=0, stage=STAGE)
    for number, batch in enumerate(estimator.steps([[0], [5, 40]])):
        chosen = [[0], [5, 40]][number]
        theirs = data.collate([Item(one, ()) for one in chosen])
        assert {*theirs} == {*batch}
        assert all(torch.equal(theirs[name], batch[name]) for name in batch)


def test_a_step_is_what_adamw_does_first():
    drawn = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(size, generator=drawn)) for size in ((30, 4), (7,))]
    for size, clip_norm in ((5.0, 1.0), (1e-7, 1.0), (5.0, 0.0)):
        gradients = [size * torch.randn(weight.shape, generator=drawn) for weight in weights]
        expected = first_step(gradients, clip_norm)
        before = [weight.detach().clone() for weight in weights]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(weights, clip_norm)
        torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.0).step()
        for weight, old, step in zip(weights, before, expected, strict=True):
            torch.testing.assert_close((old - weight.detach()) / 1e-2, step, rtol=1e-3, atol=1e-4)
    assert first_step([None, torch.ones(1)], 1.0)[0] is None


def test_the_filter_is_named_by_all_that_decides_the_step_it_estimates():
    """Every setting that changes an estimate changes the name of the filter's stage; the learning rate changes none."""
    usual = Method(OWN).filter_settings()
    for change in ({"lambda_r": 1.0}, {"text_weight": 1.0}, {"predicted": "target"}, {"regularizer": False},
                   {"neighbours": 1}, {"mask_share": 0.3}, {"clip_norm": 0.0}):  # fmt: skip
        assert Method(OWN.model_copy(update=change)).filter_settings() != usual, change
    assert Method(OWN.model_copy(update={"learning_rate": 1e-3})).filter_settings() == usual
    lora = [
        Method(OWN.model_copy(update={"causal": "influence", "weights": w})).filter_settings() for w in ("full", "lora")
    ]
    assert lora[0] != lora[1]


def test_with_a_low_rank_update_the_effect_is_that_of_its_weights(tmp_path):
    model, tokenizer = half_taught(tmp_path, steps=40)
    settings = OWN.model_copy(update={"weights": "lora"})
    estimator = estimator_of(LanguageModel(model, tokenizer, "masked"), settings)
    effects = estimator.by_influence(groups=[[0], [1]])
    trained = [name for name, weight in estimator.module.model.named_parameters() if "lora_" in name]
    assert trained
    assert effects.language.any()
    # The update begins with B = 0: of its first step's parts only B's is not zero.
    weights = estimator.trained()
    assert len(weights) == len(trained)
    (batch,) = estimator.steps([[0]])
    gradients = torch.autograd.grad(estimator.module.loss(batch, [0])[0], weights, allow_unused=True)
    moved = [name for name, part in zip(trained, gradients, strict=True) if part is not None and part.abs().max() > 0]
    assert moved
    assert all("lora_B" in name for name in moved)


@pytest.mark.parametrize("settings", [OWN, SETTINGS], ids=["own", "language"])
def test_the_output_layers_effect_is_that_of_a_step_on_its_weights(plm, settings):
    """By brute force: let autograd differentiate with respect to a copy of the output embeddings alone."""
    estimator = estimator_of(plm, settings)
    model = estimator.module.model
    decoder = model.get_output_embeddings()
    tied, alone = decoder.weight, torch.nn.Parameter(decoder.weight.detach().clone())
    estimate = estimator.by_output_layer()
    decoder.weight = alone  # no longer the input embeddings
    try:
        losses = sum(estimator.held_out_loss(batch) for batch in estimator.held_out)
        (language,) = torch.autograd.grad(losses, alone)
        some = (0, 1, 2, 17)
        for number, batch in zip(some, estimator.steps([[number] for number in some]), strict=True):
            (own,) = torch.autograd.grad(estimator.module.loss(batch, [0])[0], alone)
            norm = float(own.norm())
            own = own * min(1.0, 1.0 / (norm + 1e-6))
            expected = -float((own / (own.abs() + 1e-8) * language).sum())
            assert estimate.language[number] == pytest.approx(
                expected, rel=1e-2, abs=1e-3 * float(language.abs().sum())
            )
    finally:
        decoder.weight = tied


@pytest.mark.parametrize("elements", [1, 7 * 5, 2**18])  # one row at a time; seven, the last ones fewer; all
def test_the_output_layers_products_are_the_same_in_blocks_of_any_size(elements, monkeypatch):
    monkeypatch.setattr(effect, "_ELEMENTS_IN_CACHE", elements)
    draw = torch.Generator().manual_seed(0)
    errors, hidden, target = (torch.randn(*shape, generator=draw) for shape in ((3, 40), (3, 5), (40, 5)))
    gradient = errors.T @ hidden
    gradient = gradient * min(1.0, 0.5 / (float(gradient.norm()) + 1e-6))
    expected = [-float((gradient / (gradient.abs() + 1e-8) * one).sum()) for one in (target, target**2)]
    assert effect._inner_with_outer(errors, hidden, (target, target**2), 0.5) == pytest.approx(expected, rel=1e-4)


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
        EffectEstimator(plm.model, tokens, training_pairs(pairs()[0]), [], SETTINGS, seed=0)
