"""What the open choices of (22) do to its exact solution: conjugate, actions per state, label."""

from __future__ import annotations

import numpy as np

from finite.flow import Problem, problem, solve
from finite.mdp import Array, total_variation
from finite.tabular import World, make_world
from tom.divergences import DIVERGENCES

CHI2 = DIVERGENCES["chi2"]
SEEDS = range(10)


def _near(seed: int) -> World:
    """The older policy resembles the current one."""
    return make_world(seed, share=0.25, concentration=3.0)


def _far(seed: int) -> World:
    """It does not, and few rows are the current policy's."""
    return make_world(seed, share=0.05, concentration=0.2)


def _weighted(given: Problem, *, quadratic: bool = False) -> tuple[Array, float, float]:
    """Rows' distribution under the weights in use, max(ξ, 0); its mass, its flow violation."""
    # The weights are clipped at 0 whatever the conjugate: a row cannot be drawn less than never.
    d = np.maximum(solve(given, CHI2, quadratic=quadratic).d, 0)
    return given.of_rows(d / d.sum()), float(d.sum()), given.violation(d / d.sum())


def _problem(world: World, *, samples: int | None = None, label: float = 0.1) -> Problem:
    return problem(world.mdp, world.policy, world.data, world.reward(label), samples=samples)


def test_quadratic_conjugate_breaks_the_flow_where_data_are_far_from_the_policy() -> None:
    """Its optimum has negative densities; clipped to weights, too much mass is left elsewhere.

    Where all exact weights are positive, both conjugates have the same optimum.
    """
    differences = {"near": [], "far": []}
    for seed in SEEDS:
        for kind, world in (("near", _near(seed)), ("far", _far(seed))):
            given = _problem(world)
            exact, mass, violation = _weighted(given)
            assert abs(mass - 1) < 1e-9 and violation < 1e-10
            quadratic, mass, violation = _weighted(given, quadratic=True)
            negative = float((solve(given, CHI2, quadratic=True).ratio < 0).mean())
            row = (negative, mass - 1, violation, total_variation(exact, quadratic))
            differences[kind].append(row)
            if not negative:
                np.testing.assert_allclose(quadratic, exact, atol=1e-9)
    for kind, rows in differences.items():
        names = "negative share, excess mass, flow violation, TV from the exact optimum"
        print(f"\nquadratic, {kind} ({names}):", np.round(np.mean(rows, 0), 4), end="")
    near, far = (np.mean(differences[kind], 0) for kind in ("near", "far"))
    assert near[3] < 0.01
    assert far[1] > 0.03 and far[2] > 0.01 and far[3] > 0.05


def test_few_actions_per_state_bias_the_optimum() -> None:
    """f* of a sampled value is not f* of its mean.

    With P draws inside f* the primal may pick the draws: d lives on (s, a, s', a'_1 … a'_P) and
    its a' need not follow π. The bias falls about as 1/P. It vanishes where Q(s', ·) is flat, so
    for KL with the exact R it is nothing.
    """
    bias: dict[int, list[float]] = {1: [], 2: [], 4: [], 8: []}
    for seed in SEEDS:
        world = _far(seed)
        mean = _weighted(_problem(world))[0]
        for samples, distances in bias.items():
            d, mass, _ = _weighted(_problem(world, samples=samples))
            assert abs(mass - 1) < 1e-9
            distances.append(total_variation(d, mean))
    average = {samples: float(np.mean(x)) for samples, x in bias.items()}
    print("\nTV from the optimum with E_π, by P:", {k: round(x, 4) for k, x in average.items()})
    assert 0.05 < average[1] < 0.4
    assert average[8] < 0.3 * average[1]


def test_label_of_the_replay_rows_hardly_moves_the_optimum_but_a_scaled_reward_does() -> None:
    """With the best discriminator. A penalty that flattens R moves d* several times as far."""
    moved: dict[str, list[float]] = {"label 0.1": [], "label 0.5": [], "0.3 R": []}
    for seed in SEEDS:
        world = _near(seed)
        mdp, policy, data = world.mdp, world.policy, world.data
        bare = _weighted(_problem(world, label=0.0))[0]
        for name, reward in (
            ("label 0.1", world.reward(0.1)),
            ("label 0.5", world.reward(0.5)),
            ("0.3 R", 0.3 * world.reward(0.0)),
        ):
            d = _weighted(problem(mdp, policy, data, reward))[0]
            moved[name].append(total_variation(d, bare))
    mean = {name: float(np.mean(x)) for name, x in moved.items()}
    print("\nTV from the optimum with the log-ratio:", {k: round(x, 4) for k, x in mean.items()})
    assert mean["label 0.1"] < 0.25 * mean["0.3 R"]
