"""The fused step of Adam against torch.optim.Adam, and the average that follows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ops_cases import DEVICES, assert_near, number_of_threads
from step_cases import plain_operations

RATE, DECAY, FOLLOW = 1e-2, 0.1, 0.3
SIZES = [1, 17, 1000, 70_001]  # the last is shared out among threads
STEPS = 5


def native(size: int, dtype: torch.dtype, device: str, decay: float = DECAY) -> list[Tensor]:
    """Parameters, moments, counter and average after some steps."""
    torch.manual_seed(size)
    flat, average = torch.randn(2, size, dtype=torch.float64).to(device, dtype)
    gradient, exp_avg, exp_avg_sq = (torch.zeros_like(flat) for _ in range(3))
    step = torch.zeros((), dtype=torch.float32, device=device)
    for _ in range(STEPS):
        gradient.copy_(torch.randn(size, dtype=torch.float64))
        torch.ops.tom_tests.adam_step(
            [flat, gradient, exp_avg, exp_avg_sq, step], average, RATE, decay, FOLLOW
        )
    return [flat, exp_avg, exp_avg_sq, step, average]


def plain(size: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    torch.manual_seed(size)
    start, average = torch.randn(2, size, dtype=torch.float64).to(device, dtype)
    flat = start.clone().requires_grad_()
    adam = torch.optim.Adam([flat], lr=RATE, weight_decay=DECAY, foreach=False)
    for _ in range(STEPS):
        flat.grad = torch.randn(size, dtype=torch.float64).to(device, dtype)
        adam.step()
        average += FOLLOW * (flat.detach() - average)
    state = adam.state[flat]
    step = state["step"].to(device)
    return [flat.detach(), state["exp_avg"], state["exp_avg_sq"], step, average]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", SIZES)
def test_steps_are_those_of_torch(size: int, dtype: torch.dtype, device: str) -> None:
    expected = plain(size, dtype, device)
    for threads in (1, 2, 4):
        with number_of_threads(threads):
            for actual, value in zip(native(size, dtype, device), expected, strict=True):
                assert_near(actual, value)
    with plain_operations():  # the way of the other devices
        for actual, value in zip(native(size, dtype, device), expected, strict=True):
            assert_near(actual, value)


def test_long_vectors_elsewhere_are_not_cut_into_pieces() -> None:
    size = 36 * 65_536 + 5
    with plain_operations():
        actual = native(size, torch.float32, "cpu")
    for found, value in zip(actual, plain(size, torch.float32, "cpu"), strict=True):
        assert_near(found, value)


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    one = native(SIZES[-1], torch.float32, "cpu")
    for threads in (2, 3):
        with number_of_threads(threads):
            other = native(SIZES[-1], torch.float32, "cpu")
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_another_weight_decay_would_be_noticed() -> None:
    """The control: one of 0.101 instead of 0.1."""
    other = native(1000, torch.float32, "cpu", decay=1.01 * DECAY)[0]
    with pytest.raises(AssertionError):
        assert_near(other, plain(1000, torch.float32, "cpu")[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda trained: trained[:4], "has 4 tensors"),
        (lambda trained: [trained[0], trained[1][:2], *trained[2:]], "contiguous vectors"),
        (lambda trained: [trained[0], trained[1].double(), *trained[2:]], "contiguous vectors"),
        (lambda trained: [*trained[:4], trained[4].double()], "must be a float32 scalar"),
        (
            lambda trained: [*trained[:4], trained[4].to("meta")],
            "on meta; .* float32 scalar on cpu",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[list[Tensor]], list[Tensor]], words: str
) -> None:
    trained = [*torch.zeros(4, 3), torch.zeros(())]
    with pytest.raises(ValueError, match=words):
        torch.ops.tom_tests.adam_step(change(trained), torch.zeros(3), RATE, DECAY, FOLLOW)


@pytest.mark.parametrize("average", [torch.zeros(2), torch.zeros(3, dtype=torch.float64)])
def test_an_average_that_does_not_fit_is_refused(average: Tensor) -> None:
    with pytest.raises(ValueError, match=r"average .* must be as the parameters"):
        torch.ops.tom_tests.adam_step(
            [*torch.zeros(4, 3), torch.zeros(())], average, RATE, DECAY, FOLLOW
        )
