"""Which weighting an algorithm has: the one place where the algorithms part."""

from __future__ import annotations

import torch

from tom.config import Config
from tom.names import ALGORITHMS
from tom.own_weighting import OwnWeighting
from tom.rows import RowLayout
from tom.weighting import OccupancyWeighting, RecencyWeighting, UniformWeighting, Weighting


def make_weighting(
    layout: RowLayout, config: Config, seeds: list[int], device: torch.device
) -> Weighting:
    """The configured algorithm's weighting.

    Args:
        layout: the row's layout.
        config: the run's settings.
        seeds: the runs' seeds.
        device: where the networks live.

    Raises:
        ConfigError: the user's own function raised an error, or made something else.
        ValueError: there is no such function.
    """
    if config.algorithm in ("mbpo", "sac"):  # plain SAC asks for none
        return UniformWeighting()
    if config.algorithm == "pmac":
        return RecencyWeighting(config.weights.decay, config.exploration_steps)
    if config.algorithm not in ALGORITHMS:
        return OwnWeighting(layout, config, seeds, device)
    return OccupancyWeighting(layout, config, seeds, device)
