"""A trained policy to act with: `tom.load_agent("runs/hopper-tom-seed0").act(observation)`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from tom.devices import check_device
from tom.gym_vector import box
from tom.rendering import check_rendering
from tom.saved_run import SavedRun, find_run, load_policy
from tom.streams import RandomStreams
from tom.task_env import action_bounds, layout_of, make_env
from tom.tasks import find_task
from tom.user_path import user_path


class Agent:
    """The policy of one seed of a run; made by :func:`load_agent`.

    Attributes:
        config: the run's settings.
        seed: the seed.
        step: environment steps that it had taken.
    """

    def __init__(self, run: SavedRun, given: str, device: torch.device) -> None:
        self.config, self.seed, self.step = run.config, run.seed, run.step
        self._device = device
        env = make_env(run.config, 1, 1)  # as the training sees it: with flat spaces
        layout, bounds = layout_of(env), action_bounds(env)
        env.close()
        streams = RandomStreams([self.seed], "agent", device)
        self._policy = load_policy(run, given, layout, *bounds, streams)
        plain = self.make_env()
        self._observation_shape = box(plain.observation_space).shape
        self._action_shape = box(plain.action_space).shape
        plain.close()

    def make_env(self, **kwargs: Any) -> gymnasium.Env[Any, Any]:
        """The run's task as Gymnasium makes it, such as with `render_mode="human"`.

        Raises:
            ValueError: a `render_mode` for which this machine has no display.
        """
        task = find_task(self.config.env, self.config.env_args)
        env = gymnasium.make(task.id, **{**task.kwargs, **kwargs})
        try:
            check_rendering(env)
        except ValueError:
            env.close()
            raise
        return env

    def act(
        self, observations: npt.ArrayLike, *, deterministic: bool = True
    ) -> npt.NDArray[np.float32]:
        """Actions [A] for an observation [O], or [B, A] for [B, O], between the actions' bounds.

        Where the environment's boxes have several axes, observations and actions have them too.

        Args:
            observations: one, or a batch.
            deterministic: take the middle of the policy's distribution, as evaluations do, or draw
                from it, as the training does.

        Raises:
            ValueError: observations of another shape.
        """
        given = torch.as_tensor(np.asarray(observations, np.float32))
        shape = list(self._observation_shape)
        batch = given.shape[: given.ndim - len(shape)]
        if list(given.shape[len(batch) :]) != shape or len(batch) > 1:
            raise ValueError(
                f"observations: given the shape {list(given.shape)}, allowed are {shape} and "
                f"[B, {', '.join(map(str, shape))}]"
            )
        flat = given.reshape(1, math.prod(batch), math.prod(shape)).to(self._device)
        policy = self._policy.act_deterministically if deterministic else self._policy.act
        actions: npt.NDArray[np.float32] = policy(flat)[0].cpu().numpy()
        return actions.reshape(*batch, *self._action_shape)


def load_agent(
    run_dir: str | Path, seed: int | None = None, *, device: str | torch.device = "cpu"
) -> Agent:
    """The agent of a run of tom.train, or of tom.offline's replay half, at its newest checkpoint.

    Args:
        run_dir: the run's folder.
        seed: which of its seeds; left out, the first.
        device: where the policy is computed: cpu, cuda or cuda:N.

    Raises:
        ConfigError: no such run, seed or device, or a run without a checkpoint.
        ValueError: an environment that cannot be made.
    """
    check_device(str(device))
    given = f"run_dir: given {run_dir}"
    path = user_path(run_dir, given)
    return Agent(find_run(path, given, seed=seed), given, torch.device(device))
