"""Sums and gathers over the processes that train together; with one process they change nothing."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def global_sum(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes, without gradient; the argument is left as it is."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows [n_r, ...] of all processes in the order of their ranks, and where this process's begin.

    Processes may hold different numbers of rows. Gradients flow back to every process's rows: the gradient of a row
    is the sum of what all processes' losses say about it.
    """
    if world_size() == 1:
        return rows, 0
    mine = torch.zeros(world_size(), dtype=torch.long, device=rows.device)
    mine[rank()] = len(rows)
    counts = [int(count) for count in global_sum(mine)]
    gathered: Tensor = _Gather.apply(rows, counts)  # type: ignore[no-untyped-call]
    return gathered, sum(counts[: rank()])


class _Gather(torch.autograd.Function):
    """All-gather of unequal numbers of rows; its backward pass sums the gradients over processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.counts[: rank()])
        return total[start : start + ctx.counts[rank()]], None
