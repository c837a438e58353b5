import sys
import types

import numpy as np
import pytest

from fairloop.debias.fair_gender import neighbours
from fairloop.debias.fair_gender.neighbours import nearest
from fairloop.errors import UserError


def unit_vectors(count=40, width=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    vectors[7] = vectors[3]  # equal pairs
    vectors[9] = vectors[3]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def alike(numbers):
    """Each row's neighbours, those that are equal under one number."""
    return [sorted(3 if number in (7, 9) else number for number in row) for row in numbers.tolist()]


def by_hand(vectors, count):
    """Every cosine, one at a time; itself first, equal ones by number."""
    numbers, weights = [], []
    for i, own in enumerate(vectors):
        cosines = [float(own @ other) for other in vectors]
        order = sorted(range(len(vectors)), key=lambda j: (j != i, -round(cosines[j], 6), j))[:count]
        kept = np.array([1.0 if j == i else max(0.0, cosines[j]) for j in order])
        numbers.append(order)
        weights.append(kept / kept.sum())
    return np.array(numbers), np.array(weights)


@pytest.mark.parametrize("rows_at_once", [1_000_000, 50])
def test_neighbours_are_the_nearest_and_itself_comes_first(monkeypatch, rows_at_once):
    monkeypatch.setattr(neighbours, "_COSINES_AT_ONCE", rows_at_once)
    vectors = unit_vectors()
    for count in (1, 2, 5, len(vectors)):
        found = nearest(vectors, count)
        numbers, weights = by_hand(vectors, count)
        assert (found.numbers[:, 0] == np.arange(len(vectors))).all()
        assert alike(found.numbers) == alike(numbers)
        np.testing.assert_allclose(found.weights, weights, atol=1e-5)
        np.testing.assert_allclose(found.weights.sum(axis=1), 1.0)


def test_the_average_is_weighted():
    vectors = unit_vectors()
    values = np.random.default_rng(1).normal(size=len(vectors))
    found = nearest(vectors, 4)
    expected = [
        sum(weight * values[k] for k, weight in zip(numbers, weights, strict=True))
        for numbers, weights in zip(found.numbers, found.weights, strict=True)
    ]
    np.testing.assert_allclose(found.average(values), expected)
    np.testing.assert_allclose(nearest(vectors, 1).average(values), values)


def test_more_neighbours_than_pairs_is_a_mistake():
    with pytest.raises(UserError, match=r"^debias\.neighbours=41: at most 40, the pairs that are left to choose from$"):
        nearest(unit_vectors(), 41)


class FlatIndex:
    """What faiss's IndexFlatIP does; equal products in an order of its own."""

    def __init__(self, width):
        self.width = width

    def add(self, vectors):
        self.vectors = vectors

    def search(self, asked, count):
        products = asked @ self.vectors.T
        order = np.array([np.lexsort((-np.arange(len(row)), -row.round(6))) for row in products])
        order = order[:, :count]
        return np.take_along_axis(products, order, axis=1), order


def test_many_pairs_are_searched_by_faiss_where_it_is_installed(monkeypatch):
    vectors = unit_vectors()
    plain = nearest(vectors, 5)
    monkeypatch.setattr(neighbours, "PAIRS_BY_NUMPY", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)  # not installed
    np.testing.assert_array_equal(nearest(vectors, 5).numbers, plain.numbers)
    monkeypatch.setitem(sys.modules, "faiss", types.SimpleNamespace(IndexFlatIP=FlatIndex))
    found = nearest(vectors, 5)
    assert (found.numbers[:, 0] == np.arange(len(vectors))).all()
    assert alike(found.numbers) == alike(plain.numbers)
    np.testing.assert_allclose(found.weights, plain.weights, atol=1e-5)
