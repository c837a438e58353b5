"""The small models against independent solutions of the same problems."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from fairloop.metrics.linear_models import fit_ranking, fit_ridge, fit_softmax, softmax


def problem(seed=0, n=90, d=12, k=5):
    draw = np.random.default_rng(seed)
    truth = np.arange(n) % k
    features = (draw.normal(size=(n, d)) + 0.8 * draw.normal(size=(k, d))[truth]).astype(np.float32)
    return features, truth


@pytest.mark.parametrize("inverse_penalty", [0.1, 1.0])
def test_softmax_is_scikit_learns(inverse_penalty):
    features, truth = problem()
    reference = LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=5000).fit(features.astype(np.float64), truth)
    weights = fit_softmax(features, truth, inverse_penalty, np.zeros((13, 5)))
    found = softmax(features.astype(np.float64) @ weights[:-1] + weights[-1])
    assert np.abs(found - reference.predict_proba(features.astype(np.float64))).max() < 2e-3


def test_where_the_search_starts_does_not_matter():
    features, truth = problem()
    candidates = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    far = np.random.default_rng(2).normal(size=(13, 5))
    assert np.abs(fit_softmax(features, truth, 0.1, far) - fit_softmax(features, truth, 0.1, 0 * far))[:-1].max() < 5e-3
    cold = fit_ranking(features, truth, candidates, 0.1, np.zeros((12, 4)))
    assert np.abs(fit_ranking(features, truth, candidates, 0.1, far[:12, :4]) - cold).max() < 5e-3


def test_ranking_is_logistic_regression_on_every_pair_of_candidates():
    features, truth = problem(n=40)
    candidates = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    weights = fit_ranking(features, truth, candidates, 0.4, np.zeros((12, 3)))
    rows = [
        np.outer(vector, candidates[own] - candidates[other]).ravel()
        for vector, own in zip(features, truth, strict=True)
        for other in range(5)
        if other != own
    ]
    # Each pair once as it is and once turned around, since scikit-learn wants two classes.
    both = np.concatenate([rows, -np.array(rows)]).astype(np.float64)
    labels = np.repeat([1, 0], len(rows))
    reference = LogisticRegression(C=0.4 / 4 / 2, fit_intercept=False, tol=1e-9, max_iter=5000).fit(both, labels)
    assert weights.ravel() == pytest.approx(reference.coef_[0], abs=2e-3)


def test_ranking_works_for_candidates_that_were_never_seen():
    draw = np.random.default_rng(3)
    candidates = draw.normal(size=(30, 4)).astype(np.float32)
    truth = np.arange(200) % 20
    features = np.concatenate([candidates[truth], draw.normal(size=(200, 4))], axis=1).astype(np.float32)
    weights = fit_ranking(features, truth, candidates[:20], 1.0, np.zeros((8, 4)))
    new = np.concatenate([candidates[20:], draw.normal(size=(10, 4))], axis=1)
    own = (new @ weights * candidates[20:]).sum(axis=1)
    other = (new @ weights * np.roll(candidates[20:], 1, axis=0)).sum(axis=1)
    assert (expit(own - other) > 0.5).mean() >= 0.9


def test_ridge_is_scikit_learns():
    features, truth = problem()
    targets = np.eye(5)[truth]
    double = features.astype(np.float64)
    reference = Ridge(alpha=3.0, fit_intercept=False).fit(double, targets)
    assert fit_ridge(double.T @ double, double.T @ targets, 3.0) == pytest.approx(reference.coef_.T)
