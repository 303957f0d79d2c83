"""Work on 100 000 rows without gradients, beside its bare matrix products.

    pytest bench/test_bench_inference.py --benchmark-only -s

Hopper's sizes, one and two threads. The bare products take as many rows at a time as is best for
them (see products.py).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import products
from timing import alternate
from tom.batch_env import BatchEnv
from tom.batching import in_chunks
from tom.config import Config, DynamicsConfig, SACConfig
from tom.dynamics import DynamicsEnsemble
from tom.gym_vector import make_vector_env
from tom.ops import occupancy_weights
from tom.rollouts import ModelRollouts
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams
from tom.weighting import OccupancyWeighting

LAYOUT, ROWS, AT_ONCE = RowLayout(11, 3), 100_000, 512
ROUNDS, SECONDS = 10, 10.0
ACTOR, CRITIC, MODEL = [11, 256, 256, 6], [14, 256, 256, 1], [14, 200, 200, 200, 200, 24]
DISCRIMINATOR = [25, 256, 256, 1]


@pytest.fixture
def compare(benchmark: Any, capsys: pytest.CaptureFixture[str], threads: int) -> Any:
    """Print what the work takes, and its ratio to its forward passes' products."""

    def run(name: str, work: products.Call, passes: list[tuple[int, int, list[int]]]) -> None:
        calls: dict[str, products.Call] = {"native": work}
        for title, product in products.PRODUCTS.items():
            parts = [products.forward(product, *shape, AT_ONCE) for shape in passes]
            calls[title] = lambda parts=parts: [part() for part in parts]
        medians = alternate(*calls.values(), rounds=ROUNDS, seconds=SECONDS)
        times = dict(zip(calls, medians, strict=True))
        with capsys.disabled():
            print(f"\n  {name}, {threads} threads")
            for label, taken in times.items():
                ratio = times["native"] / taken
                print(
                    f"    {label:28s} {1e3 * taken:7.1f} ms   native takes {ratio:5.2f} times that"
                )
        benchmark.extra_info.update(times)
        benchmark.pedantic(work, rounds=3)

    return run


def streams(purpose: str) -> RandomStreams:
    return RandomStreams([0], purpose, torch.device("cpu"))


def policy() -> SAC:
    return SAC(LAYOUT, -torch.ones(3), torch.ones(3), SACConfig(), 0.99, streams("sac"))


def test_weights_of_100_000_rows(compare: Any) -> None:
    weighting = OccupancyWeighting(LAYOUT, Config(env="hopper"), [0], torch.device("cpu"))
    rows, act = torch.randn(1, ROWS, LAYOUT.width), policy().act
    rows[..., LAYOUT.terminated] = 0

    def initial_states(n: int) -> torch.Tensor:
        return torch.randn(1, n, 11)

    @torch.no_grad()
    def weigh() -> object:
        rewards = in_chunks(weighting.discriminator.reward, rows[..., LAYOUT.transition])
        delta, _ = weighting.dual_q.residuals(rows, rewards, initial_states, act)
        return occupancy_weights(delta, "chi2", 10.0)

    passes = [(1, ROWS, DISCRIMINATOR), (1, ROWS, ACTOR), (1, 2 * ROWS, CRITIC)]
    compare("weights of 100 000 rows", weigh, passes)


def test_rollout_step_of_100_000_rows(compare: Any) -> None:
    """Each row goes through one elite member."""
    dynamics = DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams("dynamics"))
    env = make_vector_env("Hopper-v5", 1, 1)
    assert isinstance(env, BatchEnv)
    rollouts = ModelRollouts(LAYOUT, dynamics, env.terminated, streams("rollouts"))
    starts, act = torch.randn(1, ROWS, 11), policy().act
    passes = [(1, ROWS, ACTOR), (1, ROWS, MODEL)]
    compare("rollout step of 100 000 rows", lambda: rollouts.run(starts, act, 1), passes)
    env.close()
