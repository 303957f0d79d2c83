"""The policy's minibatches: model rows with a share of real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.config import Config
from tom.model_buffer import ModelBuffer
from tom.replays import Replays
from tom.transfer import to_device


def policy_batches(
    replays: Replays, model_buffer: ModelBuffer, config: Config, lowest_reward: Tensor
) -> Tensor:
    """Minibatches for all updates of one environment step, [G, S, B, W].

    All of them are gathered at once. Each has `sac.real_fraction` of real rows, drawn uniformly;
    if any are asked for, at least one. Without a model all rows are real.

    Args:
        replays: the real rows.
        model_buffer: the model rows.
        config: the run's settings.
        lowest_reward: the lowest real reward so far [S], the shift of the log transform: the
            policy's reward is then log(max(r − lowest, 0) + 1), which is never negative.
    """
    updates, batch = config.updates_per_step, config.sac.batch_size
    share = config.sac.real_fraction if config.model_based else 1.0
    real = max(1, round(batch * share)) if share > 0 else 0
    parts = []
    if real:
        parts.append(replays.sample_uniform(updates * real)[1].unflatten(1, (updates, real)))
    if real < batch:
        model = model_buffer.sample(updates * (batch - real))
        parts.append(model.unflatten(1, (updates, batch - real)))
    rows = torch.cat(parts, dim=2).transpose(0, 1).contiguous()
    if config.reward_transform == "log":
        reward = rows[..., replays.layout.reward]
        lowest = to_device(lowest_reward, reward.device).view(1, -1, 1)
        reward.copy_(torch.log1p((reward - lowest).clamp(min=0)))
    return rows
