"""The discriminator's logit approaches the log density ratio."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers import LAYOUT, filled_replays, linear_world, streams, two_policies
from tom import discriminator as discriminator_module
from tom.config import DiscriminatorConfig
from tom.discriminator import Discriminator

CONFIG = DiscriminatorConfig(
    hidden=(32, 32),
    steps=300,
    current_rows=4000,
    gradient_penalty=0.0,
    replay_label=0.0,
    learning_rate=1e-3,
)


def test_logit_approaches_the_log_density_ratio() -> None:
    """The newest rows have actions shifted by 1; the buffer holds as many without the shift."""
    rows = two_policies(2, 4000, 4000, push=1.0)
    discriminator = Discriminator(LAYOUT.transition.stop, CONFIG, streams(0, 1))
    metrics = discriminator.fit(filled_replays(rows))
    logit = discriminator.reward(rows[..., LAYOUT.transition])
    a = rows[..., LAYOUT.action][..., 0]
    # p = N(1, 1) is the newest rows' density of a, and the whole buffer's is (N(0, 1) + p) / 2.
    log_p, log_q = -0.5 * (a - 1) ** 2, -0.5 * a**2
    ratio = log_p - torch.logaddexp(log_p, log_q) + torch.log(torch.tensor(2.0))
    for s in range(2):
        correlation = torch.corrcoef(torch.stack([logit[s], ratio[s]]))[0, 1]
        assert correlation > 0.9
    assert bool((metrics["tom/discriminator_accuracy"] > 0.5).all())


def test_equal_distributions_give_a_logit_near_zero() -> None:
    rows = linear_world(1, 8000)
    config = dataclasses.replace(CONFIG, gradient_penalty=1.0)
    discriminator = Discriminator(LAYOUT.transition.stop, config, streams(0))
    discriminator.fit(filled_replays(rows))
    assert discriminator.reward(rows[..., LAYOUT.transition]).mean().abs() < 0.3


def test_penalty_pulls_the_slope_towards_one() -> None:
    rows = two_policies(1, 4000, 4000, push=4.0)
    slopes = {}
    for penalty in (0.0, 10.0):
        config = dataclasses.replace(CONFIG, gradient_penalty=penalty)
        discriminator = Discriminator(LAYOUT.transition.stop, config, streams(0))
        discriminator.fit(filled_replays(rows))
        x = torch.randn(1, 1, 500, LAYOUT.transition.stop, requires_grad=True)
        (slope,) = torch.autograd.grad(discriminator.network(x).sum(), x)
        slopes[penalty] = (slope.norm(dim=-1) - 1).abs().mean().item()
    assert slopes[10.0] < 0.5 * slopes[0.0]


def test_replay_label_bounds_the_reward_from_below() -> None:
    rows = two_policies(1, 4000, 4000, push=6.0)
    config = dataclasses.replace(CONFIG, replay_label=0.1, steps=500)
    discriminator = Discriminator(LAYOUT.transition.stop, config, streams(0))
    discriminator.fit(filled_replays(rows))
    assert discriminator.reward(rows[..., LAYOUT.transition]).min() > -4.0


def test_chunks_of_steps_are_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native calls take 3, 3 and 1 of the seven steps, or all at once."""
    ends = []
    for together in (3, 100):
        monkeypatch.setattr(discriminator_module, "STEPS_TOGETHER", together)
        made = Discriminator(5, DiscriminatorConfig(steps=7, current_rows=50), streams(0, 1))
        torch.manual_seed(0)
        metrics = made.fit(filled_replays(two_policies(2, 200, 50, push=1.0)))
        ends.append([made.network.flat.clone(), *metrics.values()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
