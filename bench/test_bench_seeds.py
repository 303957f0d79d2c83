"""What the seed axis costs: one seed beside a plain single-seed program, and k seeds beside k runs.

    pytest bench/test_bench_seeds.py --benchmark-only -s

Hopper's sizes, batch 256. Every line compares alternating calls within one run: one seed, k seeds,
one seed, ... medians.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from plain_sac import PlainSAC
from timing import alternate
from tom.config import DualQConfig, DynamicsConfig, SACConfig
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.process import keep_freed_memory
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

ROUNDS, SECONDS = 40, 10.0
LAYOUT, BATCH, STEPS = RowLayout(11, 3), 256, 5  # Hopper

Call = Callable[[], object]


def streams(seeds: int) -> RandomStreams:
    return RandomStreams(range(seeds), "bench", torch.device("cpu"))


def sac_update(seeds: int) -> Call:
    sac = SAC(LAYOUT, -torch.ones(3), torch.ones(3), SACConfig(), 0.99, streams(seeds))
    rows = torch.randn(STEPS, seeds, BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    return lambda: sac.update(rows)


def ensemble_step(seeds: int) -> Call:
    dynamics = DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams(seeds))
    shape = (STEPS, seeds, 7, BATCH)
    batches = torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)
    return lambda: dynamics._native_steps(*batches)


def dual_q_step(seeds: int) -> Call:
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], DualQConfig(), 0.99, streams(seeds))
    inputs = torch.randn(STEPS, seeds, 3 * BATCH, 14)
    rewards, go_on = torch.randn(STEPS, seeds, BATCH), torch.ones(STEPS, seeds, BATCH)
    return lambda: dual_q._native_steps(inputs, rewards, go_on)


def test_one_seed_beside_a_plain_program(benchmark, capsys):
    torch.manual_seed(0)
    plain, rows = PlainSAC(), torch.randn(BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    stack = sac_update(1)
    baseline, ours = alternate(lambda: plain.update(rows), stack, rounds=ROUNDS, seconds=SECONDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: plain {1e3 * baseline:.2f} ms, "
            f"stack of one seed {1e3 * ours / STEPS:.2f} ms ({baseline * STEPS / ours:.2f} x)"
        )
    benchmark(stack)


@pytest.mark.parametrize("work", [sac_update, ensemble_step, dual_q_step])
def test_k_seeds_beside_k_runs(work, benchmark, capsys):
    keep_freed_memory()
    counts = (1, 2, 4, 8)
    stacks = [work(seeds) for seeds in counts]
    times = alternate(*stacks, rounds=ROUNDS, seconds=SECONDS)
    parts = [
        f"{k}: {1e3 * taken / STEPS:.2f} ms ({taken / (k * times[0]):.2f})"
        for k, taken in zip(counts, times, strict=True)
    ]
    with capsys.disabled():
        print(
            f"\n  {work.__name__}, {torch.get_num_threads()} threads; seeds in one stack, time, "
            f"and in brackets its ratio to as many runs of one: {', '.join(parts)}"
        )
    benchmark.pedantic(stacks[0], rounds=3)
