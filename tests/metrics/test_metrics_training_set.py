"""The corpus as a training set: its folds, and the scale of its vectors."""

import numpy as np

from fairloop.metrics.training_set import FOLDS, TrainingSet, spread


def training(groups, names=("plumber", "nurse", "judge")):
    occupations = [names[index % len(names)] for index in range(len(groups))]
    return TrainingSet.of([f"The {name} works." for name in occupations], occupations, groups)


def test_folds_part_the_corpus_and_keep_groups_together():
    groups = [f"g{index // 4}" for index in range(100)]
    folds = training(groups).folds()
    assert len(folds) == FOLDS
    assert sorted(np.concatenate([out for _, out in folds]).tolist()) == list(range(100))
    for kept, out in folds:
        assert sorted([*kept, *out]) == list(range(100))
        assert not {groups[place] for place in kept} & {groups[place] for place in out}
    sizes = [len(out) for _, out in folds]
    assert max(sizes) - min(sizes) <= 4


def test_there_are_as_many_folds_as_groups_if_these_are_few_and_none_of_one():
    assert len(training([index // 10 for index in range(30)]).folds()) == 3
    assert training([0] * 30).folds() == []


def test_no_folds_where_one_takes_a_majority_away():
    # The only nurses are in one group.
    occupations = ["plumber"] * 6 + ["nurse"] * 2
    assert TrainingSet.of(["It works."] * 8, occupations, [0, 0, 1, 1, 2, 2, 3, 3]).folds() == []
    assert TrainingSet.of(["It works."] * 8, occupations, [0, 0, 1, 1, 2, 2, 3, 1]).folds() != []


def test_spread_is_one_where_there_is_only_rounding():
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors[:, 1] = np.float32(0.1)
    vectors[:, 2] = 0
    mean, scale = spread(vectors)
    assert (scale[1], scale[2]) == (1, 1)
    assert abs(mean[1] - 0.1) < 1e-6
    assert scale[0] == np.std(vectors[:, 0].astype(np.float64))
