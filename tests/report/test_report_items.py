"""Changes of a score by its items: linearised, they have the score's change as mean and the jackknife's variance."""

import numpy as np
import pytest

from fairloop.measures.catalogue import ItemScore
from fairloop.report.items import _Shared


def shared(of_ratio, equal=False, items=120, clusters=40, seed=0):
    random = np.random.default_rng(seed)
    below = np.ones((items, 2)) if equal else random.integers(1, 6, (items, 2)).astype(float)
    above = random.random((items, 2)) * below
    table = np.stack([above[:, 0], below[:, 0], above[:, 1], below[:, 1]], axis=1)
    score = ItemScore(lambda row, metric: (0.0, 1.0), of_ratio=of_ratio)
    return _Shared(score, table, [f"c{n % clusters}" for n in range(items)])


@pytest.mark.parametrize("of_ratio", [np.asarray, np.exp, lambda ratio: 100 * ratio**2], ids=["mean", "exp", "square"])
def test_influences_are_the_jackknife_in_the_limit(of_ratio):
    one = shared(of_ratio)
    names = sorted(set(one.clusters))
    before, after = one.influences(names)
    assert abs(before.mean()) < 1e-9
    assert abs(after.mean()) < 1e-9
    count = len(names)
    whole = one.table.sum(axis=0)
    left_out = [whole - one.table[np.array(one.clusters) == name].sum(axis=0) for name in names]
    changes = np.array([np.subtract(*one.values(sums)[::-1]) for sums in left_out])
    jackknife = (count - 1) / count * ((changes - changes.mean()) ** 2).sum()
    assert (after - before).var(ddof=1) / count == pytest.approx(jackknife, rel=0.1)


def test_of_a_plain_mean_they_are_the_clusters_own_changes():
    one = shared(np.asarray, equal=True)
    names = sorted(set(one.clusters))
    before, after = one.influences(names)
    first, second = one.values(one.table.sum(axis=0))
    own = [np.mean(one.table[np.array(one.clusters) == name], axis=0) for name in names]
    assert second - first + after - before == pytest.approx([row[2] - row[0] for row in own])


def test_a_change_near_zero_does_not_blow_them_up():
    one = shared(np.asarray, equal=True)
    one.table[:, 2] = one.table[:, 0] + np.where(np.arange(120) % 2, 0.1, -0.1) * (1 + 1e-12)
    before, after = one.influences(sorted(set(one.clusters)))
    assert np.abs(after - before).max() < 0.2
