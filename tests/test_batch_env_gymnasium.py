"""BatchEnv in the hands of others: Gymnasium's checks and wrappers, and a third-party loop."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_returned_data_not_reused
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    ClipAction,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
)
from torch import nn

from tom.batch_env import BatchEnv
from tom.task_arguments import supported_ids

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


@pytest.fixture(autouse=True)
def _mujoco_log_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Gymnasium's simulations write MUJOCO_LOG.TXT where they run


def sync(env_id: str, num_envs: int, mode: AutoresetMode, steps: int) -> SyncVectorEnv:
    return SyncVectorEnv(
        [lambda: gymnasium.make(env_id, max_episode_steps=steps) for _ in range(num_envs)],
        autoreset_mode=mode,
    )


@pytest.mark.parametrize("env_id", supported_ids())
def test_gymnasiums_own_checks_pass(env_id):
    # One sub-environment: the checks are written for single ones and ask `if terminated:`.
    with BatchEnv(env_id, 1, max_episode_steps=10) as env:
        check_returned_data_not_reused(env)
        check_environments_match(env, sync(env_id, 1, AutoresetMode.NEXT_STEP, 10), num_steps=30)
        assert env.observation_space.contains(env.reset(seed=0)[0])
        assert env.spec.id == env_id


@pytest.mark.parametrize(
    ("wrapper", "mode"),
    [
        (NormalizeObservation, AutoresetMode.NEXT_STEP),  # the only mode it takes
        *itertools.product((RecordEpisodeStatistics, NormalizeReward, ClipAction), MODES),
    ],
)
def test_vector_wrappers_do_with_it_what_they_do_with_gymnasium(wrapper, mode):
    ours = wrapper(BatchEnv("Hopper-v5", 3, autoreset_mode=mode, max_episode_steps=15))
    theirs = wrapper(sync("Hopper-v5", 3, mode, 15))
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    theirs.action_space.seed(0)
    for _ in range(40):
        action = theirs.action_space.sample()
        result, expected = ours.step(action), theirs.step(action)
        for one, other in zip(result[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        assert result[4].keys() == expected[4].keys()
        if "episode" in expected[4]:
            for key in ("r", "l"):
                np.testing.assert_array_equal(
                    result[4]["episode"][key], expected[4]["episode"][key]
                )
    ours.close()


class Agent(nn.Module):
    def __init__(self, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(observation_size, 32), nn.Tanh(), nn.Linear(32, action_size)
        )
        self.value = nn.Sequential(nn.Linear(observation_size, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def forward(
        self, observations: torch.Tensor
    ) -> tuple[torch.distributions.Normal, torch.Tensor]:
        policy = torch.distributions.Normal(self.mean(observations), self.log_std.exp())
        return policy, self.value(observations).squeeze(-1)


def test_a_single_file_ppo_learns_on_it():
    """The loop that single-file libraries run: a vector environment, wrappers, and PPO."""
    steps, gamma, lam = 64, 0.99, 0.95
    env = NormalizeObservation(
        RecordEpisodeStatistics(ClipAction(BatchEnv("InvertedPendulum-v5", 16)))
    )
    agent = Agent(4, 1)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    observation = torch.as_tensor(env.reset(seed=0)[0], dtype=torch.float32)
    over = torch.zeros(16)
    returns: list[float] = []
    for _ in range(25):
        memory = []
        for _ in range(steps):
            with torch.no_grad():
                policy, value = agent(observation)
                action = policy.sample()
            reset_step = over
            following, reward, terminated, truncated, infos = env.step(action.numpy())
            over = torch.as_tensor(terminated | truncated, dtype=torch.float32)
            memory.append(
                (
                    observation,
                    action,
                    policy.log_prob(action).sum(-1),
                    value,
                    torch.as_tensor(reward, dtype=torch.float32),
                    over,
                    1 - reset_step,  # a step that only resets teaches nothing
                )
            )
            observation = torch.as_tensor(following, dtype=torch.float32)
            if "episode" in infos:
                returns += infos["episode"]["r"][infos["_episode"]].tolist()
        observations, actions, old_log_prob, values, rewards, ends, valid = (
            torch.stack(part) for part in zip(*memory, strict=True)
        )
        with torch.no_grad():
            next_value, advantage = agent(observation)[1], torch.zeros(16)
            advantages = torch.zeros_like(values)
            for t in reversed(range(steps)):
                delta = rewards[t] + gamma * (1 - ends[t]) * next_value - values[t]
                advantage = delta + gamma * lam * (1 - ends[t]) * advantage
                advantages[t], next_value = advantage, values[t]
        targets = advantages + values
        for _ in range(8):
            policy, value = agent(observations)
            ratio = (policy.log_prob(actions).sum(-1) - old_log_prob).exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
            loss = (valid * ((value - targets).square() * 0.01 - gain)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    env.close()
    assert np.mean(returns[-50:]) > 4 * np.mean(returns[:50])
