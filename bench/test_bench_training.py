"""The native training steps beside bare matrix products, autograd's steps, and other programs.

    pytest bench/test_bench_training.py --benchmark-only -s

Hopper's sizes, one and two threads. The bare products are the step's matrix products alone, see
products.py. Every line has medians of alternating calls within one run. torch.compile takes minutes
to warm up: `-k "not compile"` leaves it out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

import products
from compiled import compiled
from plain_sac import PlainSAC
from products import Call
from timing import alternate
from tom.config import DiscriminatorConfig, DualQConfig, DynamicsConfig, SACConfig
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

LAYOUT, BATCH, STEPS = RowLayout(11, 3), 256, 20
ROUNDS, SECONDS = 40, 20.0


@pytest.fixture
def compare(benchmark: Any, capsys: pytest.CaptureFixture[str], threads: int) -> Any:
    """Print what one step takes in each program; each call makes the stated number of steps."""

    def run(name: str, calls: dict[str, tuple[Call, int]]) -> None:
        medians = alternate(*(call for call, _ in calls.values()), rounds=ROUNDS, seconds=SECONDS)
        steps = (n for _, n in calls.values())
        times = {k: t / n for k, t, n in zip(calls, medians, steps, strict=True)}
        with capsys.disabled():
            print(f"\n  {name}, {threads} threads")
            for label, taken in times.items():
                print(
                    f"    {label:28s} {1e3 * taken:7.2f} ms   native steps take "
                    f"{times['native'] / taken:5.2f} times that"
                )
        benchmark.extra_info.update(times)
        benchmark.pedantic(calls["native"][0], rounds=3)

    return run


def streams() -> RandomStreams:
    return RandomStreams([0], "bench", torch.device("cpu"))


def bare(work: Callable[..., Call], *shape: Any) -> dict[str, tuple[Call, int]]:
    """The work's matrix products, by each way to compute them."""
    return {name: (work(product, *shape), 1) for name, product in products.PRODUCTS.items()}


def native_and_plain(config: SACConfig) -> SAC:
    return SAC(LAYOUT, -torch.ones(3), torch.ones(3), config, 0.99, streams())


def test_sac_update(compare: Any) -> None:
    batches = torch.randn(STEPS, 1, BATCH, LAYOUT.width)
    batches[..., LAYOUT.terminated] = 0
    native, autograd = (native_and_plain(SACConfig(native=on)) for on in (True, False))
    plain = PlainSAC()
    calls: dict[str, tuple[Call, int]] = {
        "native": (lambda: native.update(batches), STEPS),
        **bare(products.sac_update),
        "autograd on the stacks": (lambda: autograd.update(batches[:1]), 1),
        "plain PyTorch": (lambda: plain.update(batches[0, 0]), 1),
    }
    for package, title in (("stable_baselines3", "Stable-Baselines3"), ("sbx", "SBX (JAX)")):
        if importlib.util.find_spec(package):
            calls[title] = (peer_update(package), STEPS)
    compare("SAC update", calls)


@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_sac_update_beside_torch_compile(compare: Any, mode: str) -> None:
    batches = torch.randn(STEPS, 1, BATCH, LAYOUT.width)
    batches[..., LAYOUT.terminated] = 0
    native, plain = native_and_plain(SACConfig()), PlainSAC()
    update, seconds = compiled(plain.update, mode, batches[0, 0])
    title = f"torch.compile({mode}) of plain PyTorch, {seconds:.0f} s to compile"
    compare(
        "SAC update",
        {
            "native": (lambda: native.update(batches), STEPS),
            title: (lambda: update(batches[0, 0]), 1),
        },
    )


def peer_update(package: str) -> Call:
    """STEPS updates in one call of `train`, as the peer's own loop makes them."""
    module: Any = importlib.import_module(package)
    model = module.SAC("MlpPolicy", "Hopper-v5", batch_size=BATCH, learning_starts=500, seed=0)
    model.learn(600)
    model.logger.record = lambda *_, **__: None
    return lambda: model.train(gradient_steps=STEPS, batch_size=BATCH)


def test_ensemble_step(compare: Any) -> None:
    native, autograd = (
        DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams()) for _ in range(2)
    )
    shape = (STEPS, 1, 7, BATCH)
    x, y, w = torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)
    compare(
        "step of the 7-member ensemble",
        {
            "native": (lambda: native._native_steps(x, y, w), STEPS),
            **bare(products.step, 7, BATCH, [14, 200, 200, 200, 200, 24]),
            "autograd on the stacks": (lambda: autograd._step(x[0], y[0], w[0]), 1),
        },
    )


def test_dual_q_step(compare: Any) -> None:
    native, autograd = (
        DualQ(LAYOUT, DIVERGENCES["chi2"], DualQConfig(), 0.99, streams()) for _ in range(2)
    )
    inputs, rewards = torch.randn(STEPS, 1, 3 * BATCH, 14), torch.randn(STEPS, 1, BATCH)
    go_on = torch.ones_like(rewards)
    compare(
        "dual Q step",
        {
            "native": (lambda: native._native_steps(inputs, rewards, go_on), STEPS),
            **bare(products.step, 1, 3 * BATCH, [14, 256, 256, 1]),
            "autograd on the stacks": (
                lambda: autograd._step(inputs[0], rewards[0], go_on[0]),
                1,
            ),
        },
    )


def test_discriminator_step(compare: Any) -> None:
    native, autograd = (Discriminator(25, DiscriminatorConfig(), streams()) for _ in range(2))
    shape = (STEPS, 1, BATCH)
    batches = torch.randn(*shape, 25), torch.randn(*shape, 25), torch.rand(*shape, 1)
    compare(
        "discriminator step with its gradient penalty",
        {
            "native": (lambda: native._native_steps(*batches), STEPS),
            **bare(products.discriminator_step),
            "autograd on the stacks": (lambda: autograd._steps(*(b[:1] for b in batches)), 1),
        },
    )
