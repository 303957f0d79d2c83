"""What the tests of the operators share: devices, tolerances, and random arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ACTIVATIONS = ["relu", "tanh", "silu"]
DIVERGENCES = ["chi2", "chi2_bound", "kl"]

# Largest error allowed, relative to the largest entry of the reference's result. In float32 the
# matrix products add up in another order, and exp is good to 20 units in the last place. bfloat16
# has 8 bits, and the likelihood's gradients are differences.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}


def assert_near(actual: Tensor, expected: Tensor, condition: float = 1.0) -> None:
    """Equal within the type's tolerance times the problem's condition."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if expected.numel():
        scale = float(expected.detach().abs().max()) + 1e-6
        error = float((actual - expected).detach().abs().max())
        limit = condition * TOLERANCE[expected.dtype] * scale
        assert error <= limit, f"error {error}, scale {scale}"


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal to the last bit where products are the project's own.

    Builds for processors without AVX2 take MKL's, whose sums depend on threads and shapes.
    """
    if torch.ops.tom_tests.has_blocked_product(expected.detach()):
        assert torch.equal(actual, expected)
    else:
        assert_near(actual, expected)


@contextmanager
def number_of_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network(sizes, seeds=2, members=3, members_of_x=1, batch=5, dtype=torch.float64, device="cpu"):
    """x, weights, biases of a stack with random parameters, all of them leaves."""
    torch.manual_seed(sum(sizes) + 10 * seeds + members)

    def leaf(*shape, scale=1.0):
        values = scale * torch.randn(*shape, dtype=torch.float64)
        return values.to(device, dtype).requires_grad_()

    x = leaf(seeds, members_of_x, batch, sizes[0])
    shapes = list(pairwise(sizes))
    weights = [leaf(seeds, members, i, o, scale=max(1, i) ** -0.5) for i, o in shapes]
    biases = [leaf(seeds, members, o) for o in sizes[1:]]
    return x, weights, biases


def gaussians(
    seeds=2, members=3, sharing=1, batch=70, columns=5, dtype=torch.float64, device="cpu"
):
    """The network's output [S, M, B, 2D], the bounds, the target, and delta."""
    torch.manual_seed(batch + columns)

    def random(*shape, scale=1.0):
        return (scale * torch.randn(*shape, dtype=torch.float64)).to(device, dtype)

    output = random(seeds, members, batch, 2 * columns, scale=3.0).requires_grad_()
    lower = (random(seeds, members, columns) - 4).detach().requires_grad_()
    upper = (random(seeds, members, columns) + 1).detach().requires_grad_()
    target = random(seeds, sharing, batch, columns)
    return output, lower, upper, target, random(seeds, sharing, batch, scale=4.0)
