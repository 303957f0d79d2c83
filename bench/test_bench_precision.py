"""The training steps and the forward passes in bfloat16 beside the same in float32.

    pytest bench/test_bench_precision.py --benchmark-only -s

Hopper's sizes, one and two threads. The bare products are the work's matrix products alone, see
products.py, all of them in bfloat16, by the steps' kernels and by torch.bmm: the steps leave the
narrow ones in float32, where these kernels are faster. The forward passes are those of 100 000
rows: of the dual network on all of them, and of the ensemble on its members' shares. Every line
has medians of alternating calls within one run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import products
from products import Call
from timing import alternate
from tom.config import DiscriminatorConfig, DualQConfig, DynamicsConfig, SACConfig
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.names import Precision
from tom.networks import StackedMLP
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

pytestmark = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the processor lacks AVX512-BF16"
)

LAYOUT, BATCH, STEPS, ROWS = RowLayout(11, 3), 256, 20, 100_000
AT_ONCE = 256  # rows that stay in a core's cache
ROUNDS, SECONDS = 40, 3.0
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@pytest.fixture
def compare(benchmark: Any, capsys: pytest.CaptureFixture[str], threads: int) -> Any:
    """Print what one step takes in each precision; each call makes the stated number of steps."""

    def run(
        name: str, made: Callable[[Precision], Call], count: int, bare: dict[str, Call]
    ) -> None:
        calls = {**{precision: made(precision) for precision in PRECISIONS}, **bare}
        seconds = alternate(*calls.values(), rounds=ROUNDS, seconds=SECONDS)
        taken = dict(zip(calls, seconds, strict=True))
        for precision in PRECISIONS:
            taken[precision] /= count
        with capsys.disabled():
            print(
                f"\n  {name}, {threads} threads: fp32 {1e3 * taken['fp32']:.2f} ms, "
                f"bf16 {1e3 * taken['bf16']:.2f} ms "
                f"({taken['fp32'] / taken['bf16']:.2f} times as fast)"
            )
            print("   ", ", ".join(f"{key} {1e3 * taken[key]:.2f} ms" for key in bare))
        benchmark.extra_info.update(taken)
        benchmark.pedantic(calls["bf16"], rounds=3)

    return run


def streams() -> RandomStreams:
    return RandomStreams([0], "bench", torch.device("cpu"))


def bf16(work: Callable[..., Call], *shape: Any) -> dict[str, Call]:
    """The work's matrix products, with factors that are in bfloat16 already."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # of the factors that `work` draws
    try:
        return {name: work(product, *shape) for name, product in products.PRODUCTS.items()}
    finally:
        torch.set_default_dtype(before)


def test_sac_update(compare: Any) -> None:
    batches = torch.randn(STEPS, 1, BATCH, LAYOUT.width)
    batches[..., LAYOUT.terminated] = 0

    def made(precision: Precision) -> Call:
        low, high = -torch.ones(3), torch.ones(3)
        sac = SAC(LAYOUT, low, high, SACConfig(), 0.99, streams(), precision=precision)
        return lambda: sac.update(batches)

    compare("SAC update", made, STEPS, bf16(products.sac_update))


def test_ensemble_step(compare: Any) -> None:
    shape = (STEPS, 1, 7, BATCH)
    x, y, w = torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)

    def made(precision: Precision) -> Call:
        model = DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams(), precision=precision)
        return lambda: model._native_steps(x, y, w)

    bare = bf16(products.step, 7, BATCH, [14, 200, 200, 200, 200, 24])
    compare("step of the 7-member ensemble", made, STEPS, bare)


def test_dual_q_step(compare: Any) -> None:
    inputs, rewards = torch.randn(STEPS, 1, 3 * BATCH, 14), torch.randn(STEPS, 1, BATCH)
    go_on = torch.ones_like(rewards)

    def made(precision: Precision) -> Call:
        dual_q = DualQ(
            LAYOUT, DIVERGENCES["chi2"], DualQConfig(), 0.99, streams(), precision=precision
        )
        return lambda: dual_q._native_steps(inputs, rewards, go_on)

    compare("dual Q step", made, STEPS, bf16(products.step, 1, 3 * BATCH, [14, 256, 256, 1]))


def test_discriminator_step(compare: Any) -> None:
    shape = (STEPS, 1, BATCH)
    batches = torch.randn(*shape, 25), torch.randn(*shape, 25), torch.rand(*shape, 1)

    def made(precision: Precision) -> Call:
        discriminator = Discriminator(25, DiscriminatorConfig(), streams(), precision=precision)
        return lambda: discriminator._native_steps(*batches)

    bare = bf16(products.discriminator_step)
    compare("discriminator step with its gradient penalty", made, STEPS, bare)


@pytest.mark.parametrize(
    ("name", "members", "sizes", "activation"),
    [
        ("dual Q", 1, [14, 256, 256, 1], "relu"),
        ("ensemble", 7, [14, 200, 200, 200, 200, 24], "silu"),
    ],
)
def test_forward_pass(
    compare: Any, name: str, members: int, sizes: list[int], activation: Any
) -> None:
    rows = ROWS // members
    x = torch.randn(1, members, rows, sizes[0])

    def made(precision: Precision) -> Call:
        stack = StackedMLP(members, sizes, activation, streams(), precision=precision)

        @torch.no_grad()
        def run() -> Tensor:
            return stack(x)

        return run

    bare = bf16(products.forward, members, rows, sizes, AT_ONCE)
    compare(f"{name}'s forward pass on {members} x {rows} rows", made, 1, bare)
