"""SAC: its density, its independence of the other seeds, and that it learns."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from helpers import LAYOUT, streams
from tom.config import SACConfig
from tom.sac import SAC

CONFIG = SACConfig(hidden=(32, 32), learning_rate=3e-3, batch_size=64, target_entropy=-1.0)


def _sac(*seeds: int, discount: float = 0.9, tau: float = 0.005) -> SAC:
    low, high = torch.tensor([-3.0]), torch.tensor([5.0])
    config = dataclasses.replace(CONFIG, tau=tau)
    return SAC(LAYOUT, low, high, config, discount, streams(*seeds, purpose="sac"))


def _bandit(seeds: int, n: int, best: float) -> Tensor:
    """One-step episodes whose reward is highest for the action `best`."""
    s = torch.randn(seeds, n, 2)
    a = torch.rand(seeds, n, 1) * 8 - 3
    reward = -(a[..., 0] - best).square()
    return LAYOUT.join(s, a, s, reward, torch.ones(seeds, n))


def test_log_density_is_that_of_the_squashed_gaussian() -> None:
    sac = _sac(0)
    s = torch.randn(1, 200, 2)
    actions, log_prob = sac._sample(s, torch.randn(1, 200, 1))
    mean, log_std = sac._distribution(s)
    normalised = (actions - 1.0) / 4.0
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=0))
    expected = reference.log_prob(normalised.clamp(-1 + 1e-6, 1 - 1e-6)).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-3, atol=1e-3)


def test_actions_stay_within_the_bounds() -> None:
    sac, s = _sac(0, 1), 100 * torch.randn(2, 500, 2)
    for actions in (sac.act(s), sac.act_deterministically(s)):
        assert actions.shape == (2, 500, 1)
        assert actions.min() >= -3 and actions.max() <= 5


def test_finds_the_best_action_of_a_bandit() -> None:
    sac = _sac(0, 1)
    for _ in range(600):
        metrics = sac.update(_bandit(2, 64, best=2.0).unsqueeze(0))
    actions = sac.act_deterministically(torch.randn(2, 100, 2))
    assert (actions - 2.0).abs().mean() < 0.4
    assert all(v.shape == (2,) and bool(torch.isfinite(v).all()) for v in metrics.values())


def test_terminated_rows_do_not_bootstrap() -> None:
    """With reward 1 forever the value is near 1 / (1 − γ); with termination it is 1."""
    values = {}
    for terminated in (0.0, 1.0):
        sac = _sac(0, discount=0.8, tau=0.05)
        sac.temperature.extra["log_alpha"].data.fill_(-20.0)
        for _ in range(600):
            rows = _bandit(1, 64, best=0.0)
            rows[..., LAYOUT.reward], rows[..., LAYOUT.terminated] = 1.0, terminated
            sac.update(rows.unsqueeze(0))
        values[terminated] = sac.critic(rows[:, None, :, LAYOUT.state_action]).mean().item()
    assert abs(values[1.0] - 1.0) < 0.1
    assert abs(values[0.0] - 5.0) < 0.6


def test_temperature_steers_the_entropy_to_its_target() -> None:
    sac = _sac(0)
    for _ in range(1500):
        metrics = sac.update(_bandit(1, 64, best=1.0).unsqueeze(0))
    assert abs(metrics["train/entropy"].item() - CONFIG.target_entropy) < 0.3  # type: ignore[operator]


def test_a_seed_learns_the_same_alone_and_beside_another() -> None:
    alone, together = _sac(1), _sac(0, 1)
    for step in range(20):
        torch.manual_seed(step)
        rows = _bandit(2, 64, best=0.0)
        alone.update(rows[None, 1:])
        together.update(rows.unsqueeze(0))
    # The products are batched differently, so the order of float32 sums differs.
    torch.testing.assert_close(
        alone.actor.per_seed(alone.actor.flat)[0],
        together.actor.per_seed(together.actor.flat)[1],
        rtol=1e-2,
        atol=1e-4,
    )


def test_state_round_trips_and_training_continues_exactly() -> None:
    first, second = _sac(0, 1), _sac(5, 6)
    rows = _bandit(2, 64, best=0.0)
    first.update(rows.unsqueeze(0))
    second.load_state_dict(first.state_dict())
    first.update(rows.unsqueeze(0))
    second.update(rows.unsqueeze(0))
    for a, b in ((first.actor, second.actor), (first.target, second.target)):
        assert torch.equal(a.flat, b.flat)
