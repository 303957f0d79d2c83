"""The model buffer keeps the newest rows, and the policy's batches mix them with real ones."""

from __future__ import annotations

import torch

from helpers import LAYOUT, filled_replays, linear_world, streams
from tom.config import Config, override
from tom.model_buffer import ModelBuffer
from tom.policy_batches import policy_batches

CONFIG = override(Config(), {"updates_per_step": 7, "sac.batch_size": 40})


def _numbered(start: int, n: int) -> torch.Tensor:
    rows = torch.zeros(n, LAYOUT.width)
    rows[:, LAYOUT.reward] = torch.arange(start, start + n)
    return rows


def test_newest_rows_stay_when_the_ring_wraps() -> None:
    buffer = ModelBuffer(10, LAYOUT.width, streams(0, 1))
    for start in range(0, 28, 4):
        buffer.extend([_numbered(start, 4), _numbered(100 + start, 4)])
    assert len(buffer) == 10
    rewards = buffer.sample(2000)[..., LAYOUT.reward]
    assert set(rewards[0].tolist()) == set(range(18, 28))
    assert set(rewards[1].tolist()) == set(range(118, 128))


def test_seeds_may_have_different_numbers_of_rows() -> None:
    buffer = ModelBuffer(10, LAYOUT.width, streams(0, 1))
    buffer.extend([_numbered(0, 2), _numbered(0, 5)])
    assert len(buffer) == 2
    rewards = buffer.sample(500)[..., LAYOUT.reward]
    assert rewards[0].max() == 1 and rewards[1].max() == 4


def test_newest_rows_stay_at_another_capacity() -> None:
    buffer = ModelBuffer(10, LAYOUT.width, streams(0, 1))
    for start in (0, 4, 8, 12):
        buffer.extend([_numbered(start, 4), _numbered(start, 2)])
    for capacity, first, second in ((14, range(6, 16), 8), (7, range(9, 16), 7)):
        buffer.resize(capacity)
        rewards = buffer.sample(2000)[..., LAYOUT.reward]
        assert set(rewards[0].tolist()) == set(first)
        assert len(set(rewards[1].tolist())) == second
    buffer.extend([_numbered(16, 2), _numbered(14, 2)])
    assert set(buffer.sample(2000)[0, :, LAYOUT.reward].tolist()) == set(range(11, 18))


def test_state_round_trips() -> None:
    """A buffer takes over another capacity too."""
    first, second = (ModelBuffer(n, LAYOUT.width, streams(s)) for s, n in ((0, 10), (1, 1)))
    first.extend([_numbered(0, 7)])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.sample(20), second.sample(20))
    second.extend([_numbered(7, 5)])
    assert len(second) == 10 and len(first) == 7


def test_batches_have_the_share_of_real_rows() -> None:
    replays = filled_replays(linear_world(2, 100))
    buffer = ModelBuffer(50, LAYOUT.width, streams(0, 1))
    model = torch.full((50, LAYOUT.width), 9.0)
    buffer.extend([model, model])
    rows = policy_batches(replays, buffer, CONFIG, torch.zeros(2))
    assert rows.shape == (7, 2, 40, LAYOUT.width)
    real = (rows[..., LAYOUT.terminated] == 0).sum(-1)
    assert bool((real == 2).all())  # 5 % of 40


def test_log_reward_is_shifted_by_the_lowest_reward() -> None:
    replays = filled_replays(linear_world(1, 10))
    buffer = ModelBuffer(10, LAYOUT.width, streams(0))
    buffer.extend([_numbered(-5, 10)])
    config = override(CONFIG, {"reward_transform": "log", "sac.real_fraction": 0.0})
    rewards = policy_batches(replays, buffer, config, torch.tensor([-3.0]))[..., LAYOUT.reward]
    allowed = torch.log1p(torch.clamp(torch.arange(-5.0, 5.0) + 3, min=0))
    assert set(rewards.flatten().tolist()) == set(allowed.tolist())


def test_only_real_rows_when_asked() -> None:
    replays = filled_replays(linear_world(1, 10))
    config = override(CONFIG, {"sac.real_fraction": 1.0})
    buffer = ModelBuffer(10, LAYOUT.width, streams(0))
    assert policy_batches(replays, buffer, config, torch.zeros(1)).shape[2] == 40
