"""The GPU's fused kernels, run by Triton's interpreter: the operators take the same steps by them.

On a GPU itself test_cuda.py compares them, over more steps.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from step_cases import FUSED, Case, make_case, note_fused_calls, take_larger_blocks
from tom import kernels
from tom.config import DualQConfig, DynamicsConfig, SACConfig
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.kernels import launch
from tom.networks import Adam
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams
from tom.training_error import TrainingError

triton = pytest.importorskip("triton", reason="needs Triton, whose interpreter runs the kernels")
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="Triton's interpreter is off where there is a GPU"
)
COUNT = 3  # steps; the interpreter takes about a second for each
TOLERANCE = 2e-5  # float32 in another order; each step starts from the last one's differences
CPU = torch.device("cpu")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Has the kernels registered for the processor; which of them were called."""
    names = note_fused_calls(monkeypatch)
    monkeypatch.setattr(kernels, "unavailable", lambda device: None)
    library = kernels.register("CPU")
    yield names
    library._destroy()


def assert_near(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def compare(found: Case, expected: Case, called: list[str]) -> None:
    """Take the steps of two cases that differ in `fused_kernels` alone."""
    assert_near(found.steps(*found.inputs), expected.steps(*expected.inputs))
    assert len(called) == 1
    assert_near(found.results, expected.results)


@pytest.mark.parametrize("larger_blocks", [False, True])
@pytest.mark.parametrize("kind", FUSED)
def test_the_same_steps(
    kind: str, larger_blocks: bool, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if larger_blocks:
        take_larger_blocks(monkeypatch)
    compare(make_case(kind, count=COUNT), make_case(kind, count=COUNT, fused=False), called)


def streams(seeds: int = 2) -> RandomStreams:
    torch.manual_seed(0)
    return RandomStreams(range(seeds), "test", CPU)


def trained(*optimizers: Adam) -> list[Tensor]:
    return [tensor for optimizer in optimizers for tensor in optimizer.trained]


@pytest.mark.parametrize("log_std_bias", [0.0, 2.5])  # the second holds some at the upper bound
def test_sac_of_odd_sizes(log_std_bias: float, called: list[str]) -> None:
    """More inputs than a chunk, more actions than a block, rows that end within a block."""
    layout, batch = RowLayout(37, 17), 21

    def case(fused: bool) -> Case:
        low = -torch.linspace(0.1, 1.1, 17)
        sac = SAC(
            layout, low, 1 - low, SACConfig(hidden=(40, 33)), 0.9, streams(), fused_kernels=fused
        )
        with torch.no_grad():
            sac.actor.biases[-1][..., 17:] += log_std_bias
        rows, noise = torch.randn(2, 2, batch, layout.width), torch.randn(2, 2, 2 * batch, 17)
        rows[..., layout.terminated] = (rows[..., layout.terminated] > 0.5).float()
        adams = sac._actor_adam, sac._critic_adam, sac._temperature_adam
        return Case(sac._native_updates, (rows, noise), [*trained(*adams), sac.target.flat])

    compare(case(True), case(False), called)


@pytest.mark.parametrize(
    ("divergence", "conjugate", "samples", "end"),
    [
        ("chi2", "exact", 1, "cut"),
        ("chi2", "exact", 3, "restart"),
        ("chi2", "quadratic", 2, "restart"),
        ("chi2_bound", "exact", 1, "restart"),
    ],
)
def test_dual_q(divergence: str, conjugate: str, samples: int, end: str, called: list[str]) -> None:
    config = DualQConfig(
        hidden=(20, 16),
        learning_rate=3e-3,
        policy_samples=samples,
        conjugate=conjugate,  # type: ignore[arg-type]
        after_termination=end,  # type: ignore[arg-type]
        l2=0.01,
    )

    def case(fused: bool) -> Case:
        f = DIVERGENCES[divergence]
        dual_q = DualQ(RowLayout(5, 2), f, config, 0.9, streams(), fused_kernels=fused)
        go_on = (torch.rand(COUNT, 2, 19) < 0.8).float()
        # Rewards below −1 put δ below the threshold of the exact conjugate.
        inputs = torch.randn(COUNT, 2, 19 * (1 + 2 * samples), 7), torch.randn(COUNT, 2, 19) - 0.5
        return Case(dual_q._native_steps, (*inputs, go_on), trained(dual_q.optimizer))

    compare(case(True), case(False), called)


def test_an_ensemble_of_odd_sizes(called: list[str]) -> None:
    """Log-variances beyond both bounds, more outputs than a block, two hidden layers."""
    config = DynamicsConfig(members=2, elites=1, hidden=(37, 37), weight_decay=0.1)

    def case(fused: bool) -> Case:
        ensemble = DynamicsEnsemble(
            RowLayout(19, 20), config, "loss", streams(), fused_kernels=fused
        )
        with torch.no_grad():
            ensemble.network.biases[-1][..., 20:] += torch.linspace(-30, 30, 20)
        shape = (2, 2, 2, 21)
        inputs = torch.randn(*shape, 39), torch.randn(*shape, 20), torch.rand(*shape)
        return Case(ensemble._native_steps, inputs, trained(ensemble.optimizer))

    compare(case(True), case(False), called)


def test_nan_is_told(called: list[str]) -> None:
    """A comparison that is false for NaN must not turn it into a number."""
    for kind, index in (("sac", 0), ("even dynamics", 0), ("dual_q", 1)):
        case = make_case(kind, count=1)
        case.inputs[index][0, 0] = math.nan
        out = case.run()[0]
        seeds = out.isnan().flatten(0, -2).any(0) if kind == "sac" else out.flatten().isnan()
        assert seeds.flatten()[0]
        assert not seeds.flatten()[-1]
    assert len(called) == 3


def test_what_does_not_fit_is_composed(called: list[str]) -> None:
    """Uneven ensembles, KL, a third hidden layer, wide ones, float64, bf16, and by request."""
    make_case("dynamics", count=1).run()
    make_case("sac", count=1, fused=False).run()
    low, high = -torch.ones(2), torch.ones(2)
    layout = RowLayout(5, 2)
    rows, noise = torch.zeros(1, 2, 4, layout.width), torch.zeros(1, 2, 8, 2)
    for change in ({"hidden": (16, 16, 16)}, {"hidden": (16, 300)}):
        config = dataclasses.replace(SACConfig(), **change)  # type: ignore[arg-type]
        SAC(layout, low, high, config, 0.9, streams())._native_updates(rows, noise)
    kl = DualQ(layout, DIVERGENCES["kl"], DualQConfig(hidden=(16, 16)), 0.9, streams())
    kl._native_steps(torch.zeros(1, 2, 12, 7), torch.zeros(1, 2, 4), torch.ones(1, 2, 4))
    torch.set_default_dtype(torch.float64)
    try:
        make_case("sac", count=1).run()
    finally:
        torch.set_default_dtype(torch.float32)
    assert not called


def test_networks_of_two_types_are_refused_before(called: list[str]) -> None:
    for name in ("critic", "temperature"):
        sac = make_case("sac", count=1)
        part = getattr(sac.steps.__self__, name)  # type: ignore[attr-defined]
        gradient = part.flat.grad.double()
        part.flat = part.flat.detach().double()
        part.flat.grad = gradient
        adam = getattr(sac.steps.__self__, f"_{name}_adam")  # type: ignore[attr-defined]
        adam._moments = {key: t.double() for key, t in adam._moments.items()}
        with pytest.raises(ValueError, match=rf"{name} is Double on cpu; it must be Float on cpu"):
            sac.run()
    assert not called


def test_malformed_networks_are_refused_before(called: list[str]) -> None:
    for kind in FUSED:
        case = make_case(kind, count=1)
        part = case.steps.__self__  # type: ignore[attr-defined]
        network = part.critic if kind == "sac" else part.network
        network.flat.data = network.flat.data[:-1].clone()
        with pytest.raises(ValueError, match=r"its first four|alike"):
            case.run()
    assert not called


def test_why_they_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    unavailable = kernels.unavailable.__wrapped__  # without what it remembers
    probed: list[torch.device] = []
    probe = importlib.import_module("tom.kernels.probe")
    monkeypatch.setattr(probe, "probe", probed.append)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    cuda = torch.device("cuda")
    assert unavailable(CPU) == "they are for NVIDIA's GPUs"
    assert not probed
    assert unavailable(cuda) is None
    assert probed == [cuda]

    def fail(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify")

    monkeypatch.setattr(probe, "probe", fail)
    assert unavailable(cuda) == (
        "Triton cannot compile or launch a kernel here (Failed to find C compiler.)"
    )
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    assert unavailable(cuda) == "Triton is not installed"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert unavailable(cuda) == "they are for GPUs of compute capability 8.0 and newer"


def test_the_probe_writes(called: list[str]) -> None:
    probe = importlib.import_module("tom.kernels.probe")
    out = torch.zeros(1)
    probe.probe_kernel[(1,)](out)
    assert out.item() == 1


def test_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "unavailable", lambda device: "of a reason")
    cuda = torch.device("cuda")
    assert str(kernels.advice(cuda, "fp32", True)).endswith("more slowly: of a reason")
    assert kernels.advice(cuda, "fp32", False) is None
    assert kernels.advice(cuda, "bf16", True) is None  # which never uses them
    assert kernels.advice(CPU, "fp32", True) is None


@pytest.mark.parametrize("error", [OSError("no space"), triton.errors.TritonError()])
def test_a_failed_compilation_says_what_to_do(
    error: Exception, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error

    module = importlib.import_module("tom.kernels.sac")
    monkeypatch.setattr(module, "action_value_kernel", {(2, 6): fail})
    case = make_case("sac", count=1)
    before = [t.clone() for t in case.state]
    with pytest.raises(TrainingError, match=r"\(no space|TritonError\).*--no-fused-kernels"):
        case.run()
    for a, b in zip(case.state, before, strict=True):  # the kernels before it have been undone
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_other_errors_are_not_blamed_on_triton(
    called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(importlib.import_module("tom.kernels.sac_updates"), "sac_updates", fail)
    with pytest.raises(torch.OutOfMemoryError, match=r"no memory"):
        make_case("sac", count=1).run()


def test_many_networks_take_larger_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "multiprocessors", lambda device: 132)
    cuda = torch.device("cuda")
    one, two = (launch.ensemble_rows(7 * seeds, 256, cuda) for seeds in (1, 2))
    assert one == {**launch.ROWS, "num_warps": 8}
    assert two == launch.MANY_ROWS
    assert launch.ensemble_rows(7 * 16, 256, CPU) == launch.ROWS
