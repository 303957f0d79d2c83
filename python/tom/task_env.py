"""The configured task as a vector environment, and what the other parts need to know of it."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from tom.environment_ids import environment_spec
from tom.gym_vector import TomVectorEnv, box, make_vector_env
from tom.rows import RowLayout
from tom.settings import ConfigError, Settings
from tom.tasks import TASKS, find_task


def make_env(config: Settings, num_envs: int, threads: int) -> TomVectorEnv:
    """The configured task, `num_envs` at once, in `SAME_STEP` autoreset mode.

    Raises:
        ConfigError: an action space without bounds, or an argument of another type.
        ValueError: an environment that does not exist, cannot be made or has no Box spaces.
    """
    task = find_task(config.env, config.env_args)
    environment_spec(task.id, TASKS)  # refuses unknown ones in view of the short names
    try:
        env = make_vector_env(
            task.id,
            num_envs,
            min(threads, num_envs),
            autoreset_mode=AutoresetMode.SAME_STEP,
            **task.kwargs,
        )
    except OSError as error:
        raise ConfigError(
            f"env_args: given {' '.join(config.env_args)}, with which {config.env} cannot be made "
            f"({error}), allowed are files that can be read"
        ) from error
    except TypeError as error:  # of the simulator's arguments; others' end as a ValueError
        raise ConfigError(f"env_args: {error}") from error
    space = box(env.single_action_space)
    if not np.isfinite([space.low, space.high]).all():
        env.close()
        raise ConfigError(
            f"env: given {config.env!r} with an unbounded action space, allowed are environments "
            f"whose actions have finite bounds"
        )
    return env


def layout_of(env: TomVectorEnv) -> RowLayout:
    """The layout of its transitions."""
    observations, actions = box(env.single_observation_space), box(env.single_action_space)
    return RowLayout(observations.shape[0], actions.shape[0])


def action_bounds(env: TomVectorEnv) -> tuple[Tensor, Tensor]:
    """The least and the greatest of each action, float32 [A]."""
    space = box(env.single_action_space)
    low, high = (torch.as_tensor(end, dtype=torch.float32) for end in (space.low, space.high))
    return low, high
