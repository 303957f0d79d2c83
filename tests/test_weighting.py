"""The three weightings, and the figures that describe weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers import (
    CPU,
    LAYOUT,
    filled_replays,
    linear_world,
    memoryless_world,
    streams,
    two_policies,
)
from tom.config import Config, DiscriminatorConfig, DualQConfig, override
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.weighting import (
    OccupancyWeighting,
    RecencyWeighting,
    defensive_mixture,
    weight_metrics,
)
from tom.weightings import make_weighting

SMALL = dataclasses.replace(
    Config(),
    discriminator=DiscriminatorConfig(hidden=(32, 32), steps=200, current_rows=500),
    dual_q=DualQConfig(hidden=(32, 32), steps=600, learning_rate=1e-3),
    discount=0.9,
    exploration_steps=2,
)

PUSH = 2.0


def _policy(observations: torch.Tensor) -> torch.Tensor:
    return torch.randn(*observations.shape[:-1], 1) + PUSH


def _initial(n: int) -> torch.Tensor:
    return torch.randn(2, n, 2)


def test_mbpo_weighs_all_rows_alike() -> None:
    weighting = make_weighting(LAYOUT, override(SMALL, {"algorithm": "mbpo"}), [0, 1], CPU)
    weights, _ = weighting.update(filled_replays(linear_world(2, 50)), _initial, _policy)
    assert weights.shape == (2, 50)
    assert bool((weights == 1).all())


def test_pmac_mass_follows_its_recursion() -> None:
    """Step by step: scale all older mass by d and give the new policy's row 1 − d."""
    decay, explored, later = 0.9, 10, 25
    mass = torch.full((explored,), 1 / explored, dtype=torch.float64)
    for _ in range(later):
        mass = torch.cat([decay * mass, torch.tensor([1 - decay])])
    replays = filled_replays(linear_world(1, explored + later))
    weights, _ = RecencyWeighting(decay, explored).update(replays, _initial, _policy)
    torch.testing.assert_close(weights[0] / weights[0].sum(), mass, rtol=1e-6, atol=0)


def test_pmac_weighs_by_age_after_the_buffer_wrapped() -> None:
    rows = linear_world(1, 30)
    replays = filled_replays(rows[:, :20], capacity=20)
    replays.buffers[0].append(rows[0, 20:].contiguous())
    weights, _ = RecencyWeighting(0.9, 5).update(replays, _initial, _policy)
    by_age = weights[0][replays.ages()[0].argsort()]
    torch.testing.assert_close(by_age[1:] / by_age[:-1], torch.full((19,), 0.9).double())


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_tom_prefers_the_current_policys_rows(divergence: str) -> None:
    rows = two_policies(2, 2500, 500, push=PUSH)
    config = override(SMALL, {"divergence": divergence})
    weighting = OccupancyWeighting(LAYOUT, config, [0, 1], CPU)
    weights, metrics = weighting.update(filled_replays(rows), _initial, _policy)
    assert weights.shape == (2, 3000)
    assert bool((weights >= 0).all()) and bool((weights <= config.weights.max_weight).all())
    assert bool((weights[:, 2500:].mean(1) > 1.5 * weights[:, :2500].mean(1)).all())
    assert all(bool(torch.isfinite(v).all()) for v in metrics.values())
    # KL's weights have a mean of 1 wherever the dual Q is: that says nothing of it.
    assert ("tom/flow_balance" in metrics) == (divergence != "kl")


@pytest.mark.parametrize(("explored", "uniform"), [(400, False), (401, True)])
def test_tom_is_uniform_until_the_current_rows_are_there(explored: int, uniform: bool) -> None:
    """As many as stand for the policy, none of which the exploration has made."""
    config = override(SMALL, {"exploration_steps": explored})
    weighting = OccupancyWeighting(LAYOUT, config, [0, 1], CPU)
    weights, _ = weighting.update(filled_replays(linear_world(2, 900)), _initial, _policy)
    assert bool((weights == 1).all()) == uniform


def test_dual_q_on_the_policys_own_data_gives_weights_near_one() -> None:
    """With R = 0 and data from the policy itself the optimum of (22) has δ = 0 and ξ* = 1."""
    n, gamma = 6000, 0.9
    rows = memoryless_world(1, n, push=PUSH)
    config = DualQConfig(hidden=(32, 32), steps=800, learning_rate=2e-3, l2=0.0)
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], config, gamma, streams(0))
    zeros = torch.zeros(1, n)
    starts = lambda k: torch.randn(1, k, 2)  # noqa: E731
    dual_q.fit(filled_replays(rows), zeros, starts, _policy)
    delta, _ = dual_q.residuals(rows, zeros, starts, _policy)
    weights = DIVERGENCES["chi2"].conjugate_derivative(delta)
    assert abs(weights.mean().item() - 1) < 0.05
    assert weights.std().item() < 0.15


@pytest.mark.parametrize("conjugate", ["exact", "quadratic"])
def test_the_settled_constant_is_best_for_the_objective_of_the_steps(conjugate: str) -> None:
    """No other constant makes (22) on the whole buffer smaller, in the conjugate that they use."""
    n, gamma = 500, 0.9
    rows = memoryless_world(1, n)
    config = dataclasses.replace(DualQConfig(hidden=(16,)), conjugate=conjugate)
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], config, gamma, streams(0))
    rewards = 1 + 3 * torch.randn(1, n)  # δ far below −1 too, where the conjugates differ
    delta, metrics = dual_q.residuals(rows, rewards, lambda k: torch.randn(1, k, 2), _policy)
    assert abs(metrics["tom/flow_balance"].item() - 1) > 0.1  # before

    def objective(constant: float) -> float:
        loss = DIVERGENCES["chi2"].dual_loss(
            delta.double() - (1 - gamma) * constant, quadratic=conjugate == "quadratic"
        )
        return (loss + (1 - gamma) * constant).item()

    assert all(objective(0.0) < objective(constant) for constant in (-0.5, -0.05, 0.05, 0.5))


def test_defensive_mixture_keeps_the_mean_and_leaves_no_row_out() -> None:
    weights = torch.tensor([[0.0, 0.0, 2.0, 6.0], [1.0, 1.0, 1.0, 1.0]])
    expected = torch.tensor([[0.25, 0.25, 1.0, 2.5], [1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(defensive_mixture(weights, 0.25), expected)
    assert torch.equal(defensive_mixture(weights, 0.0), weights)


def test_metrics_of_known_weights() -> None:
    weights = torch.tensor([[0.0, 1.0, 1.0, 2.0]])
    ages = torch.tensor([[3, 2, 1, 0]])
    metrics = {k: v.item() for k, v in weight_metrics(weights, ages, 1).items()}
    assert metrics["tom/ess"] == pytest.approx(16 / 6)
    assert metrics["tom/weight_mean"] == 1
    assert metrics["tom/weight_newest"] == 2
    assert metrics["tom/weight_rest"] == pytest.approx(2 / 3)
    assert metrics["tom/weight_oldest"] == 0
    assert metrics["tom/zero_fraction"] == 0.25
    few = weight_metrics(weights, ages, 4)
    assert few["tom/weight_rest"].isnan().all()  # there are no others
