"""The exact solution of (22) on random finite MDPs is what sections 3 and 4 of the paper claim."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from finite.flow import Problem, Solution, dual, problem, solve
from finite.mdp import MDP, Array, occupancy, random_mdp, random_policy, total_variation
from tom.divergences import DIVERGENCES, Divergence

# KL also without its Donsker–Varadhan form: where no episode ends, both have the same optimum.
ENTRIES = {**DIVERGENCES, "kl_plain": dataclasses.replace(DIVERGENCES["kl"], log_mean_exp=False)}
SEEDS = range(8)


def _case(seed: int, discount: float = 0.9) -> tuple[MDP, Array, Array, Array]:
    """An MDP, π, a buffer's d_D and a reward that sends some weights to the boundary 0."""
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, discount=discount)
    policy, older = random_policy(rng, mdp), random_policy(rng, mdp)
    data = 0.8 * occupancy(mdp, older) + 0.2 * occupancy(mdp, policy)
    return mdp, policy, data, 2 * rng.normal(size=data.shape)


def _solved(seed: int, divergence: Divergence, discount: float = 0.9) -> tuple[Problem, Solution]:
    given = problem(*_case(seed, discount))
    return given, solve(given, divergence)


@pytest.mark.parametrize("discount", [0.9, 0.99])
@pytest.mark.parametrize("name", ENTRIES)
def test_weighted_data_obeys_the_flow_and_closes_the_duality_gap(
    name: str, discount: float
) -> None:
    for seed in SEEDS:
        given, found = _solved(seed, ENTRIES[name], discount)
        assert bool((found.d >= 0).all())
        assert given.violation(found.d) < 1e-10
        assert found.d.sum() == pytest.approx(1, abs=1e-9)
        assert found.primal == pytest.approx(found.dual, abs=1e-8)


def test_the_cases_reach_the_boundary_of_nonnegative_weights() -> None:
    """Else the thresholded conjugate would not have been tested."""
    assert sum(int((_solved(seed, ENTRIES["chi2"])[1].ratio == 0).sum()) for seed in SEEDS) > 20


@pytest.mark.parametrize("name", ENTRIES)
def test_no_step_towards_another_feasible_distribution_improves_the_primal(name: str) -> None:
    """A check that does not use the dual; the other distributions are optima of other rewards."""
    generator = ENTRIES[name].generator
    for seed in SEEDS:
        given, found = _solved(seed, ENTRIES[name])

        def objective(d: Array, given: Problem = given) -> float:
            return float(
                d @ given.reward - given.data @ generator(torch.from_numpy(d / given.data)).numpy()
            )

        for other in range(5):
            rng = np.random.default_rng(100 + other)
            reward = 2 * rng.normal(size=given.reward.shape)
            towards = solve(dataclasses.replace(given, reward=reward), ENTRIES["kl"]).d
            values = [objective(found.d + share * (towards - found.d)) for share in (0.001, 0.1, 1)]
            assert found.primal + 1e-10 > values[0] > values[1] > values[2]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_policys_own_data_needs_no_weights(name: str) -> None:
    """With D = d_π the best discriminator has R = 0, and ξ* = 1 for every number of samples."""
    for seed in SEEDS:
        mdp, policy, _, _ = _case(seed)
        own = occupancy(mdp, policy)
        for samples in (None, 1):
            given = problem(mdp, policy, own, np.zeros_like(own), samples=samples)
            np.testing.assert_allclose(solve(given, ENTRIES[name]).ratio, 1, atol=1e-10)


def test_another_policys_data_does_need_weights() -> None:
    """The control of the test above."""
    mdp, policy, data, _ = _case(0)
    found = solve(problem(mdp, policy, data, np.zeros_like(data)), ENTRIES["chi2"])
    assert np.abs(found.ratio - 1).max() > 0.5


@pytest.mark.parametrize("name", ENTRIES)
def test_weighted_model_is_a_transition_function_with_this_occupancy(name: str) -> None:
    """T̂* of (24) is d*(s, a, s') / d*(s, a), and what π visits in it is d*."""
    for seed in SEEDS:
        mdp, policy, _, _ = _case(seed)
        given, found = _solved(seed, ENTRIES[name])
        d = given.of_rows(found.d)
        assert bool((d.sum(-1) > 0).all())
        model = d / d.sum(-1, keepdims=True)
        np.testing.assert_allclose(model.sum(-1), 1, atol=1e-12)
        visited = occupancy(dataclasses.replace(mdp, transition=model), policy)
        np.testing.assert_allclose(visited, d, atol=1e-9)
        # The control: the model of the unweighted data is another one.
        plain = given.of_rows(given.data)
        plain /= plain.sum(-1, keepdims=True)
        assert (
            np.abs(occupancy(dataclasses.replace(mdp, transition=plain), policy) - d).max() > 0.01
        )


@pytest.mark.parametrize(
    ("concentration", "share", "left_by_chi2"), [(1.0, 0.2, 0.3), (0.2, 0.05, 0.5)]
)
def test_only_kl_recovers_the_policys_own_distribution(
    concentration: float, share: float, left_by_chi2: float
) -> None:
    """With R = log(d_π / d_D), E_d[R] − KL(d ‖ d_D) = −KL(d ‖ d_π), so that d* = d_π.

    The χ² divergences weigh the distance from d_D otherwise, and stop short of d_π. The data are
    those of a similar policy, then of one far away with few rows of π's own.
    """
    left: dict[str, list[float]] = {name: [] for name in ["none", *DIVERGENCES]}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng, actions=3)
        policy, older = (random_policy(rng, mdp, concentration) for _ in range(2))
        own = occupancy(mdp, policy)
        data = (1 - share) * occupancy(mdp, older) + share * own
        given = problem(mdp, policy, data, np.log(own / data))
        left["none"].append(total_variation(data, own))
        for name, divergence in DIVERGENCES.items():
            d = given.of_rows(solve(given, divergence).d)
            left[name].append(total_variation(d, own))
    mean = {name: float(np.mean(values)) for name, values in left.items()}
    print("\ntotal variation from d_π:", {name: round(x, 4) for name, x in mean.items()})
    assert max(left["kl"]) < 1e-9
    assert 0.1 * mean["none"] < mean["chi2"] < left_by_chi2 * mean["none"]
    assert mean["chi2"] < mean["chi2_bound"]


def test_newtons_gradient_and_hessian_are_those_of_the_dual() -> None:
    for name, divergence in ENTRIES.items():
        given = problem(*_case(0))
        q, h = 0.1 * np.random.default_rng(0).normal(size=given.matrix.shape[1]), 1e-6
        _, gradient, hessian, _ = dual(given, divergence, q)
        for i, e in enumerate(h * np.eye(len(q))):
            up, down = dual(given, divergence, q + e), dual(given, divergence, q - e)
            assert gradient[i] == pytest.approx((up[0] - down[0]) / (2 * h), abs=1e-7), name
            np.testing.assert_allclose(hessian[i], (up[1] - down[1]) / (2 * h), atol=1e-6)
