"""LEACE against Lagrange's solution, other maps that erase as much, the authors' package, and on a tiny planted PLM."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fairloop.debias.base import DebiasData
from fairloop.debias.inlp import informative_subspace
from fairloop.debias.leace import least_squares_erasure, shrunk
from fairloop.debias.registry import method, settings_of
from fairloop.errors import UserError
from fairloop.pairs.pair import Pair
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.settings import PlmSettings
from fairloop.training.hook import Training
from masked_models import CPU, counterfactuals, neutral, planted_masked, tiny_masked

WIDTH = 12


def sample(count=600, classes=2, seed=0):
    """Correlated vectors, some directions with far more spread than others, with several directions of a class."""
    random = np.random.default_rng(seed)
    labels = np.eye(classes)[random.integers(classes, size=count)]
    noise = random.normal(size=(count, WIDTH)) @ (random.normal(size=(WIDTH, WIDTH)) * np.geomspace(0.1, 5, WIDTH))
    return noise + labels @ random.normal(scale=3.0, size=(classes, WIDTH)) + random.normal(size=WIDTH) * 4, labels


def erased(vectors, one):
    return vectors - (vectors - one.mean) @ one.right @ one.left.T


def covariance(vectors, labels):
    return (vectors - vectors.mean(axis=0)).T @ (labels - labels.mean(axis=0)) / len(vectors)


def moved(vectors, others):
    return float(((vectors - others) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("classes", [2, 3])
def test_no_covariance_is_left_the_mean_stays_and_twice_is_once(classes):
    vectors, labels = sample(classes=classes)
    one = least_squares_erasure(vectors, labels)
    left = erased(vectors, one)
    assert one.left.shape == (WIDTH, classes - 1)
    assert np.abs(covariance(vectors, labels)).max() > 0.1
    assert np.abs(covariance(left, labels)).max() < 1e-8
    np.testing.assert_allclose(left.mean(axis=0), vectors.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(one.right.T @ one.left, np.eye(classes - 1), atol=1e-9)
    np.testing.assert_allclose(erased(left, one), left, atol=1e-8)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_classifier_is_at_chance(classes):
    vectors, labels = sample(classes=classes)
    answers = labels.argmax(axis=1)
    left = erased(vectors, least_squares_erasure(vectors, labels))
    scaled, left = ((some - some.mean(axis=0)) / some.std(axis=0) for some in (vectors, left))
    before, after = (LogisticRegression(C=1e3, tol=1e-9, max_iter=5000).fit(some, answers) for some in (scaled, left))
    chance = np.bincount(answers).max() / len(answers)
    assert before.score(scaled, answers) > chance + 0.2
    assert after.score(left, answers) <= chance + 1e-9
    np.testing.assert_allclose(after.predict_proba(left), np.tile(labels.mean(axis=0), (len(left), 1)), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_constrained_minimum_of_least_squares(classes):
    """Of all A with A·S = 0, S = Σ_xz, tr((A − 1)·Σ_xx·(A − 1)ᵀ) is least at 1 − S·(Sᵀ·Σ_xx⁻¹·S)⁺·Sᵀ·Σ_xx⁻¹."""
    vectors, labels = sample(classes=classes)
    cross, spread = covariance(vectors, labels), np.cov(vectors.T, bias=True)
    inverse = np.linalg.inv(spread)
    expected = np.eye(WIDTH) - cross @ np.linalg.pinv(cross.T @ inverse @ cross, rcond=1e-9) @ cross.T @ inverse
    one = least_squares_erasure(vectors, labels)
    np.testing.assert_allclose(np.eye(WIDTH) - one.left @ one.right.T, expected, atol=1e-8)


def test_no_other_map_that_erases_as_much_moves_the_states_less():
    vectors, labels = sample()
    centred, mean = vectors - vectors.mean(axis=0), vectors.mean(axis=0)
    least = moved(vectors, erased(vectors, least_squares_erasure(vectors, labels)))
    cross = covariance(vectors, labels)[:, :1]
    random = np.random.default_rng(5)
    guards = {
        # what SAL (Shao et al. 2023) and mean projection (Haghighatkhah et al. 2022) take out of two classes
        "orthogonal": np.eye(WIDTH) - cross @ cross.T / (cross.T @ cross),
        "nothing is left": np.zeros((WIDTH, WIDTH)),
    }
    for number in range(200):
        towards = random.normal(size=(1, WIDTH))
        slanted = np.eye(WIDTH) - cross @ towards / (towards @ cross)
        guards[f"slanted {number}"] = slanted + (number % 2) * random.normal(scale=0.05, size=(WIDTH, WIDTH)) @ slanted
    for name, matrix in guards.items():
        left = centred @ matrix.T + mean
        assert np.abs(covariance(left, labels)).max() < 1e-8, name
        assert moved(vectors, left) >= least - 1e-9, name
    basis = informative_subspace(vectors, labels[:, 0], 8)
    assert moved(vectors, vectors - vectors @ basis @ basis.T) > 2 * least


def test_fewer_sentences_than_dimensions():
    vectors, labels = sample(count=9)
    left = erased(vectors, least_squares_erasure(vectors, labels))
    assert np.abs(covariance(left, labels)).max() < 1e-8


@pytest.mark.parametrize("shrinkage", [True, False])
def test_it_is_what_the_authors_package_computes(shrinkage):
    package = pytest.importorskip("concept_erasure", reason="the authors' package concept-erasure is not installed")
    vectors, labels = sample(count=40, classes=3)
    fitter = package.LeaceFitter(
        WIDTH, 3, dtype=torch.float64, shrinkage=shrinkage, constrain_cov_trace=False, svd_tol=1e-8
    )
    eraser = fitter.update(torch.tensor(vectors), torch.tensor(labels)).eraser
    theirs = eraser(torch.tensor(vectors)).numpy()
    ours = erased(vectors, least_squares_erasure(vectors, labels, shrinkage=shrinkage))
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("count", [20, 60, 400])
def test_the_shrunk_covariance_is_as_near_to_the_truth_as_the_best_mixture(count):
    random = np.random.default_rng(count)
    width = 40
    truth = np.diag(np.geomspace(0.05, 4, width))
    away = {"sample": [], "shrunk": [], "best": []}
    for _ in range(30):
        states = random.normal(size=(count, width)) * np.sqrt(np.diag(truth))
        sampled = np.cov(states.T, bias=True)
        ball = np.trace(sampled) / width * np.eye(width)
        away["sample"].append(((sampled - truth) ** 2).sum())
        away["shrunk"].append(((shrunk(sampled, count) - truth) ** 2).sum())
        away["best"].append(min(((w * sampled + (1 - w) * ball - truth) ** 2).sum() for w in np.linspace(0, 1, 101)))
    mean = {name: float(np.mean(values)) for name, values in away.items()}
    assert mean["shrunk"] < 1.1 * mean["best"]
    assert mean["shrunk"] < mean["sample"]
    assert np.array_equal(shrunk(np.eye(3), 5), np.eye(3))  # nothing to shrink, and no division by zero


def test_few_pairs_that_differ_little_do_not_move_other_states_out_of_bounds():
    """Pairs share nearly everything, and their sentences much: the sample varies least where its classes differ."""
    random = np.random.default_rng(3)
    width, pairs = 64, 33  # as 195 pairs in 384 dimensions
    shared = np.repeat(random.normal(size=(pairs, 10)) @ random.normal(size=(10, width)), 2, axis=0)
    labels = np.tile(np.eye(2), (pairs, 1))
    apart = (labels[:, :1] - 0.5) * random.normal(size=width)
    vectors = shared + 0.2 * apart + 0.1 * random.normal(size=shared.shape)
    others = random.normal(size=(200, width)) * vectors.std()
    moves = {}
    for shrinkage in (True, False):
        one = least_squares_erasure(vectors, labels, shrinkage=shrinkage)
        assert np.abs(covariance(erased(vectors, one), labels)).max() < 1e-8  # what it was fitted to loses it all
        moves[shrinkage] = moved(others, erased(others, one)) / (others**2).sum(axis=1).mean()
    assert moves[True] < 0.1, moves
    assert moves[False] > 3 * moves[True], moves


# on a PLM


def plm_of(path, kind="masked"):
    return PlmSettings(name="tiny", path=str(path), kind=kind, device="cpu")


def material():
    rows = counterfactuals()
    pairs = [
        Pair(n, male, female, job, "occupation", who, "template") for n, (male, female, job, who) in enumerate(rows)
    ]
    return DebiasData(pairs, neutral(), ())


def debiased(plm, folder, **chosen):
    folder.mkdir(parents=True)
    chosen_method = method(settings_of({"name": "leace", **chosen}))
    chosen_method.check(plm)
    chosen_method.debias(plm, material(), folder, Training(CPU, seed=0, work=folder.parent / "work"))
    return plm_of(folder, plm.kind)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plm_of(planted_masked(tmp_path_factory.mktemp("planted")))


def gender_covariance(vectors):
    labels = np.tile([[1.0], [0.0]], (len(vectors) // 2, 1))
    return float(np.abs(covariance(vectors.astype(np.float64), labels)).max())


@pytest.mark.parametrize("chosen", [{}, {"layers": "all"}, {"neutral": True}], ids=["last", "all", "neutral"])
def test_sentences_of_a_debiased_plm_hold_no_linear_trace_of_gender(planted, tmp_path, chosen):
    after = debiased(planted, tmp_path / "leace", **chosen)
    texts = [text for row in counterfactuals() for text in row[:2]]
    before, left = (SentenceEncoder.load(plm.path).embed(texts) for plm in (planted, after))
    assert gender_covariance(before) > 1e-2
    assert gender_covariance(left) < 1e-5 * max(1.0, float(np.abs(before).max()))
    answers = np.tile([1, 0], len(texts) // 2)
    assert LogisticRegression(C=100.0, max_iter=2000).fit(before, answers).score(before, answers) > 0.95
    assert LogisticRegression(C=100.0, max_iter=2000).fit(left, answers).score(left, answers) < 0.6
    if "neutral" in chosen:
        together = SentenceEncoder.load(after.path).embed([*texts, *neutral()[: len(texts) // 2]]).astype(np.float64)
        third = np.repeat([[0.0], [1.0]], [len(texts), len(together) - len(texts)], axis=0)
        assert np.abs(covariance(together, third)).max() < 1e-4


def test_behind_every_layer_each_erasure_leaves_no_trace_of_gender(planted, tmp_path):
    after = debiased(planted, tmp_path / "leace", layers="all")
    encoder = SentenceEncoder.load(after.path)
    texts = [text for row in counterfactuals() for text in row[:2]]
    seen = []
    with torch.no_grad():
        for text in texts:
            batch = encoder.tokenizer(text, return_tensors="pt")
            states = encoder.model(**batch, output_hidden_states=True).hidden_states
            seen.append([state[0].mean(dim=0).numpy() for state in states[1:]])
    for layer in np.array(seen).transpose(1, 0, 2):
        assert gender_covariance(layer) < 1e-4


def test_the_weights_stay_and_the_card_says_what_acts(planted, tmp_path):
    from transformers import AutoModelForMaskedLM

    after = debiased(planted, tmp_path / "leace")
    assert "**not** debiased" in (Path(after.path) / "README.md").read_text()
    assert json.loads((Path(after.path) / "fairloop_debias.json").read_text())["method"] == "leace"
    plain, before = (AutoModelForMaskedLM.from_pretrained(plm.path).state_dict() for plm in (after, planted))
    assert all(torch.equal(plain[key], before[key]) for key in before)


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"debias\.layers='?some'?: allowed"):
        settings_of({"name": "leace", "layers": "some"})
    vectors, labels = sample()
    with pytest.raises(UserError, match="sentences about men and about women that the PLM tells apart"):
        least_squares_erasure(vectors, np.ones_like(labels))
    folder = tiny_masked(tmp_path / "plm")
    settings = settings_of({"name": "leace"})
    with pytest.raises(UserError, match="debiases a model that is masked or causal, not encoder"):
        method(settings).check(plm_of(folder, "encoder"))
