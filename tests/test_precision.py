"""bfloat16 products: the native steps against a slow reference that rounds at the same places.

The reference computes in float32 and rounds explicitly. Its sums have another order, so that now
and then a number near the middle of two neighbours is rounded the other way: most numbers agree to
float32's digits, and those few to bfloat16's. One difference is meant: the native way back takes
the slope of tanh from the rounded value, and rounds the stored slope of SiLU.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import streams
from ops_cases import ACTIVATIONS, DEVICES, network, number_of_threads
from step_cases import plain_operations
from tom import networks, ops, reference, train
from tom.config import (
    Config,
    ConfigError,
    DiscriminatorConfig,
    DualQConfig,
    DynamicsConfig,
    SACConfig,
)
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.names import Precision
from tom.precision import check_precision, use_precision
from tom.rows import RowLayout
from tom.run_folder import RunFolder
from tom.sac import SAC
from tom.settings import from_dict, to_dict

LAYOUT, SEEDS, BATCH = RowLayout(5, 2), (0, 1), 64
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def mixed_network(
    sizes: list[int], device: str = "cpu", **shape: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """x, weights and biases as a bf16 stack hands them to its products."""
    x, weights, biases = network(sizes, dtype=torch.float32, device=device, **shape)
    between = range(1, len(weights) - 1)
    weights = [w.bfloat16() if i in between else w for i, w in enumerate(weights)]
    return x, [w.detach().requires_grad_() for w in weights], biases


def passes(
    function: Callable[..., Tensor],
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    act: str,
) -> list[Tensor]:
    """The output and all gradients of a fixed sum of it."""
    out = function(x, weights, biases, act)
    seed = torch.sin(torch.arange(out.numel(), device=out.device)).view_as(out)
    return [out, *torch.autograd.grad(out, [x, *weights, *biases], seed)]


def mean_error(actual: Tensor, expected: Tensor) -> float:
    """Mean absolute error in units of the mean absolute value."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).abs().mean() / expected.abs().mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "sizes", [[7, 64, 48, 3], [7, 40, 40, 40, 40, 12], [7, 20, 5, 1], [7, 16, 1], [7, 16, 1, 8, 3]]
)
def test_mixed_stacks_round_where_the_reference_does(
    sizes: list[int], threads: int, activation: str, device: str
) -> None:
    x, weights, biases = mixed_network(sizes, device, batch=150)
    with number_of_threads(threads):
        actual = passes(ops.stacked_mlp, x, weights, biases, activation)
    expected = passes(reference.stacked_mlp, x, weights, biases, activation)
    for a, b in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert mean_error(a, b) < (1e-3 if activation == "relu" else 1.5e-2)
        assert (a - b).abs().max() <= 0.03 * b.abs().max() + 1e-6


def tanh_everywhere(between: torch.dtype) -> tuple[Tensor, Tensor]:
    """The operator's tanh from the tiny to the infinite, and the exact one."""
    size = torch.cat([torch.logspace(-30, 3, 40_003), torch.tensor([0.0, torch.inf, torch.nan])])
    x = torch.cat([size, -size]).view(1, 1, -1, 1)
    one = torch.ones(1, 1, 1, 1)
    weights, biases = [one, one.to(between), one], [torch.zeros(1, 1, 1)] * 3
    _, (found, *_) = torch.ops.tom.stacked_mlp_forward(x, weights, biases, "tanh", True)
    assert found.dtype == between
    return found, torch.tanh(x.double())


def test_tanh_is_exact_to_two_units_in_the_last_place() -> None:
    found, expected = tanh_everywhere(torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=2**-22, atol=1e-37, equal_nan=True)
    assert found.nan_to_num().abs().max() == 1


def test_tanh_is_rounded_to_the_nearest_bfloat16() -> None:
    found, expected = tanh_everywhere(torch.bfloat16)
    torch.testing.assert_close(
        found.double(), expected, rtol=2**-8 + 1e-5, atol=1e-37, equal_nan=True
    )
    assert (found == expected.bfloat16()).double().mean() > 0.99


def test_the_comparison_would_notice_a_missing_rounding() -> None:
    """The control: the same network in float32 is five times as far from the reference."""
    x, weights, biases = mixed_network([7, 40, 40, 40, 40, 12], batch=150)
    expected = passes(reference.stacked_mlp, x, weights, biases, "relu")
    actual = passes(ops.stacked_mlp, x, weights, biases, "relu")
    wide = [w.detach().float().requires_grad_() for w in weights]
    unrounded = passes(ops.stacked_mlp, x, wide, biases, "relu")
    error, error_without = (
        sum(mean_error(a, b) for a, b in zip(results, expected, strict=True))
        for results in (actual, unrounded)
    )
    assert error_without > 5 * error


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_opcheck_of_mixed_stacks(activation: str) -> None:
    x, weights, biases = mixed_network([3, 20, 20, 1])
    torch.library.opcheck(torch.ops.tom.stacked_mlp.default, (x, weights, biases, activation))
    x, weights, biases = x.detach(), [w.detach() for w in weights], [b.detach() for b in biases]
    forward = torch.ops.tom.stacked_mlp_forward.default
    for save in (False, True):
        torch.library.opcheck(forward, (x, weights, biases, activation, save))
    out, saved = forward(x, weights, biases, activation, True)
    torch.library.opcheck(
        torch.ops.tom.stacked_mlp_backward.default,
        (torch.ones_like(out), x, weights, saved, activation, True, True),
    )


class Kind:
    """One kind of training steps, in some precision: native, or by autograd."""

    def __init__(self, kind: str, precision: Precision, count: int = 100) -> None:
        torch.manual_seed(0)
        self.steps, self.step, inputs, self.flat = getattr(self, kind)(precision)
        self.inputs = tuple(part[:count] for part in inputs)
        self.start = self.flat().clone()

    def moved(self) -> Tensor:
        """How far the parameters have come."""
        return self.flat() - self.start

    def native(self) -> Tensor:
        self.steps(*self.inputs)
        return self.moved()

    def autograd(self) -> Tensor:
        for batch in zip(*self.inputs, strict=True):
            self.step(*batch)
        return self.moved()

    def sac(self, precision: Precision) -> Any:
        config = SACConfig(hidden=(64, 48), tau=0.05)
        low, high = torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 5.0])
        made = SAC(LAYOUT, low, high, config, 0.99, streams(*SEEDS), precision=precision)
        rows = torch.randn(100, len(SEEDS), BATCH, LAYOUT.width)
        rows[..., LAYOUT.terminated] = (torch.rand(rows.shape[:3]) < 0.2).float()
        inputs = rows, torch.randn(100, len(SEEDS), 2 * BATCH, 2)
        stacks = made.actor, made.critic, made.target
        flat = lambda: torch.cat([stack.flat.detach() for stack in stacks])  # noqa: E731
        return made._native_updates, made._update, inputs, flat

    def dynamics(self, precision: Precision) -> Any:
        config = DynamicsConfig(members=3, hidden=(40, 40, 40, 40))
        made = DynamicsEnsemble(LAYOUT, config, "loss", streams(*SEEDS), precision=precision)
        shape = (100, len(SEEDS), 3, BATCH)
        inputs = torch.randn(*shape, 7), torch.randn(*shape, 6), torch.rand(*shape)
        return made._native_steps, made._step, inputs, made.network.flat.detach

    def dual_q(self, precision: Precision) -> Any:
        config = DualQConfig(hidden=(64, 48))
        made = DualQ(LAYOUT, DIVERGENCES["chi2"], config, 0.9, streams(*SEEDS), precision=precision)
        shape = (100, len(SEEDS), BATCH)
        go_on = (torch.rand(*shape) < 0.8).float()
        inputs = torch.randn(100, len(SEEDS), 3 * BATCH, 7), torch.randn(*shape), go_on
        return made._native_steps, made._step, inputs, made.network.flat.detach

    def discriminator(self, precision: Precision) -> Any:
        made = Discriminator(
            12, DiscriminatorConfig(hidden=(64, 44)), streams(*SEEDS), precision=precision
        )
        shape = (100, len(SEEDS), BATCH)
        inputs = torch.randn(*shape, 12), torch.randn(*shape, 12) + 1, torch.rand(*shape, 1)

        def step(*batch: Tensor) -> Tensor:
            return made._steps(*(part.unsqueeze(0) for part in batch))

        return made._native_steps, step, inputs, made.network.flat.detach


def distance(a: Tensor, b: Tensor) -> float:
    """Between two movements, in units of their length."""
    return float((a - b).norm() / b.norm())


# Largest distance allowed after 100 updates. The same steps in float32 come to 0.006 (SAC) and 0.07
# (dual Q) from the reference; with the tanh and SiLU networks' small movements rounding matters
# less than the 2 % of the second control.
TOLERANCE = {"sac": 2e-3, "dynamics": 1e-2, "dual_q": 5e-3, "discriminator": 2e-3}


def expected_movement(kind: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """By autograd through the reference."""
    with monkeypatch.context() as patch:
        patch.setattr(networks, "stacked_mlp", reference.stacked_mlp)
        return Kind(kind, "bf16").autograd()


@pytest.mark.parametrize("kind", TOLERANCE)
def test_native_steps_follow_the_reference_over_100_updates(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = expected_movement(kind, monkeypatch)
    assert distance(Kind(kind, "bf16").native(), expected) < TOLERANCE[kind]
    with plain_operations():  # the way of the other devices
        assert distance(Kind(kind, "bf16").native(), expected) < TOLERANCE[kind]
    assert distance(Kind(kind, "bf16").autograd(), expected) < TOLERANCE[kind]


@pytest.mark.parametrize("kind", TOLERANCE)
def test_steps_have_the_same_bits_for_every_number_of_threads(kind: str) -> None:
    if not torch.ops.tom_tests.has_blocked_product(torch.zeros(1, dtype=torch.bfloat16)):
        pytest.skip("this build takes oneDNN's products, whose sums depend on threads")
    one = Kind(kind, "bf16", 10).native()
    for threads in (2, 3):
        with number_of_threads(threads):
            assert torch.equal(Kind(kind, "bf16", 10).native(), one)


@pytest.mark.parametrize("kind", ["sac", "dual_q"])
def test_steps_without_rounding_would_be_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: float32 is further from the reference than is allowed."""
    expected = expected_movement(kind, monkeypatch)
    assert distance(Kind(kind, "fp32").native(), expected) > 2 * TOLERANCE[kind]


@pytest.mark.parametrize("kind", TOLERANCE)
def test_steps_two_percent_longer_would_be_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other control."""
    expected = expected_movement(kind, monkeypatch)
    assert distance(1.02 * Kind(kind, "bf16").native(), expected) > 1.5 * TOLERANCE[kind]


def test_unknown_names_and_other_types_are_refused() -> None:
    made = DualQ(LAYOUT, DIVERGENCES["chi2"], DualQConfig(), 0.9, streams(0))
    made.network.precision = "fp16"  # type: ignore[assignment]
    inputs = torch.zeros(1, 1, 3, 7), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    before = made.network.flat.clone()
    with pytest.raises(
        ValueError, match="precision 'fp16' is unknown; use 'fp32', 'tf32' or 'bf16'"
    ):
        made._native_steps(*inputs)
    assert torch.equal(made.network.flat, before)
    x, weights, biases = network([3, 4, 4, 1])  # float64
    with pytest.raises(ValueError, match="weights may be BFloat16 where the rest is Float"):
        ops.stacked_mlp(x, [weights[0], weights[1].bfloat16(), weights[2]], biases, "relu")


@contextmanager
def without_bfloat16_instructions() -> Iterator[None]:
    """As where a build has come from a processor that has them to one that lacks them."""
    before = torch.ops.tom_tests.use_bfloat16_kernels(False)
    try:
        yield
    finally:
        torch.ops.tom_tests.use_bfloat16_kernels(before)


LACKING = "on a processor without the AVX512-BF16 instructions that tom was built to; use float32"


@pytest.mark.parametrize("kind", TOLERANCE)
def test_native_steps_are_refused_before_an_instruction_that_the_processor_lacks(
    kind: str,
) -> None:
    with without_bfloat16_instructions():
        made = Kind(kind, "bf16", count=1)
        with pytest.raises(ValueError, match=f"precision bf16 was given {LACKING}"):
            made.native()
        assert not made.moved().any()
        with plain_operations():  # ATen knows for itself what the processor has
            made.native()
        Kind(kind, "fp32", count=1).native()
    assert made.moved().any()


def test_operators_take_no_instruction_that_the_processor_lacks() -> None:
    x, weights, biases = mixed_network([3, 20, 20, 1])
    out, saved = torch.ops.tom.stacked_mlp_forward(x, weights, biases, "silu", True)
    a, b = torch.randn(1, 2, 30, 20).bfloat16(), torch.randn(1, 2, 20, 40).bfloat16()
    product = torch.ops.tom_tests.member_product(a, b)
    with without_bfloat16_instructions():
        with pytest.raises(ValueError, match=f"bfloat16 weights were given {LACKING}"):
            ops.stacked_mlp(x, weights, biases, "silu")
        with pytest.raises(ValueError, match=f"bfloat16 weights were given {LACKING}"):
            torch.ops.tom.stacked_mlp_backward(
                torch.ones_like(out), x, weights, saved, "silu", True, True
            )
        assert not torch.ops.tom_tests.has_blocked_product(a)
        other = torch.ops.tom_tests.member_product(a, b)  # ATen's
    torch.testing.assert_close(other, product)


def lacks_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))


def test_devices_that_have_it_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for device in (CPU, CUDA):
        check_precision("bf16", device)
    check_precision("tf32", CUDA)


def test_devices_that_lack_it_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks_bfloat16(monkeypatch)
    check_precision("fp32", CPU)
    with pytest.raises(ConfigError, match="precision: given 'bf16', allowed is fp32 on this proc"):
        check_precision("bf16", CPU)
    with pytest.raises(ConfigError, match="precision: given 'bf16', allowed is fp32 on this GPU"):
        check_precision("bf16", CUDA)
    with pytest.raises(ConfigError, match="precision: given 'tf32', allowed is fp32 on this GPU"):
        check_precision("tf32", CUDA)
    with pytest.raises(ConfigError, match="precision: given 'tf32', allowed are fp32 and bf16 on"):
        check_precision("tf32", CPU)


def test_torch_is_told_whether_tf32_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        use_precision("tf32", CUDA)
        assert torch.backends.cuda.matmul.allow_tf32
        use_precision("fp32", CPU)  # which is nothing to a GPU
        assert torch.backends.cuda.matmul.allow_tf32
        use_precision("fp32", CUDA)
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_tf32_is_as_float32_on_a_processor() -> None:
    """What a GPU's matrix units do with the factors is not the operators' matter."""
    found, expected = Kind("sac", "tf32", 3), Kind("sac", "fp32", 3)
    torch.testing.assert_close(found.native(), expected.native(), rtol=0, atol=0)


def test_the_command_refuses_it_in_one_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks_bfloat16(monkeypatch)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match="2"):
        train.main(["--preset", "debug", "--precision", "bf16", "--run-dir", str(folder)])
    error = capsys.readouterr().err
    assert error.startswith("error: precision: given 'bf16', allowed is fp32 on this processor")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_run_keeps_its_precision(tmp_path: Path) -> None:
    config = Config(precision="bf16", run_dir=str(tmp_path / "run"))
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config
    RunFolder.open(config)
    with pytest.raises(ConfigError, match=r"precision: given fp32, but .* holds a run with bf16"):
        RunFolder.open(dataclasses.replace(config, precision="fp32"))
