"""The task behind an offline dataset: rows of any policy in it, and where policies come from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tom.cloning import clone_policy
from tom.collection import collect
from tom.datasets import Dataset
from tom.dual_q import Policy
from tom.experiment import make_env
from tom.gym_vector import box
from tom.offline_config import OfflineConfig
from tom.process import use_threads
from tom.rows import RowLayout
from tom.saved_run import find_run, load_policy
from tom.streams import RandomStreams


class OfflineTask:
    """The configured task.

    Attributes:
        layout: the layout of its rows.

    Raises:
        ValueError: an environment that does not exist, or has no bounded Box spaces.
    """

    def __init__(self, config: OfflineConfig) -> None:
        self.config = config
        self._device = torch.device(config.device)
        self._env = make_env(config, config.num_envs, use_threads(config.threads))
        space = box(self._env.single_action_space)
        self._low, self._high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        size = box(self._env.single_observation_space).shape[0]
        self.layout = RowLayout(size, space.shape[0])

    def random_rows(self) -> Dataset:
        """`transitions` rows of uniform actions between the bounds."""
        streams = RandomStreams([self.config.seed], "random_half", torch.device("cpu"))

        def act(observations: Tensor) -> Tensor:
            u = streams.uniform(len(observations), self.layout.action_size)[0]
            return self._low + u * (self._high - self._low)

        return collect(self._env, self.layout, act, self.config.transitions, self.config.seed, 0)

    def policy_rows(self, policy: Policy) -> Dataset:
        """`discriminator.current_rows` rows of a policy."""

        def act(observations: Tensor) -> Tensor:
            return policy(observations.to(self._device).unsqueeze(0))[0].cpu()

        count = self.config.discriminator.current_rows
        return collect(self._env, self.layout, act, count, self.config.seed, 1)

    def load_actor(self, name: str, source: str) -> Policy:
        """The actor in the run folder that the setting `name` gives.

        Raises:
            ConfigError: no such run, or one of another task.
        """
        path, given = Path(source).expanduser(), f"{name}: given {source}"
        run, bounds = find_run(path, given, self.config.env), (self._low, self._high)
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
