"""Batches whose order depends on (seed, stage, epoch) alone, and that go on in the middle of an epoch."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from fairloop.errors import UserError
from fairloop.seeding import random_generator
from fairloop.training.settings import StepSettings, fitting_batch_size

Item = TypeVar("Item")
POOL = 16  # batches among which items are sorted by length: little padding, and still a different mixture every epoch


class BatchOrder:
    """Which items make up each batch of each epoch: every item once an epoch, items of similar length together."""

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, stage: str, shuffle: bool = True) -> None:
        self.lengths = np.asarray(lengths)
        self.seed, self.stage, self.shuffle = seed, stage, shuffle
        count = -(-len(lengths) // batch_size)
        # Sizes differ by at most one: a last batch of two sentences would be a step with another noise level.
        self.sizes = [len(part) for part in np.array_split(np.arange(len(lengths)), count)]

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of one epoch as lists of item numbers."""
        if not self.shuffle:
            order = np.argsort(self.lengths, kind="stable")
            return [part.tolist() for part in np.split(order, np.cumsum(self.sizes)[:-1])]
        random = random_generator(self.seed, self.stage, "order", epoch)
        order, batches = random.permutation(len(self.lengths)), []
        for first in range(0, len(self.sizes), POOL):
            sizes = self.sizes[first : first + POOL]
            pool, order = order[: sum(sizes)], order[sum(sizes) :]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += np.split(pool, np.cumsum(sizes)[:-1])
        return [batches[number].tolist() for number in random.permutation(len(batches))]


class BatchLoader(Generic[Item]):
    """Collated batches; each process gets its share of every batch. Its state is the number of batches taken so far.

    With `parts` > 1 a share comes in so many parts, one after the other, whose gradients are to be accumulated; the
    key `count` then tells the mean number of items in the share's parts, by which the sum of a part's losses is to be
    divided for the parts' mean to be that of the share.
    """

    def __init__(
        self,
        items: Sequence[Item],
        order: BatchOrder,
        collate: Callable[[Sequence[Item]], dict[str, Tensor]],
        *,
        rank: int = 0,
        world_size: int = 1,
        parts: int = 1,
    ) -> None:
        if world_size > min(order.sizes):
            raise UserError.of("trainer.devices", world_size, f"at most {min(order.sizes)}, the items of one batch")
        if parts > min(order.sizes) // world_size:
            raise UserError.of("accumulate", parts, f"at most {min(order.sizes) // world_size}, a device's items")
        self.items, self.order, self.collate = items, order, collate
        self.rank, self.world_size, self.parts = rank, world_size, parts
        self.step = 0

    def __len__(self) -> int:
        return len(self.order) * self.parts

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield what is left of the current epoch."""
        epoch, start = divmod(self.step, len(self))
        shares = [numbers[self.rank :: self.world_size] for numbers in self.order.epoch(epoch)]
        for share, part in [(share, part) for share in shares for part in range(self.parts)][start:]:
            self.step += 1
            batch = self.collate([self.items[number] for number in share[part :: self.parts]])
            yield batch if self.parts == 1 else batch | {"count": torch.tensor(len(share) / self.parts)}

    def state_dict(self) -> dict[str, int]:
        """Return the position: the steps whose batches were handed out."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the position that `state_dict` returned."""
        self.step = int(state["step"])


class TrainingData(pl.LightningDataModule):  # type: ignore[misc]
    """Items to train on, and some of them held out for validation; length-bucketed, resumable, split over processes."""

    def __init__(
        self,
        items: Sequence[Any],
        lengths: Sequence[int],
        collate: Callable[[Sequence[Any]], dict[str, Tensor]],
        settings: StepSettings,
        *,
        seed: int,
        stage: str,
        what: str = "items",
        given: tuple[Sequence[Any], Sequence[int]] | None = None,
        parts: int = 1,
    ) -> None:
        """Take items with their lengths.

        `given`, validation items and their lengths, take the place of a share of `items`.
        """
        super().__init__()
        self.collate, self.parts, schedule = collate, parts, settings.schedule
        held_out = 0 if given is not None else round(schedule.validation_share * len(items))
        shuffled = (
            random_generator(seed, stage, "validation").permutation(len(items)) if held_out else range(len(items))
        )
        validation, training = sorted(shuffled[:held_out]), sorted(shuffled[held_out:])
        fitting_batch_size(settings.batch_size, len(training), what)
        self.training = [items[number] for number in training]
        self.validation = [items[number] for number in validation] if given is None else list(given[0])
        self.order = BatchOrder([lengths[n] for n in training], settings.batch_size, seed=seed, stage=stage)
        held_out_lengths = [lengths[n] for n in validation] if given is None else given[1]
        self.validation_order = (
            BatchOrder(held_out_lengths, settings.batch_size, seed=seed, stage=stage, shuffle=False)
            if self.validation
            else None
        )
        lengths_of_it = (schedule.epochs and schedule.epochs * len(self.order), schedule.max_steps)
        self.total_steps = min(steps for steps in lengths_of_it if steps)

    def train_dataloader(self) -> BatchLoader[Any]:
        """Return this process's part of the batches."""
        return self._loader(self.training, self.order, self.parts)

    def val_dataloader(self) -> BatchLoader[Any] | list[Any]:
        """Return this process's part of the validation batches; nothing if nothing is held out."""
        return [] if self.validation_order is None else self._loader(self.validation, self.validation_order)

    def _loader(self, items: Sequence[Any], order: BatchOrder, parts: int = 1) -> BatchLoader[Any]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return BatchLoader(items, order, self.collate, rank=rank, world_size=world_size, parts=parts)


def fingerprint(*parts: object) -> str:
    """Return a digest of what a checkpoint belongs to: model, data and settings, as plain data."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Return token ids [n, longest] filled up on the right with `value`, and the mask of the real ones."""
    ids = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, : len(tokens)] = 1
    return ids, mask
