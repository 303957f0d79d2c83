"""ξ* of a fixed dataset for one policy: the weights of (23) without a training run around them."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.config import Config
from tom.datasets import Dataset
from tom.dual_q import Policy
from tom.initial_states import InitialStates
from tom.replays import Replays
from tom.rows import RowLayout
from tom.streams import RandomStreams
from tom.weighting import OccupancyWeighting


def dataset_weights(
    dataset: Dataset, layout: RowLayout, policy: Policy, current: Tensor, config: Config
) -> tuple[Tensor, dict[str, float]]:
    """Discriminator, dual Q, then f*'(δ) for every row.

    Args:
        dataset: N rows and first states of episodes.
        layout: the rows' layout.
        policy: the policy of interest; it draws actions [1, B, A] for observations [1, B, O].
        current: transitions of its own [n, W].
        config: its `discriminator`, `dual_q`, `weights.max_weight`, `divergence`, `discount`,
            `device` and first seed count.

    Returns:
        Weights [N] on the CPU, and the metrics of the two trainings.

    Raises:
        TrainingError: discriminator or dual Q has diverged.
    """
    device, seeds = torch.device(config.device), [config.seed]
    replays = Replays(layout, len(dataset.rows), seeds, device)
    replays.buffers[0].append(dataset.rows.contiguous())
    streams = RandomStreams(seeds, "dataset_initial_states", device)
    initial_states = InitialStates(layout.observation_size, streams)
    for state in dataset.initial_states:
        initial_states.append(0, state)
    weighting = OccupancyWeighting(layout, config, seeds, device)
    own = current.unsqueeze(0).to(device)
    weights, metrics = weighting.update(replays, initial_states.sample, policy, own)
    return weights[0].cpu(), {name: value.item() for name, value in metrics.items()}
