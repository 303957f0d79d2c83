"""Read and evaluate many rows of a stack of seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 8192
"""Rows per piece: a hidden layer of 256 then takes 8 MiB per seed."""


def in_chunks(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` [S, N, ...], computed `CHUNK` rows of axis 1 at a time."""
    pieces = zip(*(tensor.split(CHUNK, dim=1) for tensor in inputs), strict=True)
    return torch.cat([function(*piece) for piece in pieces], dim=1)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """rows[s, index[s, b]]: [S, N, W] and int64 [S, B] → [S, B, W]."""
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
