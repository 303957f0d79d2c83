"""The four kinds of native training steps on small networks, to be compared across devices."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tom.config import DiscriminatorConfig, DualQConfig, DynamicsConfig, SACConfig
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.kernels import launch
from tom.networks import Adam
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

LAYOUT, SEEDS, BATCH = RowLayout(5, 2), (0, 1, 2), 20
KINDS = ("sac", "dynamics", "dual_q", "discriminator")
FUSED = ("sac", "even dynamics", "dual_q")
"""Which a GPU takes by the kernels of `tom.kernels`: of the ensembles, those of one width."""

Steps = Callable[..., Any]


@dataclass
class Case:
    """Training steps, what they read ([K, S, ...] each), and all that they change."""

    steps: Steps
    inputs: tuple[Tensor, ...]
    state: list[Tensor]

    @property
    def results(self) -> list[Tensor]:
        """The state without the stacks' gradients, which are memory to work in."""
        return [tensor for i, tensor in enumerate(self.state) if i % 5 != 1]

    def run(self) -> list[Tensor]:
        """Take the steps; what they return, then the state after them."""
        out = self.steps(*self.inputs)
        return [*(out if isinstance(out, tuple) else (out,)), *self.state]


def make_case(kind: str, device: str = "cpu", *, count: int = 100, fused: bool = True) -> Case:
    """The same parameters and inputs on every device, in torch's default floating-point type."""
    torch.manual_seed(0)
    case = _MAKERS[kind](RandomStreams(SEEDS, "test", torch.device("cpu")), count, fused)
    if device != "cpu":
        other = _MAKERS[kind](RandomStreams(SEEDS, "test", torch.device(device)), count, fused)
        for mine, theirs in zip(other.state, case.state, strict=True):
            mine.copy_(theirs)
        case = Case(other.steps, tuple(x.to(device) for x in case.inputs), other.state)
    return case


def _sac(streams: RandomStreams, count: int, fused: bool) -> Case:
    config = SACConfig(hidden=(16, 12), learning_rate=3e-3, tau=0.05)
    low, high = torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 5.0])
    sac = SAC(LAYOUT, low, high, config, 0.99, streams, fused_kernels=fused)
    rows = torch.randn(count, len(SEEDS), BATCH, LAYOUT.width)
    rows[..., LAYOUT.terminated] = (torch.rand(rows.shape[:3]) < 0.2).to(rows.dtype)
    noise = torch.randn(count, len(SEEDS), 2 * BATCH, 2)
    adams = (sac._actor_adam, sac._critic_adam, sac._temperature_adam)
    return Case(sac._native_updates, (rows, noise), [*_trained(*adams), sac.target.flat])


def _dynamics(
    streams: RandomStreams, count: int, fused: bool, hidden: tuple[int, ...] = (16, 12, 16)
) -> Case:
    config = DynamicsConfig(members=3, hidden=hidden, learning_rate=3e-3, weight_decay=0.1)
    ensemble = DynamicsEnsemble(LAYOUT, config, "loss", streams, fused_kernels=fused)
    shape = (count, len(SEEDS), 3, BATCH)
    inputs = torch.randn(*shape, 7), torch.randn(*shape, 6), torch.rand(*shape)
    return Case(ensemble._native_steps, inputs, _trained(ensemble.optimizer))


def _even_dynamics(streams: RandomStreams, count: int, fused: bool) -> Case:
    return _dynamics(streams, count, fused, (20, 20, 20))


def _dual_q(streams: RandomStreams, count: int, fused: bool) -> Case:
    config = DualQConfig(hidden=(16, 12), learning_rate=3e-3, policy_samples=3, l2=0.01)
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], config, 0.9, streams, fused_kernels=fused)
    shape = (count, len(SEEDS))
    go_on = (torch.rand(*shape, BATCH) < 0.8).to(torch.get_default_dtype())
    inputs = torch.randn(*shape, 7 * BATCH, 7), torch.randn(*shape, BATCH) - 0.5, go_on
    return Case(dual_q._native_steps, inputs, _trained(dual_q.optimizer))


def _discriminator(streams: RandomStreams, count: int, fused: bool) -> Case:
    config = DiscriminatorConfig(hidden=(16, 12), learning_rate=3e-3)
    discriminator = Discriminator(12, config, streams)
    shape = (count, len(SEEDS), BATCH)
    inputs = torch.randn(*shape, 12), torch.randn(*shape, 12) + 1, torch.rand(*shape, 1)
    return Case(discriminator._native_steps, inputs, _trained(discriminator.optimizer))


_MAKERS = {
    "sac": _sac,
    "dynamics": _dynamics,
    "even dynamics": _even_dynamics,
    "dual_q": _dual_q,
    "discriminator": _discriminator,
}


def _trained(*optimizers: Adam) -> list[Tensor]:
    return [tensor for optimizer in optimizers for tensor in optimizer.trained]


def note_fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which each call of the kernels of `tom.kernels` adds its name."""
    called: list[str] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object) -> Any:
            called.append(name)
            return function(*arguments)

        return run

    for name in ("sac_updates", "dynamics_steps", "dual_q_steps"):
        module = importlib.import_module(f"tom.kernels.{name}")
        monkeypatch.setattr(module, name, note(name, getattr(module, name)))
    return called


def take_larger_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fused kernels of all kinds take their rows as an ensemble's do for many seeds."""
    for name, value in launch.MANY_ROWS.items():
        monkeypatch.setitem(launch.ROWS, name, value)
    monkeypatch.setattr(launch, "multiprocessors", lambda device: 0)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Take the way of the other devices on the CPU: ATen's operations instead of own kernels."""
    before = torch.ops.tom_tests.use_cpu_kernels(False)
    try:
        yield
    finally:
        torch.ops.tom_tests.use_cpu_kernels(before)


def map_tensors(f: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with f applied to every tensor in it, also inside lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(f, item) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(f, item) for key, item in value.items()}
    return value
