"""Small worlds for the tests of the learning parts."""

from __future__ import annotations

import torch
from torch import Tensor

from conftest import CPU
from tom.replays import Replays
from tom.rows import RowLayout

LAYOUT = RowLayout(observation_size=2, action_size=1)


def filled_replays(rows: Tensor, capacity: int | None = None) -> Replays:
    """Buffers holding rows [S, N, W], seed by seed."""
    replays = Replays(LAYOUT, capacity or rows.shape[1], list(range(len(rows))), CPU)
    for buffer, part in zip(replays.buffers, rows, strict=True):
        buffer.append(part.contiguous())
    return replays


def linear_world(seeds: int, n: int, noise: float = 0.1) -> Tensor:
    """Rows [S, n, W] of s' = s + 0.3 a + noise, r = s₀ − a, from standard normal s and a."""
    s, a = torch.randn(seeds, n, 2), torch.randn(seeds, n, 1)
    following = s + 0.3 * a + noise * torch.randn(seeds, n, 2)
    return LAYOUT.join(s, a, following, s[..., 0] - a[..., 0], torch.zeros(seeds, n))
