"""What the operators do on devices other than the CPU, as far as it can be seen without one.

There they are composed of ATen operations, which a switch makes the CPU use too; and on the `meta`
device, whose tensors hold no values, whatever would wait for a value on the host fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import tom.discriminator
import tom.dual_q
import tom.dynamics
import tom.sac
from ops_cases import ACTIVATIONS, DIVERGENCES, gaussians, network
from step_cases import KINDS, make_case, map_tensors, plain_operations
from tom.ops import occupancy_weights, stacked_mlp, weighted_gaussian_nll

TOLERANCE = 1e-9  # over 100 steps, of which each starts from the differences of the last


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _assert_near(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_training_steps_agree_with_the_cpus_kernels(kind: str) -> None:
    own = make_case(kind).run()
    with plain_operations():
        composed = make_case(kind).run()
    _assert_near(composed, own)
    # They are indeed two ways: the sums are not taken in one order.
    assert any(not torch.equal(a, b) for a, b in zip(composed, own, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_agrees(activation: Any) -> None:
    def run() -> list[torch.Tensor]:
        x, weights, biases = network((4, 8, 3))
        out = stacked_mlp(x, weights, biases, activation)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *weights, *biases])]

    own = run()
    with plain_operations():
        _assert_near(run(), own)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_weights_and_likelihood_agree(divergence: Any) -> None:
    def run() -> list[torch.Tensor]:
        output, lower, upper, target, delta = gaussians()
        mean, log_var = output.chunk(2, -1)
        result = weighted_gaussian_nll(
            mean, log_var, lower, upper, target, delta=delta, divergence=divergence
        )
        gradients = torch.autograd.grad(result[0].sum(), [output, lower, upper])
        return [*occupancy_weights(delta, divergence, 2.0), *result, *gradients]

    own = run()
    with plain_operations():
        _assert_near(run(), own)


def _on_meta(steps: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        arguments, named = map_tensors(lambda t: t.to("meta"), (arguments, named))
        return steps(*arguments, **named)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_training_steps_wait_for_no_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part, name = {
        "sac": (tom.sac, "sac_updates"),
        "dynamics": (tom.dynamics, "dynamics_steps"),
        "dual_q": (tom.dual_q, "dual_q_steps"),
        "discriminator": (tom.discriminator, "discriminator_steps"),
    }[kind]
    expected = make_case(kind, count=2).run()
    monkeypatch.setattr(part, name, _on_meta(getattr(part, name)))
    found = make_case(kind, count=2).run()
    assert found[0].is_meta
    assert [t.shape for t in found] == [t.shape for t in expected]


def test_a_value_cannot_be_read_on_meta() -> None:
    """The control of the test above."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros((), device="meta").item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device="meta")[torch.ones(3, dtype=torch.bool, device="meta")]


def test_the_switch_returns_what_was_set() -> None:
    assert torch.ops.tom.use_cpu_kernels(True) is True
    with plain_operations():
        assert torch.ops.tom.use_cpu_kernels(False) is False
    assert torch.ops.tom.use_cpu_kernels(True) is True
