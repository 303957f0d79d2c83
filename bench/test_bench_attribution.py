"""What each technique brings: the training steps with one technique after the other added.

    pytest bench/test_bench_attribution.py --benchmark-only -s

Hopper's sizes, batch 256, two threads; medians of alternating calls within one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
import torch

from plain_sac import PlainSAC
from timing import alternate
from tom import reference
from tom.config import DynamicsConfig, SACConfig
from tom.dynamics import DynamicsEnsemble
from tom.process import keep_freed_memory
from tom.replay import ReplayBuffer
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

LAYOUT, BATCH, STEPS, THREADS = RowLayout(11, 3), 256, 20, 2
ROUNDS, SECONDS = 30, 15.0

Call = Callable[[], object]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    yield
    torch.set_num_threads(before)


def report(
    benchmark: Any, capsys: pytest.CaptureFixture[str], title: str, calls: dict[str, Call]
) -> None:
    """Print the time of each of STEPS steps, and its ratio to the line above and to the first."""
    times = [t / STEPS for t in alternate(*calls.values(), rounds=ROUNDS, seconds=SECONDS)]
    with capsys.disabled():
        print(f"\n  {title}, {THREADS} threads      ms    gain   of all")
        for i, (label, taken) in enumerate(zip(calls, times, strict=True)):
            gain, total = times[max(0, i - 1)] / taken, times[0] / taken
            print(f"    {label:60s} {1e3 * taken:6.3f}  {gain:5.2f}  {total:5.2f}")
    benchmark.pedantic(list(calls.values())[-1], rounds=3)


@contextmanager
def atens_products() -> Iterator[None]:
    before = torch.ops.tom_tests.use_blocked_products(False)
    yield
    torch.ops.tom_tests.use_blocked_products(before)


def plain_networks() -> Any:
    """One autograd node per operation, as the reference has them."""
    return mock.patch("tom.networks.stacked_mlp", reference.stacked_mlp)


def plain_likelihood() -> Any:
    return mock.patch("tom.dynamics.weighted_gaussian_nll", reference.weighted_gaussian_nll)


def within(call: Call, *contexts: Callable[[], Any]) -> Call:
    def run() -> None:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            call()

    return run


def repeated(call: Callable[[int], object]) -> Call:
    return lambda: [call(i) for i in range(STEPS)]


def streams(purpose: str) -> RandomStreams:
    return RandomStreams([0], purpose, torch.device("cpu"))


def test_sac_update(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = torch.randn(STEPS, 1, BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0

    def plain(adam: str, critic_gradients: bool) -> Call:
        program = PlainSAC(adam, critic_gradients)
        return repeated(lambda i: program.update(rows[i, 0]))

    def stack(native: bool) -> SAC:
        config = SACConfig(native=native)
        return SAC(LAYOUT, -torch.ones(3), torch.ones(3), config, 0.99, streams("sac"))

    autograd, native = stack(False), stack(True)
    each = repeated(lambda i: native.update(rows[i : i + 1]))
    calls = {
        "plain PyTorch, Adam tensor by tensor": plain("forloop", True),
        "foreach Adam": plain("foreach", True),
        "fused Adam": plain("fused", True),
        "no gradients for the critics in the actor's step": plain("fused", False),
        "stacked critics, one actor pass, one vector for Adam": within(
            lambda: autograd.update(rows), plain_networks
        ),
        "one autograd node a network, bias and activation fused": within(
            lambda: autograd.update(rows), atens_products
        ),
        "gradients by hand": within(each, atens_products),
        "all updates in one call": within(lambda: native.update(rows), atens_products),
        "own matrix products": lambda: native.update(rows),
    }
    report(benchmark, capsys, "SAC update", calls)


def test_ensemble_step(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (STEPS, 1, 7, BATCH)
    x, y, w = torch.randn(*shape, 14), torch.randn(*shape, 12), torch.rand(shape)
    model = DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams("dynamics"))
    autograd = repeated(lambda i: model._step(x[i], y[i], w[i]))
    calls = {
        "stacked members, one vector for Adam": within(
            autograd, plain_networks, plain_likelihood, atens_products
        ),
        "one autograd node a network, bias and activation fused": within(
            autograd, plain_likelihood, atens_products
        ),
        "likelihood and its gradients in one pass": within(autograd, atens_products),
        "gradients by hand, all steps in one call": within(
            lambda: model._native_steps(x, y, w), atens_products
        ),
        "own matrix products": lambda: model._native_steps(x, y, w),
    }
    report(benchmark, capsys, "step of the 7-member ensemble", calls)


def test_minibatches(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = ReplayBuffer(100_000, LAYOUT.width, seed=0)
    buffer.append(torch.randn(100_000, LAYOUT.width))
    stored = torch.randn(100_000, LAYOUT.width)
    calls: dict[str, Call] = {
        "torch.randint and indexing, a minibatch a call": repeated(
            lambda i: stored[torch.randint(100_000, (BATCH,))]
        ),
        "ReplayBuffer, a minibatch a call": repeated(lambda i: buffer.sample(BATCH)),
        "ReplayBuffer, the minibatches of all updates in one call": (
            lambda: buffer.sample(STEPS * BATCH)
        ),
    }
    report(benchmark, capsys, "minibatch of 256 rows", calls)
