"""The actor's sample and its gradient against torch.distributions' densities and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ops_cases import DEVICES, assert_near, number_of_threads
from step_cases import plain_operations

LOW, HIGH = -5.0, 2.0
SHAPES = [(1, 1, 1, 1), (2, 40, 20, 3), (1, 2050, 1025, 17), (3, 64, 64, 6)]  # S, B, B', A

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def arguments(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, spread: float
) -> Arguments:
    """The actor's output, noise, scale, centre, and the gradients; log σ beyond both bounds too."""
    seeds, batch, kept, actions = shape
    torch.manual_seed(batch)
    mean = spread * torch.randn(seeds, batch, actions)
    log_std = 8 * torch.rand(seeds, batch, actions) - 5.5
    made = (
        torch.cat([mean, log_std], 2),
        torch.randn(seeds, batch, actions),
        0.5 + torch.rand(actions),
        torch.randn(actions),
        torch.randn(seeds, kept, actions),
        torch.randn(seeds, 1, 1),
    )
    return tuple(x.to(device, dtype) for x in made)  # type: ignore[return-value]


def native(given: Arguments) -> tuple[Tensor, ...]:
    out, noise, scale, center, grad_action, grad_log_prob = given
    return torch.ops.tom_tests.squashed_gaussian(
        out, noise, scale, center, LOW, HIGH, grad_action, grad_log_prob
    )


def reference(given: Arguments) -> tuple[Tensor, ...]:
    """In float64, whatever the type: the distribution's density is a small difference."""
    dtype = given[0].dtype
    out, noise, scale, center, grad_action, grad_log_prob = (x.double() for x in given)
    out = out.clone().requires_grad_()
    mean, raw_log_std = out.chunk(2, dim=2)
    log_std = raw_log_std.clamp(LOW, HIGH)
    u = mean + log_std.exp() * noise
    action = torch.tanh(u) * scale + center
    # Two changes of variables, from the noise to u and to tanh u, whose slope is 1 / cosh² u.
    log_cosh = u.abs() + torch.log1p(torch.exp(-2 * u.abs())) - math.log(2)
    log_prob = (Normal(0.0, 1.0).log_prob(noise) - log_std + 2 * log_cosh).sum(2)
    kept = grad_action.shape[1]
    value = (action[:, :kept] * grad_action).sum()
    value = value + (log_prob[:, :kept] * grad_log_prob[:, :, 0]).sum()
    (grad,) = torch.autograd.grad(value, out)
    return tuple(x.detach().to(dtype) for x in (action, log_prob, grad[:, :kept]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spread", [1.0, 30.0])  # the second saturates tanh
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_and_gradients_equal_the_reference(
    shape: tuple[int, int, int, int], spread: float, dtype: torch.dtype, device: str
) -> None:
    given = arguments(shape, dtype, device, spread)
    expected = reference(given)
    for threads in (1, 2, 4):
        with number_of_threads(threads):
            for actual, value in zip(native(given), expected, strict=True):
                assert_near(actual, value)
    with plain_operations():  # the way of the other devices
        for actual, value in zip(native(given), expected, strict=True):
            assert_near(actual, value)


def test_the_comparison_would_notice_a_wrong_bound() -> None:
    """The control: the upper bound of log σ a thousandth higher."""
    given = arguments(SHAPES[1], torch.float32, "cpu", 1.0)
    out, noise, scale, center, *gradients = given
    other = torch.ops.tom_tests.squashed_gaussian(
        out, noise, scale, center, LOW, HIGH + 1e-3, *gradients
    )
    with pytest.raises(AssertionError):
        assert_near(other[1], reference(given)[1])


@pytest.mark.parametrize("wrong", range(6))
@pytest.mark.parametrize("how", ["shape", "type"])
def test_arguments_that_do_not_fit_are_refused(wrong: int, how: str) -> None:
    given = list(arguments(SHAPES[1], torch.float32, "cpu", 1.0))
    given[wrong] = given[wrong][..., :0] if how == "shape" else given[wrong].double()
    with pytest.raises(ValueError, match=r"squashed_gaussian: .* it must be"):
        native(tuple(given))  # type: ignore[arg-type]
