"""Deterministic evaluation episodes of all seeds in one batched simulator.

The simulator is the evaluation's own and its seeds follow from the run's seed and the step, so an
evaluation leaves no trace in the training and needs nothing saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tom.collector import finite_actions, name_of
from tom.config import EvaluationConfig
from tom.gym_vector import TomVectorEnv
from tom.training_error import TrainingError

LONGEST_EPISODE = 100_000
"""Steps after which an episode counts as over, for environments without a time limit."""


class Evaluation:
    """Runs `episodes` episodes per seed, all at once.

    Args:
        env: a vector environment with S · episodes environments.
        config: its settings.
        seeds: the runs' seeds.
        device: where the policy lives.
    """

    def __init__(
        self,
        env: TomVectorEnv,
        config: EvaluationConfig,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.env, self.config, self.seeds, self.device = env, config, list(seeds), device

    @property
    def limited(self) -> bool:
        """Whether the environment is registered with a time limit."""
        spec = self.env.spec
        return spec is not None and spec.max_episode_steps is not None

    def run(self, step: int, policy: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Evaluate a deterministic policy, [S, B, O] → [S, B, A].

        Returns:
            `eval/mean_reward`, `eval/std_reward` (over the episodes), `eval/mean_ep_length`: [S].

        Raises:
            TrainingError: an action, or an observation or a reward of an episode that goes on, is
                not a finite number.
        """
        shape = (len(self.seeds), self.config.episodes)
        entropy = [np.random.SeedSequence([seed, step, 1]) for seed in self.seeds]
        starts = [int(s) for e in entropy for s in e.generate_state(shape[1])]
        observations, _ = self.env.reset(seed=starts)
        returns, lengths = np.zeros(len(starts)), np.zeros(len(starts))
        running = np.ones(len(starts), dtype=bool)
        for _ in range(LONGEST_EPISODE):
            if not running.any():
                break
            batch = torch.as_tensor(observations, dtype=torch.float32).to(self.device)
            actions = finite_actions(policy(batch.unflatten(0, shape)).flatten(0, 1))
            observations, rewards, terminated, truncated, _ = self.env.step(actions.numpy())
            if not all(np.isfinite(x[running]).all() for x in (observations, rewards)):
                raise TrainingError(
                    f"{name_of(self.env)} returned an observation or a reward in an evaluation "
                    "that is not finite; allowed are finite numbers"
                )
            returns += np.where(running, rewards, 0.0)
            lengths += running
            running &= ~(terminated | truncated)
        per_seed = torch.from_numpy(returns).view(shape)
        return {
            "eval/mean_reward": per_seed.mean(1),
            "eval/std_reward": per_seed.std(1, correction=0),
            "eval/mean_ep_length": torch.from_numpy(lengths).view(shape).mean(1),
        }
