"""The project's own discriminator, dual Q and weights approach the exact solution.

Errors are total variations of weighted data, ½ E_D|ξ − ξ*|. Run with -s for the tables.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from finite.flow import End, problem, solve
from finite.mdp import Array, total_variation
from finite.tabular import World, make_world, q_table, ratio_of, sampler
from helpers import CPU, streams
from tom.config import Config, DiscriminatorConfig, DualQConfig, override
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.weighting import OccupancyWeighting

WORLD = make_world(0)
HIDDEN = (64, 64)
FAST = DualQConfig(hidden=HIDDEN, learning_rate=1e-3)


def _errors_of_dual_q(
    world: World,
    name: str,
    checkpoints: list[int],
    *,
    policy: Array | None = None,
    config: DualQConfig = FAST,
) -> tuple[float, list[float]]:
    """TV from the exact solution of the uniform weights, then after each number of steps.

    The dual Q is trained with `policy`; the exact solution is for the world's own.
    """
    divergence, reward = DIVERGENCES[name], world.reward(0.1)
    policy = world.policy if policy is None else policy
    given = problem(world.mdp, world.policy, world.data, reward, samples=config.policy_samples)
    exact = solve(given, divergence)
    assert given.violation(exact.d) < 1e-10
    rewards = torch.from_numpy(reward.ravel()[world.index]).float().unsqueeze(0)
    dual_q = DualQ(world.layout, divergence, config, world.mdp.discount, streams(0))
    replays, errors, done = world.replays(), [], 0
    for steps in checkpoints:
        dual_q.config = dataclasses.replace(config, steps=steps - done)
        dual_q.fit(replays, rewards, world.initial_states(), sampler(policy))
        done = steps
        delta = given.reward - given.matrix @ q_table(dual_q, world)
        d = ratio_of(delta, given.data, divergence) * given.data
        errors.append(total_variation(d, exact.d))
    return total_variation(given.data, exact.d), errors


@pytest.mark.parametrize("name", DIVERGENCES)
def test_dual_q_approaches_the_exact_solution(name: str) -> None:
    """P = 1, for which the exact solution is that with one drawn action inside f*."""
    checkpoints = [50, 100, 200, 400, 800, 1600]
    before, errors = _errors_of_dual_q(WORLD, name, checkpoints)
    _, control = _errors_of_dual_q(WORLD, name, [1600], policy=WORLD.policy[:, ::-1].copy())
    table = ", ".join(f"{n}: {e:.3f}" for n, e in zip(checkpoints, errors, strict=True))
    print(f"\n{name}: uniform {before:.3f}; steps {table}; wrong policy {control[0]:.3f}", end="")
    assert errors[-1] < 0.03 < 0.25 * before
    # The control: actions drawn with the wrong probabilities lead elsewhere.
    assert control[0] > 0.06


def test_dual_q_settings_that_limit_the_error() -> None:
    """Far from the policy the quadratic conjugate is no faster, and settles elsewhere.

    The released L2 penalty cannot be told from none; a thousand times as much can.
    """
    world, errors = make_world(1, share=0.05, concentration=0.2), {}
    for name, changes in {
        "exact": {},
        "quadratic": {"conjugate": "quadratic"},
        "no L2": {"l2": 0.0},
        "L2 0.1": {"l2": 0.1},
    }.items():
        config = dataclasses.replace(FAST, **changes)
        before, errors[name] = _errors_of_dual_q(world, "chi2", [100, 300, 1000], config=config)
    print(f"\nuniform {before:.3f}; TV after 100, 300, 1000 steps:", end="")
    for name, row in errors.items():
        print(f" {name} {np.round(row, 3)}", end="")
    assert errors["exact"][-1] < 0.15 * before
    assert errors["quadratic"][-1] > 1.5 * errors["exact"][-1]
    assert errors["quadratic"][0] > 0.9 * errors["exact"][0]
    assert abs(errors["exact"][-1] - errors["no L2"][-1]) < 0.03
    assert errors["L2 0.1"][-1] > 1.5 * errors["no L2"][-1]


def test_settling_the_constant_brings_long_horizons_close_early() -> None:
    """A constant c added to Q moves δ by (1 − γ) c only: the last thing that steps learn.

    For γ = 0.99 most of the error after 1000 steps is that one number. KL's log-mean-exp form does
    not depend on it.
    """
    world = make_world(1, discount=0.99)
    divergence, reward = DIVERGENCES["chi2"], world.reward(0.0)
    given = problem(world.mdp, world.policy, world.data, reward, samples=1)
    exact = solve(given, divergence)
    rewards = torch.from_numpy(reward.ravel()[world.index]).float().unsqueeze(0)
    rows, starts = world.rows(world.index).unsqueeze(0), world.initial_states()
    tables: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for settle, table in tables.items():
        config = dataclasses.replace(FAST, steps=500, settle_constant=settle)
        dual_q = DualQ(world.layout, divergence, config, 0.99, streams(0))
        replays = world.replays()
        for _ in range(8):
            dual_q.fit(replays, rewards, starts, sampler(world.policy))
            dual_q.residuals(rows, rewards, starts, sampler(world.policy))
            delta = given.reward - given.matrix @ q_table(dual_q, world)
            d = ratio_of(delta, given.data, divergence) * given.data
            table.append((float(d.sum()), total_variation(d, exact.d)))
    print("\nγ = 0.99, every 500 steps: mean weight and TV by steps alone, then settled")
    print(np.round(np.hstack([tables[False], tables[True]]), 3))
    alone, settled = (np.array(tables[settle]) for settle in (False, True))
    assert alone[1, 1] > 1.5 * settled[1, 1]
    # What is left is the sampling of one action per state.
    assert np.abs(settled[:, 0] - 1).max() < 0.03
    assert alone[-1, 1] < 0.04 and settled[-1, 1] < 0.04


@pytest.mark.parametrize("name", ["chi2", "chi2_bound"])
@pytest.mark.parametrize("end", ["cut", "restart"])
def test_settled_constant_is_the_optimum_of_the_whole_buffer(name: str, end: End) -> None:
    """Then the weights balance the inflow; settling again changes nothing, and KL never does."""
    world = make_world(2, ending=0.1)
    config = dataclasses.replace(FAST, after_termination=end, policy_samples=4)
    dual_q = DualQ(world.layout, DIVERGENCES[name], config, world.mdp.discount, streams(0))
    rows = world.rows(world.index).unsqueeze(0)
    rewards = torch.linspace(-2, 4, rows.shape[1]).unsqueeze(0)

    def settle() -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)  # the same actions
        delta, metrics = dual_q.residuals(
            rows, rewards, world.initial_states(), sampler(world.policy)
        )
        return delta, metrics["tom/flow_balance"]

    _, before = settle()
    delta, at_optimum = settle()
    again, _ = settle()
    assert abs(before.item() - 1) > 0.1
    assert at_optimum.item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(again, delta, rtol=0, atol=1e-3)


def _fit_discriminator(world: World, config: DiscriminatorConfig) -> Array:
    """R [S, A, S], 0 without data."""
    config = dataclasses.replace(config, current_rows=world.current_rows)
    discriminator = Discriminator(world.layout.transition.stop, config, streams(0))
    discriminator.fit(world.replays())
    index = np.flatnonzero(world.data)
    rows = world.rows(index)[None, :, world.layout.transition]
    reward = np.zeros(world.data.shape)
    reward.flat[index] = discriminator.reward(rows)[0].double().numpy()
    return reward


def _distance_of_ratio(world: World, reward: Array, label: float) -> float:
    """TV between the current rows' shares and the data weighted by the ratio that R stands for."""
    ratio = np.maximum((1 - label) * np.exp(reward) - label, 0)
    d = ratio * world.data
    return total_variation(d / d.sum(), world.current)


@pytest.mark.parametrize("label", [0.0, 0.1])
def test_discriminator_without_penalty_approaches_the_exact_ratio(label: float) -> None:
    """R → log((ρ + l) / (1 − l)), with ρ the ratio of the rows' own counts."""
    before, errors = total_variation(WORLD.data, WORLD.current), {}
    for steps in (100, 400, 1600):
        config = DiscriminatorConfig(
            hidden=HIDDEN,
            steps=steps,
            learning_rate=1e-3,
            gradient_penalty=0.0,
            replay_label=label,
        )
        reward = _fit_discriminator(WORLD, config)
        on = WORLD.current > 0
        error = np.abs(reward - WORLD.reward(label))[on] @ WORLD.current[on]
        errors[steps] = error, _distance_of_ratio(WORLD, reward, label)
    rounded = {k: (round(float(e), 3), round(d, 3)) for k, (e, d) in errors.items()}
    print(f"\nlabel {label}: no weights {before:.3f}; steps: error of R, TV: {rounded}", end="")
    assert errors[1600][0] < 0.1 < errors[100][0]
    assert errors[1600][1] < 0.25 * before < errors[100][1]


def test_the_default_penalty_does_with_the_papers_steps_what_the_released_one_does_with_more() -> (
    None
):
    """Steps of size 3e-4 from fresh parameters, by weight of the penalty, in three worlds.

    The penalty asks for a slope of 1 before the data have said in which direction, and a fifth of
    it asks less. The released code has 5 in these units, and four times the paper's 100 steps.
    Distances are relative to those of the unweighted data.
    """
    settings = [(0.0, 100), (1.0, 100), (5.0, 100), (5.0, 400), (1.0, 400)]
    distances: dict[tuple[float, int], list[tuple[float, float]]] = {s: [] for s in settings}
    for seed in range(3):
        world = make_world(seed)
        before = total_variation(world.data, world.current)
        for (penalty, steps), rows in distances.items():
            config = DiscriminatorConfig(gradient_penalty=penalty, steps=steps)
            reward = _fit_discriminator(world, config)
            given = problem(world.mdp, world.policy, world.data, reward)
            d = given.of_rows(solve(given, DIVERGENCES["chi2"]).d)
            ratio = _distance_of_ratio(world, reward, config.replay_label)
            rows.append((ratio / before, total_variation(d, world.current) / before))
    mean = {setting: np.mean(rows, axis=0) for setting, rows in distances.items()}
    for (penalty, steps), (of_reward, of_optimum) in mean.items():
        print(
            f"\npenalty {penalty}, {steps} steps: TV of R {of_reward:.2f}, of ξ* {of_optimum:.2f}",
            end="",
        )
    assert mean[0.0, 100][0] < 0.75 and mean[1.0, 100][0] < 0.8
    assert mean[5.0, 100][0] > 0.85
    assert mean[5.0, 400][0] < 0.75 and mean[1.0, 400][0] < mean[5.0, 400][0]


def test_weights_of_all_parts_together_approach_the_exact_solution() -> None:
    """Discriminator, dual Q and f*' as the training loop runs them, against the exact log-ratio."""
    settings = {
        "discriminator.hidden": HIDDEN,
        "discriminator.steps": 1000,
        "discriminator.learning_rate": 1e-3,
        "discriminator.gradient_penalty": 0.0,
        "discriminator.current_rows": WORLD.current_rows,
        "exploration_steps": 2,
        "dual_q.hidden": HIDDEN,
        "dual_q.steps": 1000,
        "dual_q.learning_rate": 1e-3,
        "discount": WORLD.mdp.discount,
    }
    given = problem(WORLD.mdp, WORLD.policy, WORLD.data, WORLD.reward(0.1), samples=1)
    exact = given.of_rows(solve(given, DIVERGENCES["chi2"]).d)

    def error(changes: dict[str, float], seed: int = 0) -> float:
        config = override(Config(), settings | changes)
        weighting = OccupancyWeighting(WORLD.layout, config, [seed], CPU)
        weights, _ = weighting.update(
            WORLD.replays(), WORLD.initial_states(), sampler(WORLD.policy)
        )
        share = weights[0].double().numpy() / len(WORLD.index)
        d = np.bincount(WORLD.index, share, WORLD.data.size).reshape(WORLD.data.shape)
        return total_variation(d, exact)

    before = total_variation(WORLD.data, exact)
    good = error({})
    few = error({"dual_q.steps": 10, "discriminator.steps": 10})
    print(f"\nuniform {before:.3f}, 1000 steps each {good:.3f}, 10 steps each {few:.3f}", end="")
    assert good < 0.35 * before
    assert few > 1.5 * good
