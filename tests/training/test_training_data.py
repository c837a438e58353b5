from itertools import chain

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fairloop.errors import UserError
from fairloop.training.data import BatchLoader, BatchOrder, TrainingData, pad
from fairloop.training.settings import OptimizationSettings


def collate(items):
    return {"items": torch.tensor(items)}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_every_epoch_holds_every_item_once_in_batches_of_nearly_equal_size(lengths, batch_size, epoch):
    order = BatchOrder(lengths, batch_size, seed=0, stage="s")
    batches = order.epoch(epoch)
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == len(order) == -(-len(lengths) // batch_size)


@given(st.integers(8, 60), st.integers(4, 8), st.integers(0, 40), st.integers(1, 4))
def test_a_loader_goes_on_anywhere_and_the_parts_of_all_processes_make_up_the_batch(
    items, batch_size, step, world_size
):
    order = BatchOrder([1] * items, batch_size, seed=3, stage="s")
    assume(world_size <= min(order.sizes))
    whole = BatchLoader(range(items), BatchOrder([1] * items, batch_size, seed=3, stage="s"), collate)
    expected = []
    while len(expected) <= step + len(whole):
        expected += [batch["items"].tolist() for batch in whole]
    resumed = [BatchLoader(range(items), order, collate, rank=r, world_size=world_size) for r in range(world_size)]
    for loader in resumed:
        loader.load_state_dict({"step": step})
    parts = [[batch["items"].tolist() for batch in loader] for loader in resumed]
    assert len(parts[0]) == len(whole) - step % len(whole)
    for number, split in enumerate(zip(*parts, strict=True)):
        assert sorted(chain(*split)) == sorted(expected[step + number])
        assert max(map(len, split)) - min(map(len, split)) <= 1
    assert resumed[0].state_dict() == {"step": step + len(parts[0])}


def test_epochs_and_seeds_differ_and_equal_ones_agree():
    order = BatchOrder([1] * 50, 5, seed=0, stage="s")
    assert order.epoch(0) != order.epoch(1)
    assert order.epoch(1) == BatchOrder([1] * 50, 5, seed=0, stage="s").epoch(1)
    assert order.epoch(0) != BatchOrder([1] * 50, 5, seed=1, stage="s").epoch(0)
    assert order.epoch(0) != BatchOrder([1] * 50, 5, seed=0, stage="t").epoch(0)


def test_batches_hold_items_of_similar_length():
    lengths = torch.randint(1, 100, (640,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = BatchOrder(lengths, 16, seed=0, stage="s").epoch(0)
    padded = sum(len(batch) * max(lengths[n] for n in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)


def test_padding():
    ids, mask = pad([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def make(items, **settings):
    return TrainingData(
        range(items), [1] * items, collate, OptimizationSettings(**settings), seed=0, stage="s", what="sentences"
    )


def test_validation_items_are_held_out():
    data = make(100, batch_size=10, validation_share=0.2)
    assert len(data.validation) == 20
    assert sorted([*data.training, *data.validation]) == list(range(100))
    assert data.total_steps == 8


@pytest.mark.parametrize(
    ("items", "line"),
    [
        (0, "there are no sentences to train on"),
        (5, "batch_size=16: at most 5, the sentences there are to train on"),
    ],
)
def test_too_little_data_is_one_line(items, line):
    with pytest.raises(UserError, match=f"^{line}$"):
        make(items, batch_size=16)


def test_more_processes_than_items_of_a_batch_is_one_line():
    with pytest.raises(UserError, match=r"^trainer.devices=4: at most 3, the items of one batch$"):
        BatchLoader(range(6), BatchOrder([1] * 6, 3, seed=0, stage="s"), collate, world_size=4)
