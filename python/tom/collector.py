"""The real environment: one simulation per seed, stepped together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tom.gym_vector import TomVectorEnv
from tom.initial_states import InitialStates
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams
from tom.task_env import action_bounds
from tom.training_error import TrainingError
from tom.transfer import to_device

EPISODES_REPORTED = 10
"""`rollout/ep_rew_mean` is the mean over this many finished episodes."""


@dataclass(frozen=True)
class Step:
    """One step of N environments.

    Attributes:
        rows: [N, W].
        observations: [N, O], the states that follow, of new episodes where one ended.
        rewards: [N], in the environment's own precision.
        over: indices of the environments whose episode ended.
    """

    rows: Tensor
    observations: Tensor
    rewards: npt.NDArray[np.float64]
    over: npt.NDArray[np.int64]


def name_of(env: TomVectorEnv) -> str:
    """The environment's id, for messages."""
    return env.spec.id if env.spec else "the environment"


def finite_actions(actions: Tensor) -> Tensor:
    """A policy's actions on the CPU; raises TrainingError if one is not a finite number."""
    actions = actions.cpu()
    if not actions.isfinite().all():
        raise TrainingError(
            "the policy's actions are not finite numbers any more: soft actor-critic has diverged; "
            "try a smaller learning rate or smaller rewards"
        )
    return actions


def take_step(env: TomVectorEnv, layout: RowLayout, observations: Tensor, actions: Tensor) -> Step:
    """Take actions [N, A], on any device, in the states [N, O] where the environments are.

    Raises:
        TrainingError: an action, an observation or a reward that is not a finite float32 number.
    """
    actions = finite_actions(actions)
    following, rewards, terminated, truncated, _ = env.step(actions.numpy())
    rows = layout.join(
        observations,
        actions,
        torch.as_tensor(env.final_observations, dtype=torch.float32),
        torch.as_tensor(rewards, dtype=torch.float32),
        torch.as_tensor(terminated),
    )
    if not rows.isfinite().all():
        _refuse(env, layout, rows)
    states = torch.as_tensor(following, dtype=torch.float32)
    return Step(rows, states, rewards, np.flatnonzero(terminated | truncated))


def _refuse(env: TomVectorEnv, layout: RowLayout, rows: Tensor) -> NoReturn:
    """Name the first number of rows [N, W] that is not finite."""
    n, column = (int(i) for i in (~rows.isfinite()).nonzero()[0])
    name = "reward"
    for states in (layout.observation, layout.next_observation):
        if states.start <= column < states.stop:
            name = f"observation [{column - states.start}]"
    raise TrainingError(
        f"{name_of(env)} returned the {name} {rows[n, column].item()} in environment {n}; "
        "allowed are finite numbers within float32's range"
    )


class Collector:
    """Steps the seeds' environments and turns each step into a row.

    Args:
        env: a vector environment in `SAME_STEP` autoreset mode, one environment per seed.
        layout: the row's layout.
        initial_states: where first states of episodes are remembered.
        seeds: the runs' seeds; they also seed the environments.
        streams: random streams of the exploration's actions.
    """

    def __init__(
        self,
        env: TomVectorEnv,
        layout: RowLayout,
        initial_states: InitialStates,
        seeds: Sequence[int],
        streams: RandomStreams,
    ) -> None:
        self.env, self.layout, self.initial_states = env, layout, initial_states
        self._seeds, self._streams = seeds, streams
        bounds = (to_device(bound, streams.device) for bound in action_bounds(env))
        self.action_low, self.action_high = bounds
        self.lowest_reward = torch.full((len(seeds),), torch.inf)
        self._returns = np.zeros(len(seeds))
        self._lengths = np.zeros(len(seeds), dtype=np.int64)
        self._finished: list[deque[tuple[float, int]]] = [
            deque(maxlen=EPISODES_REPORTED) for _ in seeds
        ]
        self._observations = self._reset(seeds)

    def _reset(self, seeds: Sequence[int]) -> Tensor:
        observations, _ = self.env.reset(seed=list(seeds))
        self._observations = torch.as_tensor(observations, dtype=torch.float32)
        for s, first in enumerate(self._observations):
            self.initial_states.append(s, first)
        return self._observations

    @property
    def observations(self) -> Tensor:
        """Current observations on the learning device, [S, O]."""
        return to_device(self._observations, self._streams.device)

    def random_actions(self) -> Tensor:
        """Uniform actions between the bounds, [S, A]."""
        u = self._streams.uniform(self.layout.action_size)
        return self.action_low + u * (self.action_high - self.action_low)

    def step(self, actions: Tensor) -> Tensor:
        """Take actions [S, A] in the seeds' environments; the rows [S, W], on the CPU."""
        step = take_step(self.env, self.layout, self._observations, actions)
        rows, self._observations = step.rows, step.observations
        self.lowest_reward = torch.minimum(self.lowest_reward, rows[:, self.layout.reward])
        self._returns += step.rewards
        self._lengths += 1
        for s in step.over:
            self._finished[s].append((float(self._returns[s]), int(self._lengths[s])))
            self._returns[s], self._lengths[s] = 0.0, 0
            self.initial_states.append(int(s), self._observations[s])
        return rows

    def metrics(self) -> dict[str, Tensor]:
        """`rollout/ep_rew_mean` and `rollout/ep_len_mean` over the last episodes, each [S]."""
        return {
            "rollout/ep_rew_mean": _means(self._finished, 0),
            "rollout/ep_len_mean": _means(self._finished, 1),
        }

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        finished = torch.full((len(self._finished), EPISODES_REPORTED, 2), torch.nan).double()
        for s, episodes in enumerate(self._finished):
            for i, episode in enumerate(episodes):
                finished[s, i] = torch.tensor(episode, dtype=torch.float64)
        return {
            "env": self.env.state_dict() if self.env.can_save_state else {},
            "streams": self._streams.state_dict(),
            "initial_states": self.initial_states.state_dict(),
            "observations": self._observations,
            "lowest_reward": self.lowest_reward,
            "returns": torch.from_numpy(self._returns.copy()),
            "lengths": torch.from_numpy(self._lengths.copy()),
            "finished": finished,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave.

        An environment that cannot be saved starts a new episode instead, with a seed of its own
        that follows from the run's seed and the number of episodes so far.
        """
        self._streams.load_state_dict(state["streams"])
        self.initial_states.load_state_dict(state["initial_states"])
        self.lowest_reward = state["lowest_reward"]
        for kept, episodes in zip(self._finished, state["finished"], strict=True):
            kept.clear()
            kept.extend((float(r), int(n)) for r, n in episodes if not torch.isnan(r))
        if state["env"]:
            self.env.load_state_dict(state["env"])
            self._observations = state["observations"]
            self._returns = state["returns"].numpy()
            self._lengths = state["lengths"].numpy()
        else:
            episodes = self.initial_states.counts
            pairs = zip(self._seeds, episodes, strict=True)
            entropy = [np.random.SeedSequence([seed, count, 2]) for seed, count in pairs]
            self._observations = self._reset([int(e.generate_state(1)[0]) for e in entropy])


def _means(episodes: Sequence[deque[tuple[float, int]]], part: int) -> Tensor:
    """Each seed's mean of one part of its (return, length) pairs, [S]; nan where there is none."""
    means = [fmean(episode[part] for episode in seed) if seed else math.nan for seed in episodes]
    return torch.tensor(means, dtype=torch.float64)
