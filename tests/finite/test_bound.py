"""The lower bound (13): log J(π) ≥ E_model[log R] − D_f(d_π in the model ‖ d_π in reality)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from finite.mdp import MDP, Array, occupancy, random_mdp, random_policy
from tom.divergences import DIVERGENCES

BOUNDING = [name for name, entry in DIVERGENCES.items() if entry.bounds_kl]
OTHERS = [name for name, entry in DIVERGENCES.items() if not entry.bounds_kl]


def _slack(name: str, model: Array, real: Array, reward: Array) -> float:
    """The left side minus the right side, for the occupancies [S, A, S] and R > 0.

    J is E_{d_π}[R], 1 − γ times the discounted return.
    """
    where = real > 0
    ratio = torch.from_numpy(model[where] / real[where])
    divergence = float(real[where] @ DIVERGENCES[name].generator(ratio).numpy())
    left = np.log((real * reward).sum())
    return float(left - ((model * np.log(reward)).sum() - divergence))


def _random_pair(seed: int) -> tuple[Array, Array, np.random.Generator]:
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng)
    policy = random_policy(rng, mdp)
    wrong = dataclasses.replace(mdp, transition=random_mdp(rng).transition)
    return occupancy(wrong, policy), occupancy(mdp, policy), rng


@pytest.mark.parametrize("name", BOUNDING)
def test_bound_holds_for_random_models_and_rewards(name: str) -> None:
    for seed in range(200):
        model, real, rng = _random_pair(seed)
        for scale in (0.1, 1.0, 4.0):
            assert _slack(name, model, real, np.exp(scale * rng.normal(size=real.shape))) > 0


@pytest.mark.parametrize("name", BOUNDING)
def test_bound_holds_for_the_reward_that_makes_it_tightest(name: str) -> None:
    """R = d_model / d_real: log J = 0, and what is left is D_f − KL."""
    slacks = []
    for seed in range(200):
        model, real, _ = _random_pair(seed)
        slacks.append(_slack(name, model, real, model / real))
    assert min(slacks) > -1e-12
    if name == "kl":
        assert max(slacks) < 1e-9


def fork(first: float, discount: float) -> tuple[MDP, Array]:
    """From the start, to the first of two absorbing states with this probability."""
    transition = np.zeros((3, 1, 3))
    transition[0, 0] = 0, first, 1 - first
    transition[1, 0, 1] = transition[2, 0, 2] = 1
    start = np.array([1.0, 0.0, 0.0])
    return MDP(transition, start, np.zeros(3, dtype=bool), discount), np.ones((3, 1))


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.99])
def test_customary_chi2_breaks_the_bound_in_a_fork(discount: float) -> None:
    """The counter-example: reality forks (.5, .5), the model says (.99, .01).

    Every transition's ratio of occupancies is that of its branch, so that for every γ the
    divergence is that of the two coins: ½χ² = .480 < KL = .637. With R = d_model / d_real, J = 1
    and the "bound" says 0 ≥ .637 − .480.
    """
    model, real = (occupancy(*fork(p, discount)) for p in (0.99, 0.5))
    reward = np.divide(model, real, out=np.ones_like(real), where=real > 0)
    assert OTHERS == ["chi2"]
    assert _slack("chi2", model, real, reward) == pytest.approx(0.4802 - 0.6371, abs=1e-4)
    for name in BOUNDING:
        assert _slack(name, model, real, reward) > -1e-12
