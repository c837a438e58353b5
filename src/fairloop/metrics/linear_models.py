"""The three small models that the downstream measures train on sentence vectors; each is a convex problem.

    softmax    which of k occupations is it?            sum of cross-entropies / penalised, L-BFGS
    ranking    which of two people is it?               Bradley-Terry on all pairs of candidates, L-BFGS
    ridge      is it this occupation or not?            penalised least squares, one solution for all k, closed form

Features are in single precision for speed, and sums over sentences go through one thread
(`training_set.one_thread`), so that equal arguments give equal bits on one machine.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Places = NDArray[np.int64]


def fit_softmax(features: Singles, truth: Places, inverse_penalty: float, start: Floats) -> Floats:
    """Return weights [d + 1, k] of multinomial logistic regression; the last row is the intercept.

    Minimises C · sum of cross-entropies + ½ |W|², the intercept free, as scikit-learn's `LogisticRegression(C=C)` does.

    Args:
        features: [n, d].
        truth: [n], the class of each, 0 to k - 1.
        inverse_penalty: C.
        start: [d + 1, k], where the search starts; it ends at the only minimum from everywhere.
    """
    rows = np.arange(len(truth))

    def loss(weights: Floats) -> tuple[float, Floats]:
        single = weights.astype(np.float32)
        scores = features @ single[:-1] + single[-1]
        chances = softmax(scores)
        entropy = -np.log(np.maximum(chances[rows, truth], np.finfo(np.float32).tiny)).sum(dtype=np.float64)
        chances[rows, truth] -= 1
        gradient = np.concatenate([features.T @ chances, chances.sum(axis=0, keepdims=True)])
        return inverse_penalty * float(entropy), inverse_penalty * gradient.astype(np.float64)

    return _minimise(loss, start, free_rows=1)


def fit_ranking(features: Singles, truth: Places, candidates: Singles, inverse_penalty: float, start: Floats) -> Floats:
    """Return the bilinear form W [d, r] that ranks each sentence's own candidate above the others.

    Score of sentence s and candidate e: s · W · e. P(a rather than b) = 1 / (1 + exp(score of b - score of a)), the
    model of Bradley and Terry (1952). Minimises C · sum over sentences of the mean over the other candidates of
    -log P(own rather than other) + ½ |W|².

    Args:
        features: [n, d], sentences.
        truth: [n], the place of each one's own candidate.
        candidates: [k, r], at least two; a candidate that was never seen can be ranked with the same W.
        inverse_penalty: C.
        start: [d, r], where the search starts.
    """
    rows = np.arange(len(truth))
    share = inverse_penalty / (len(candidates) - 1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = features @ (weights.astype(np.float32) @ candidates.T)
        margin = scores[rows, truth][:, None] - scores
        margin[rows, truth] = np.inf
        # exp of minus a large margin is 0, and of a small one is cut off where single precision ends.
        odds = np.exp(np.minimum(-margin, np.float32(60)))
        pull = odds / (1 + odds)
        total = np.log1p(odds).sum(dtype=np.float64)
        pull[rows, truth] = -pull.sum(axis=1)
        gradient = (features.T @ pull) @ candidates
        return share * float(total), share * gradient.astype(np.float64)

    return _minimise(loss, start, free_rows=0)


def fit_ridge(gram: Floats, moments: Floats, penalty: float) -> Floats:
    """Return weights [d, k] of penalised least squares: (G + penalty · I)⁻¹ M.

    Args:
        gram: [d, d], features' G = XᵀX.
        moments: [d, k], M = Xᵀ Y of the k targets.
        penalty: above 0.
    """
    from scipy.linalg import cho_factor, cho_solve

    return np.asarray(cho_solve(cho_factor(gram + penalty * np.eye(len(gram))), moments))


def softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return exp(scores) scaled to sum 1 in each row."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], start: Floats, free_rows: int) -> Floats:
    """Return where loss + ½ |W|² is least, the last `free_rows` rows not penalised."""
    from scipy.optimize import minimize

    penalised = np.ones(start.shape)
    if free_rows:
        penalised[-free_rows:] = 0

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(start.shape)
        value, gradient = loss(weights)
        kept = weights * penalised
        return value + 0.5 * float((kept * kept).sum()), (gradient + kept).ravel()

    # Single precision knows the gradient to about 1e-4; the penalty makes the minimum as sharp as 1, so that no weight
    # is further than about 1e-3 from it, also where the search starts close by.
    options = {"maxiter": 500, "gtol": 1e-3, "ftol": 1e-10}
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, dtype=np.float64).reshape(start.shape)
