"""What the seed axis costs: one seed beside a plain single-seed program, and k seeds beside k runs.

    pytest bench/test_bench_seeds.py --benchmark-only -s

Hopper's sizes, batch 256, and as many steps in a call as training takes: a stack that does not fit
the cache goes through all steps of a call seed by seed. Every line compares alternating calls
within one run: one seed, k seeds, one seed, ... medians.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from plain_sac import PlainSAC
from timing import alternate
from tom.config import DualQConfig, DynamicsConfig, SACConfig
from tom.divergences import DIVERGENCES
from tom.dual_q import STEPS_TOGETHER, DualQ
from tom.dynamics import DynamicsEnsemble
from tom.process import keep_freed_memory
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

ROUNDS, SECONDS = 40, 10.0
LAYOUT, BATCH = RowLayout(11, 3), 256  # Hopper

UPDATES = 20  # of SAC in a step of the environment

Call = Callable[[], object]


def streams(seeds: int) -> RandomStreams:
    return RandomStreams(range(seeds), "bench", torch.device("cpu"))


def sac_update(seeds: int) -> tuple[Call, int]:
    """Some updates, and how many."""
    sac = SAC(LAYOUT, -torch.ones(3), torch.ones(3), SACConfig(), 0.99, streams(seeds))
    rows = torch.randn(UPDATES, seeds, BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    return lambda: sac.update(rows), UPDATES


def ensemble_step(seeds: int) -> tuple[Call, int]:
    """An epoch, and its steps."""
    config = DynamicsConfig()
    dynamics = DynamicsEnsemble(LAYOUT, config, "sample", streams(seeds))
    shape = (config.batches_per_epoch, seeds, 7, BATCH)
    batches = torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)
    return lambda: dynamics._native_steps(*batches), config.batches_per_epoch


def dual_q_step(seeds: int) -> tuple[Call, int]:
    """Some steps, and how many."""
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], DualQConfig(), 0.99, streams(seeds))
    inputs = torch.randn(STEPS_TOGETHER, seeds, 3 * BATCH, 14)
    rewards = torch.randn(STEPS_TOGETHER, seeds, BATCH)
    go_on = torch.ones_like(rewards)
    return lambda: dual_q._native_steps(inputs, rewards, go_on), STEPS_TOGETHER


def test_one_seed_beside_a_plain_program(benchmark, capsys):
    torch.manual_seed(0)
    plain, rows = PlainSAC(), torch.randn(BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    stack, updates = sac_update(1)
    baseline, ours = alternate(lambda: plain.update(rows), stack, rounds=ROUNDS, seconds=SECONDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: plain {1e3 * baseline:.2f} ms, "
            f"stack of one seed {1e3 * ours / updates:.2f} ms ({baseline * updates / ours:.2f} x)"
        )
    benchmark(stack)


@pytest.mark.parametrize("work", [sac_update, ensemble_step, dual_q_step])
def test_k_seeds_beside_k_runs(work, benchmark, capsys):
    keep_freed_memory()
    counts = (1, 2, 4, 8)
    stacks, steps = zip(*(work(seeds) for seeds in counts), strict=True)
    times = alternate(*stacks, rounds=ROUNDS, seconds=SECONDS)
    parts = [
        f"{k}: {1e3 * taken / steps[0]:.2f} ms ({taken / (k * times[0]):.2f})"
        for k, taken in zip(counts, times, strict=True)
    ]
    with capsys.disabled():
        print(
            f"\n  {work.__name__}, {torch.get_num_threads()} threads; seeds in one stack, time, "
            f"and in brackets its ratio to as many runs of one: {', '.join(parts)}"
        )
    benchmark.pedantic(stacks[0], rounds=3)
