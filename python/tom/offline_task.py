"""The task behind an offline dataset: rows of any policy in it, and where policies come from."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.cloning import clone_policy
from tom.collection import collect
from tom.datasets import Dataset
from tom.dual_q import Policy
from tom.offline_config import OfflineConfig
from tom.process import use_threads
from tom.saved_run import find_run, load_policy
from tom.streams import RandomStreams
from tom.task_env import action_bounds, layout_of, make_env
from tom.tasks import find_task
from tom.user_path import user_path


class OfflineTask:
    """The configured task.

    Attributes:
        task: which it is.
        layout: the layout of its rows.

    Raises:
        ValueError: an environment that does not exist, or has no bounded Box spaces.
    """

    def __init__(self, config: OfflineConfig) -> None:
        self.config = config
        self.task = find_task(config.env, config.env_args)
        self._device = torch.device(config.device)
        self._threads = use_threads(config.threads)
        self._env = make_env(config, config.num_envs, self._threads)
        self.layout = layout_of(self._env)
        self._low, self._high = action_bounds(self._env)

    def random_rows(self) -> Dataset:
        """`transitions` rows of uniform actions between the bounds."""
        streams = RandomStreams([self.config.seed], "random_half", torch.device("cpu"))

        def act(observations: Tensor) -> Tensor:
            u = streams.uniform(len(observations), self.layout.action_size)[0]
            return self._low + u * (self._high - self._low)

        return collect(self._env, self.layout, act, self.config.transitions, self.config.seed, 0)

    def policy_rows(self, policy: Policy) -> Dataset:
        """`discriminator.current_rows` rows of a policy.

        From no more environments than leave room for whole episodes: else the rows would show the
        beginnings of episodes alone, which is not what the policy visits.
        """

        def act(observations: Tensor) -> Tensor:
            return policy(observations.to(self._device).unsqueeze(0))[0].cpu()

        count = self.config.discriminator.current_rows
        longest = (self._env.spec and self._env.spec.max_episode_steps) or count
        num_envs = min(self.config.num_envs, max(1, count // longest))
        env = make_env(self.config, num_envs, self._threads)
        try:
            return collect(env, self.layout, act, count, self.config.seed, 1)
        finally:
            env.close()

    def load_actor(self, name: str, source: str) -> Policy:
        """The actor in the run folder that the setting `name` gives.

        Raises:
            ConfigError: no such run, or one of another task.
        """
        given, bounds = f"{name}: given {source}", (self._low, self._high)
        run = find_run(user_path(source, given), given, self.task)
        return load_policy(run, given, self.layout, *bounds, self._streams()).act

    def clone(self, rows: Tensor) -> Policy:
        """A policy fitted to the newest `discriminator.current_rows` of these rows [n, W]."""
        newest = rows[-self.config.discriminator.current_rows :]
        bounds = (self._low, self._high)
        return clone_policy(newest, self.layout, *bounds, self.config.sac, self._streams())

    def close(self) -> None:
        """Free the simulators."""
        self._env.close()

    def _streams(self) -> RandomStreams:
        return RandomStreams([self.config.seed], "policy", self._device)
