"""A fixed number of transitions of one policy, from environments side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tom.collector import take_step
from tom.datasets import Dataset
from tom.gym_vector import TomVectorEnv
from tom.rows import RowLayout


def collect(
    env: TomVectorEnv,
    layout: RowLayout,
    act: Callable[[Tensor], Tensor],
    count: int,
    seed: int,
    purpose: int,
) -> Dataset:
    """Step all environments together, episode after episode, until there are `count` rows.

    Args:
        env: a vector environment in `SAME_STEP` autoreset mode.
        layout: the row's layout.
        act: actions [N, A] for observations [N, O], both float32 on the CPU.
        count: rows, of which neighbours come from different environments.
        seed: the run's seed.
        purpose: another number gives other first states.

    Returns:
        The rows, the first states of all episodes, and the returns of those that ended.
    """
    starts = np.random.SeedSequence([seed, purpose, 3]).generate_state(env.num_envs)
    first, _ = env.reset(seed=[int(s) for s in starts])
    observations = torch.as_tensor(first, dtype=torch.float32)
    rows, filled = torch.empty(count, layout.width), 0
    begun, ended, returns = [observations], [], np.zeros(env.num_envs)
    while filled < count:
        step = take_step(env, layout, observations, act(observations))
        new = step.rows[: count - filled]
        rows[filled : filled + len(new)] = new
        filled, observations = filled + len(new), step.observations
        returns += step.rewards
        if len(step.over):
            begun.append(observations[step.over])
            ended += returns[step.over].tolist()
            returns[step.over] = 0.0
    return Dataset(rows, torch.cat(begun), tuple(ended))
