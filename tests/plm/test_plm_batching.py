"""Batches and shared rows: nothing lost, nothing too large, little wasted."""

import numpy as np
import pytest

from fairloop.plm.batching import by_length, fill_rows, for_rows
from fairloop.plm.packing import ROW_TOKENS

WIDTH = 64


def lengths_of_sentences(random, count):
    return np.clip(random.poisson(9, count) + 4, 4, 40).tolist()


def check_batches(batches, lengths, budget, cost):
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or cost([lengths[index] for index in batch]) <= budget


@pytest.mark.parametrize("seed", range(20))
def test_every_input_is_in_one_batch_within_the_budget(seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 200, size=random.integers(0, 80)).tolist()
    budget = int(random.choice([1, 10, 63, 500, 2048]))
    check_batches(by_length(lengths, budget), lengths, budget, lambda some: max(some) * len(some))
    check_batches(for_rows(lengths, budget, WIDTH), lengths, budget, sum)  # Rows are checked below.


def test_small_batches_by_hand():
    lengths = [5, 9, 5, 70, 9, 5]
    assert by_length(lengths, 18) == [[3], [1, 4], [0, 2, 5]]
    assert for_rows(lengths, 18, WIDTH) == [[3], [1, 4], [0, 2, 5]]
    assert for_rows(lengths, 28, 14) == [[3], [1, 0, 4, 2], [5]]


def test_rows_are_filled_over_all_batches_and_come_out_again():
    lengths = np.array(lengths_of_sentences(np.random.default_rng(0), 2000))
    batches = for_rows(lengths.tolist(), 2048, ROW_TOKENS)
    rows = [[batch[place] for place in row] for batch in batches for row in fill_rows(lengths[batch], ROW_TOKENS)]
    order = [int(index) for index in np.argsort(-lengths, kind="stable")]
    assert rows == [[order[place] for place in row] for row in fill_rows(lengths[order], ROW_TOKENS)]
    assert len(batches) == -(-len(rows) // 32)
    assert len(rows) * ROW_TOKENS < 1.03 * lengths.sum()


@pytest.mark.parametrize("seed", range(20))
def test_every_input_is_in_one_row_that_has_room(seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, WIDTH + 1, size=random.integers(1, 60))
    rows = fill_rows(lengths, WIDTH)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(row and lengths[row].sum() <= WIDTH for row in rows)
