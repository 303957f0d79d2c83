"""A policy fitted to recorded actions: maximum likelihood, also called behaviour cloning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tom.batching import take
from tom.config import SACConfig
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

STEPS = 5000
"""Gradient steps: 128 passes over the default 10 000 rows at batch 256."""

EDGE = 1e-3
"""Distance that recorded actions, normalised to [−1, 1], are kept from ±1, where tanh⁻¹ ends."""


def clone_policy(
    rows: Tensor,
    layout: RowLayout,
    low: Tensor,
    high: Tensor,
    config: SACConfig,
    streams: RandomStreams,
    steps: int = STEPS,
) -> Callable[[Tensor], Tensor]:
    """SAC's squashed Gaussian, fitted to the actions of rows.

    Args:
        rows: [n, W] of the policy to be imitated.
        layout: their layout.
        low: the actions' lower bounds [A].
        high: their upper bounds [A].
        config: the actor's layers, batch size and learning rate.
        streams: one random stream.
        steps: gradient steps.

    Returns:
        The policy: it draws actions [1, B, A] for observations [1, B, O].
    """
    sac = SAC(layout, low, high, config, 0.0, streams)
    rows = rows.unsqueeze(0).to(streams.device)
    low, high = low.to(streams.device), high.to(streams.device)
    for _ in range(steps):
        batch = take(rows, streams.integers([rows.shape[1]], config.batch_size))
        normalised = 2 * (batch[..., layout.action] - low) / (high - low) - 1
        unsquashed = torch.atanh(normalised.clamp(-1 + EDGE, 1 - EDGE))
        sac.imitate(batch[..., layout.observation], unsquashed)
    return sac.act
