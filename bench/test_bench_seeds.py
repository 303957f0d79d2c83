"""What the seed axis costs: one seed beside a plain single-seed program, and k seeds beside k runs.

Every line compares alternating calls within one run: baseline, stack, baseline, ... medians.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from plain_sac import PlainSAC
from timing import alternate
from tom.config import SACConfig
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

ROUNDS = 60
LAYOUT = RowLayout(11, 3)  # Hopper


def _stack(seeds: int) -> Callable[[], object]:
    streams = RandomStreams(range(seeds), "sac", torch.device("cpu"))
    sac = SAC(LAYOUT, -torch.ones(3), torch.ones(3), SACConfig(), 0.99, streams)
    rows = torch.randn(1, seeds, 256, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    return lambda: sac.update(rows)


def test_one_seed_beside_a_plain_program(benchmark, capsys):
    torch.manual_seed(0)
    plain, rows = PlainSAC(), torch.randn(256, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    stack = _stack(1)
    baseline, ours = alternate(lambda: plain.update(rows), stack, rounds=ROUNDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: plain {1e3 * baseline:.2f} ms, "
            f"stack of one seed {1e3 * ours:.2f} ms ({baseline / ours:.2f} x)"
        )
    benchmark(stack)


@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_k_seeds_beside_k_runs(seeds, benchmark, capsys):
    one, several = _stack(1), _stack(seeds)
    baseline, ours = alternate(one, several, rounds=ROUNDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: {seeds} seeds in one stack "
            f"{1e3 * ours:.2f} ms, {seeds} runs of one {1e3 * seeds * baseline:.2f} ms "
            f"({seeds * baseline / ours:.2f} x)"
        )
    benchmark(several)
