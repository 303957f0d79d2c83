"""Read and evaluate many rows of a stack of seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 32_768
"""Rows per piece. Fewer cost a seventh of a model rollout, in small calls; a hidden layer of 256,
where one is kept, takes 32 MiB per seed."""


def in_chunks(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` [S, N, ...], computed `CHUNK` rows of axis 1 at a time."""
    pieces = zip(*(tensor.split(CHUNK, dim=1) for tensor in inputs), strict=True)
    return torch.cat([function(*piece) for piece in pieces], dim=1)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """rows[s, index[s, b]]: [S, N, W] and int64 [S, B] → [S, B, W]."""
    if rows.device.type != "cpu":  # one kernel for all seeds
        return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
    out = rows.new_empty(*index.shape, rows.shape[-1])
    for part, seed_rows, seed_index in zip(out, rows, index, strict=True):
        torch.index_select(seed_rows, 0, seed_index, out=part)
    return out


def write_ring(ring: Tensor, rows: Tensor, start: int) -> None:
    """Write rows [..., n, W] into a ring [..., N, W] from slot `start` on, n ≤ N."""
    n = rows.shape[-2]
    first = min(n, ring.shape[-2] - start)
    ring[..., start : start + first, :] = rows[..., :first, :]
    ring[..., : n - first, :] = rows[..., first:, :]
