"""Training on a GPU: every kind of training steps, and whole environment steps, for several seeds.

    pytest bench/test_bench_cuda.py --benchmark-only -s

Hopper's sizes. Each line has the same work in torch's operations, launched kernel by kernel and as
a graph, and as a graph of the fused kernels, in float32 and in TF32; the headings have one seed on
this machine's processor. Lines are printed as they are measured.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from timing import alternate
from tom.config import DiscriminatorConfig, DualQConfig, DynamicsConfig, SACConfig
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.experiment import Experiment
from tom.names import Precision
from tom.precision import use_precision
from tom.process import keep_freed_memory, use_threads
from tom.rows import RowLayout
from tom.run_folder import RunFolder
from tom.sac import SAC
from tom.settings import override
from tom.streams import RandomStreams
from tom.tasks import defaults
from tom.train import train

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device: none is present"
)
DEVICE, CPU = torch.device("cuda"), torch.device("cpu")
SEEDS = (1, 4, 8, 16)
LAYOUT, BATCH = RowLayout(11, 3), 256
ROUNDS, SECONDS = 30, 10.0
PUBLISHED = 9.8
"""Milliseconds per environment step and seed of the fastest published MBPO, at 20 updates per step:
JAX with 6 seeds at once on an RTX 4500 Ada."""

Call = Callable[[], object]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    use_threads(0)
    keep_freed_memory()
    yield
    torch.set_num_threads(threads)
    # Graphs of earlier tests go first, so that none shares a stream with a living one.
    gc.collect()


def _machine() -> str:
    name = torch.cuda.get_device_name(DEVICE)
    return (
        f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}; the processor with "
        f"{torch.get_num_threads()} of {os.cpu_count()} threads"
    )


def _waiting(device: torch.device, call: Call) -> Call:
    """The call, and then whatever it queued."""

    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def _streams(seeds: int, device: torch.device) -> RandomStreams:
    return RandomStreams(range(seeds), "bench", device)


class Variant(NamedTuple):
    """How the steps are taken."""

    graphs: bool
    fused: bool = False
    precision: Precision = "fp32"

    @property
    def options(self) -> dict[str, Any]:
        """The parts' arguments for it, and the run's settings."""
        return {
            "cuda_graphs": self.graphs,
            "fused_kernels": self.fused,
            "precision": self.precision,
        }


def _sac(seeds: int, device: torch.device, how: Variant) -> tuple[Call, int]:
    ones = torch.ones(3)
    streams = _streams(seeds, device)
    sac = SAC(LAYOUT, -ones, ones, SACConfig(), 0.99, streams, **how.options)
    rows = torch.randn(20, seeds, BATCH, LAYOUT.width, device=device)
    rows[..., LAYOUT.terminated] = 0
    return lambda: sac.update(rows), 20


def _dynamics(seeds: int, device: torch.device, how: Variant) -> tuple[Call, int]:
    streams = _streams(seeds, device)
    ensemble = DynamicsEnsemble(LAYOUT, DynamicsConfig(), "sample", streams, **how.options)
    shape = (100, seeds, 7, BATCH)
    x, y = torch.randn(*shape, 14, device=device), torch.randn(*shape, 12, device=device)
    w = torch.rand(shape, device=device)
    return lambda: ensemble._graphs.take(ensemble._native_steps, x, y, w), 100


def _dual_q(seeds: int, device: torch.device, how: Variant) -> tuple[Call, int]:
    f, streams = DIVERGENCES["chi2"], _streams(seeds, device)
    dual_q = DualQ(LAYOUT, f, DualQConfig(), 0.99, streams, **how.options)
    inputs = torch.randn(50, seeds, 3 * BATCH, 14, device=device)
    rewards = torch.randn(50, seeds, BATCH, device=device)
    batch = inputs, rewards, torch.ones_like(rewards)
    return lambda: dual_q._graphs.take(dual_q._native_steps, *batch), 50


def _discriminator(seeds: int, device: torch.device, how: Variant) -> tuple[Call, int]:
    streams, options = _streams(seeds, device), how.options
    del options["fused_kernels"]  # it has none
    discriminator = Discriminator(25, DiscriminatorConfig(), streams, **options)
    shape = (100, seeds, BATCH)
    batches: list[Tensor] = [torch.rand(*shape, n, device=device) for n in (25, 25, 1)]
    return lambda: discriminator._graphs.take(discriminator._native_steps, *batches), 100


KINDS = {
    "SAC update": _sac,
    "step of the 7-member ensemble": _dynamics,
    "dual Q step": _dual_q,
    "discriminator step with its gradient penalty, which has no fused kernels": _discriminator,
}
VARIANTS = (Variant(False), Variant(True), Variant(True, True), Variant(True, True, "tf32"))


def _ready(kind: str, seeds: int, how: Variant) -> tuple[Call, int]:
    """A call that waits for its steps, and has its graph."""
    use_precision(how.precision, DEVICE)
    call, steps = KINDS[kind](seeds, DEVICE, how)
    run = _waiting(DEVICE, call)
    run()
    return run, steps


@pytest.mark.parametrize("kind", KINDS)
def test_training_steps(kind: str, benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call, steps = KINDS[kind](1, CPU, Variant(False))
    (cpu,) = alternate(call, rounds=10, seconds=SECONDS)
    one: list[float] = []
    with capsys.disabled():
        print(f"\n  {kind}, ms; one seed on the processor: {1e3 * cpu / steps:.3f}")
        print("    In brackets: times one seed's.")
        print("    seeds       launched            graph            fused      fused, TF32")
    for seeds in SEEDS:
        calls = [_ready(kind, seeds, how)[0] for how in VARIANTS]
        use_precision("fp32", DEVICE)  # the graphs keep what they were recorded with
        times = alternate(*calls, rounds=ROUNDS, seconds=SECONDS)
        one = one or list(times)
        with capsys.disabled():
            columns = (
                f"{1e3 * t / steps:10.4f} ({t / first:.2f})"
                for t, first in zip(times, one, strict=True)
            )
            print(f"    {seeds:5d}", *columns, flush=True)
        if seeds == SEEDS[-1]:
            benchmark.pedantic(calls[2], rounds=3)
        del calls
        gc.collect()


class _Clock:
    """Stands where `train` has its logger, and tells when two steps were done.

    Args:
        device: the device whose work counts.
        first, last: the steps.
    """

    def __init__(self, device: torch.device, first: int, last: int) -> None:
        self._device, self._steps, self._times = device, (first, last), list[float]()

    @property
    def seconds(self) -> float:
        first, last = self._times
        return (last - first) / (self._steps[1] - self._steps[0])

    def step(self, step: int) -> None:
        if step in self._steps:
            _waiting(self._device, lambda: None)()
            self._times.append(time.perf_counter())

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record_all(self, metrics: dict[str, Tensor]) -> None:
        """Nothing is kept."""

    def dump(self, step: int) -> None:
        """Nothing is written."""

    def message(self, text: str) -> None:
        """Nothing is printed."""

    def state_dict(self) -> dict[str, Any]:
        return {}


def _seconds_per_step(seeds: int, device: torch.device, how: Variant, folder: Path) -> float:
    """Of one iteration's 250 environment steps with all that belongs to them, without evaluation.

    The two iterations before it, which record the graphs, are not counted.
    """
    config = override(
        defaults("hopper"),
        {
            "device": str(device),
            "seeds": seeds,
            **how.options,
            "exploration_steps": 1000,
            "steps": 1000 + 3 * 250,
            "discriminator.current_rows": 250,  # TOM's weights begin when so many have followed
            "evaluation.interval": 10**6,
            "evaluation.episodes": 1,
            "checkpoint_interval": 10**6,
            "run_dir": str(folder / "-".join(map(str, (device, seeds, *how)))),
        },
    )
    run = Experiment(config)
    clock: Any = _Clock(device, 1499, 1749)
    never: Any = SimpleNamespace(requested=False)
    train(run, clock, RunFolder.open(config), never)
    run.close()
    del run
    gc.collect()
    return float(clock.seconds)


def test_environment_steps(
    benchmark: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one: list[float] = []
    cpu = _seconds_per_step(1, CPU, Variant(False), tmp_path)
    with capsys.disabled():
        print(f"\n  {_machine()}")
        print("  Hopper, 20 updates per environment step: ms per environment step of all seeds")
        print(f"  one seed on the processor: {1e3 * cpu:.1f}; published, per seed: {PUBLISHED}")
        print("    In brackets: times one seed's, and ms per seed.")
        print("    seeds    graph              fused              fused, TF32", flush=True)
    for seeds in SEEDS:
        times = [_seconds_per_step(seeds, DEVICE, how, tmp_path) for how in VARIANTS[1:]]
        one = one or times
        benchmark.extra_info[f"{seeds} seeds"] = times[1] / seeds
        with capsys.disabled():
            columns = (
                f"{1e3 * t:8.2f} ({t / first:.2f}, {1e3 * t / seeds:.2f})"
                for t, first in zip(times, one, strict=True)
            )
            print(f"    {seeds:5d}", *columns, flush=True)
    benchmark.pedantic(lambda: None)
