"""Model rollouts step, sample and terminate as the model and the task's rule say."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers import LAYOUT, filled_replays, linear_world, streams
from tom.config import Config, DynamicsConfig, RolloutConfig, override
from tom.dynamics import DynamicsEnsemble
from tom.rollouts import ModelRollouts, rows_kept
from tom.termination import TerminationRule


def _rollouts(terminated: TerminationRule) -> ModelRollouts:
    config = DynamicsConfig(
        members=3, elites=2, hidden=(32, 32), learning_rate=3e-3, batches_per_epoch=40
    )
    dynamics = DynamicsEnsemble(LAYOUT, config, "sample", streams(0, 1))
    dynamics.fit(filled_replays(linear_world(2, 3000, noise=0.02)), torch.ones(2, 3000))
    return ModelRollouts(LAYOUT, dynamics, terminated, streams(0, 1, purpose="rollouts"))


def _push(observations: Tensor) -> Tensor:
    return torch.ones(*observations.shape[:-1], 1)


def _never(observations: Tensor) -> Tensor:
    return torch.zeros(len(observations), dtype=torch.bool)


def test_rows_follow_the_learned_model() -> None:
    starts = torch.randn(2, 1001, 2)
    rows = _rollouts(_never).run(starts, _push, 1)
    assert [r.shape for r in rows] == [(1001, LAYOUT.width)] * 2
    for start, found in zip(starts, rows, strict=True):
        assert torch.equal(found[:, LAYOUT.observation], start)
        change = found[:, LAYOUT.next_observation] - found[:, LAYOUT.observation]
        assert (change - 0.3).abs().mean() < 0.1
        assert bool((found[:, LAYOUT.action] == 1).all())
        assert bool((found[:, LAYOUT.terminated] == 0).all())


def test_longer_rollouts_continue_from_the_predicted_states() -> None:
    first, second, third = _rollouts(_never).run(torch.zeros(2, 60, 2), _push, 3)[0].split(60)
    for before, after in ((first, second), (second, third)):
        assert torch.equal(before[:, LAYOUT.next_observation], after[:, LAYOUT.observation])


def test_a_terminated_trajectory_ends() -> None:
    """Every step adds about 0.3, so from 0 the rule |s₀| > 0.45 ends the second step."""
    rollouts = _rollouts(lambda o: o[:, 0] > 0.45)
    rows = rollouts.run(torch.zeros(2, 50, 2), _push, 6)[1]
    ends = rows[:, LAYOUT.terminated] == 1
    assert int(ends.sum()) == 50
    assert bool((rows[ends][:, LAYOUT.next_observation][:, 0] > 0.45).all())
    assert bool((rows[:, LAYOUT.observation][:, 0] <= 0.45).all())
    assert len(rows) < 6 * 50


def test_length_grows_in_a_straight_line() -> None:
    """MBPO's schedule for Hopper: 1 to 15 between 20 000 and 100 000 steps."""
    growing = RolloutConfig(final_length=15)
    steps = (5_000, 20_000, 25_000, 25_750, 60_000, 99_750, 100_000, 200_000)
    assert [growing.length_at(step) for step in steps] == [1, 1, 1, 2, 8, 14, 15, 15]
    assert {RolloutConfig(length=3).length_at(step) for step in steps} == {3}


def test_rows_live_as_long_whatever_the_length() -> None:
    config = override(Config(), {"rollout.starts": 100, "rollout.retain_steps": 900})
    assert [rows_kept(config, length) for length in (1, 5)] == [400, 2000]
