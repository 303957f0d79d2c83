"""The operators against the plain PyTorch reference, and against their bare matrix products.

Every line has medians of alternating calls within one run, and in brackets their ratio to the
operator: above 1, the operator is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from compiled import compiled
from timing import alternate
from tom import ops, reference
from tom.process import keep_freed_memory

ROUNDS, SECONDS = 300, 10.0  # at most, per comparison


def compare(
    capsys: pytest.CaptureFixture[str], name: str, functions: dict[str, Callable[[], object]]
) -> None:
    """Print the median time of each function, and its ratio to the first."""
    keep_freed_memory()  # as every run does
    times = alternate(*functions.values(), rounds=ROUNDS, seconds=SECONDS)
    parts = [
        f"{label} {1e6 * t:.0f} µs ({t / times[0]:.2f})"
        for label, t in zip(functions, times, strict=True)
    ]
    with capsys.disabled():
        print(f"\n  {name}, {torch.get_num_threads()} threads: " + ", ".join(parts), end="")


# name: members, members of x, sizes, activation
NETWORKS: dict[str, tuple[int, int, list[int], str]] = {
    "SAC critics": (2, 1, [14, 256, 256, 1], "relu"),
    "SAC actor": (1, 1, [11, 256, 256, 6], "relu"),
    "dual Q": (1, 1, [14, 256, 256, 1], "relu"),
    "discriminator": (1, 1, [25, 256, 256, 1], "tanh"),
    "ensemble": (7, 7, [14, 200, 200, 200, 200, 24], "silu"),
}


def stack(
    members: int, members_of_x: int, sizes: list[int], batch: int = 256
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(1, members_of_x, batch, sizes[0])
    shapes = list(pairwise(sizes))
    weights = [(torch.randn(1, members, i, o) / i**0.5).requires_grad_() for i, o in shapes]
    biases = [torch.zeros(1, members, o).requires_grad_() for o in sizes[1:]]
    return x, weights, biases


def bare_products(
    x: Tensor, weights: list[Tensor], need_x: bool, need_parameters: bool
) -> Callable[[], None]:
    """The matrix products of one forward and backward pass, and nothing else."""
    members = weights[0].shape[1]
    flat = [w.detach()[0] for w in weights]
    inputs = [x[0].expand(members, -1, -1)]
    inputs += [torch.randn(members, x.shape[2], w.shape[2]) for w in flat]

    def run() -> None:
        for h, w in zip(inputs, flat, strict=False):
            torch.bmm(h, w)
        for layer in reversed(range(len(flat))):
            grad = inputs[layer + 1]
            if need_parameters:
                torch.bmm(inputs[layer].transpose(1, 2), grad)
            if layer > 0 or need_x:
                torch.bmm(grad, flat[layer].transpose(1, 2))

    return run


def sequential(weights: list[Tensor], biases: list[Tensor], activation: str) -> torch.nn.Module:
    """The same network, of one member, as PyTorch users write it."""
    modules: list[torch.nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        linear = torch.nn.Linear(weight.shape[2], weight.shape[3])
        linear.weight.data.copy_(weight[0, 0].T)
        linear.bias.data.copy_(bias[0, 0])
        kind = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "silu": torch.nn.SiLU}[activation]
        modules += [linear, kind()]
    return torch.nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_stacked_mlp_forward_and_backward(name, benchmark, capsys):
    members, members_of_x, sizes, activation = NETWORKS[name]
    x, weights, biases = stack(members, members_of_x, sizes)
    parameters = [*weights, *biases]

    def step(function):
        out = function(x, weights, biases, activation)
        return torch.autograd.grad(out, parameters, torch.ones_like(out))

    functions = {
        "operator": lambda: step(ops.stacked_mlp),
        "bare products": bare_products(x, weights, need_x=False, need_parameters=True),
        "reference": lambda: step(reference.stacked_mlp),
    }
    if members == 1:
        network = sequential(weights, biases, activation)
        rows = x[0, 0]

        def plain() -> object:
            out = network(rows)
            return torch.autograd.grad(out, list(network.parameters()), torch.ones_like(out))

        functions["nn.Sequential"] = plain
    compare(capsys, name, functions)
    benchmark(functions["operator"])


def test_stacked_mlp_input_gradient_only(benchmark, capsys):
    """The actor's loss through the twin critics: no gradients for the critics' parameters."""
    members, members_of_x, sizes, activation = NETWORKS["SAC critics"]
    x, weights, biases = stack(members, members_of_x, sizes)
    x.requires_grad_()

    def step(function):
        out = function(x, weights, biases, activation)
        return torch.autograd.grad(out, x, torch.ones_like(out))

    functions = {
        "operator": lambda: step(ops.stacked_mlp),
        "bare products": bare_products(x, weights, need_x=True, need_parameters=False),
        "reference": lambda: step(reference.stacked_mlp),
    }
    compare(capsys, "SAC critics, gradient of x", functions)
    benchmark(functions["operator"])


@pytest.mark.parametrize("batch", [1, 256, 10_000])
def test_stacked_mlp_inference(batch, benchmark, capsys):
    members, members_of_x, sizes, activation = NETWORKS["SAC actor"]
    x, weights, biases = stack(members, members_of_x, sizes, batch)
    network = sequential(weights, biases, activation)
    rows = x[0, 0]

    def operator() -> Tensor:
        with torch.no_grad():
            return ops.stacked_mlp(x, weights, biases, activation)

    def plain() -> Tensor:
        with torch.no_grad():
            return network(rows)

    functions = {"operator": operator, "nn.Sequential": plain}
    compare(capsys, f"SAC actor, inference, B = {batch}", functions)
    benchmark(operator)


def test_stacked_mlp_gradient_penalty(benchmark, capsys):
    members, members_of_x, sizes, activation = NETWORKS["discriminator"]
    x, weights, biases = stack(members, members_of_x, sizes)
    x.requires_grad_()

    def step(function):
        out = function(x, weights, biases, activation)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        penalty = (slope.norm(dim=-1) - 1).square().mean()
        return torch.autograd.grad(penalty, weights)

    functions = {
        "operator": lambda: step(ops.stacked_mlp),
        "reference": lambda: step(reference.stacked_mlp),
    }
    compare(capsys, "discriminator, gradient penalty", functions)
    benchmark(functions["operator"])


def nll_arguments() -> tuple[list[Tensor], list[Tensor]]:
    """Hopper's: mean, log-variance, bounds, target and delta; and of these the leaves."""
    torch.manual_seed(0)
    mean, log_var = (torch.randn(1, 7, 256, 12, requires_grad=True) for _ in range(2))
    lower = torch.full((1, 7, 12), -10.0, requires_grad=True)
    upper = torch.full((1, 7, 12), 0.5, requires_grad=True)
    leaves = [mean, log_var, lower, upper]
    return [*leaves, torch.randn(1, 7, 256, 12), torch.randn(1, 7, 256)], leaves


def test_weighted_gaussian_nll(benchmark, capsys):
    arguments, leaves = nll_arguments()

    def step(function):
        loss, _, _ = function(*arguments[:-1], delta=arguments[-1])
        return torch.autograd.grad(loss.sum(), leaves)

    functions = {
        "operator": lambda: step(ops.weighted_gaussian_nll),
        "reference": lambda: step(reference.weighted_gaussian_nll),
    }
    compare(capsys, "weighted_gaussian_nll [1, 7, 256, 12]", functions)
    benchmark(functions["operator"])


@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_weighted_gaussian_nll_beside_torch_compile(mode, benchmark, capsys):
    arguments, leaves = nll_arguments()

    def step(function):
        loss, _, _ = function(*arguments[:-1], delta=arguments[-1])
        return torch.autograd.grad(loss.sum(), leaves)

    # Both ways of use: the step as a whole, and the likelihood alone under an uncompiled step.
    fast, seconds = compiled(lambda: step(reference.weighted_gaussian_nll), mode)
    alone = torch.compile(reference.weighted_gaussian_nll, mode=mode)
    functions = {
        "operator": lambda: step(ops.weighted_gaussian_nll),
        f"torch.compile({mode}) of the reference, {seconds:.0f} s to compile,": fast,
        "of the likelihood alone": lambda: step(alone),
    }
    compare(capsys, "weighted_gaussian_nll [1, 7, 256, 12]", functions)
    benchmark(functions["operator"])


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
def test_occupancy_weights(divergence, benchmark, capsys):
    torch.manual_seed(0)
    delta = torch.randn(1, 100_000)

    functions = {
        "operator": lambda: ops.occupancy_weights(delta, divergence, 10.0),
        "reference": lambda: reference.occupancy_weights(delta, divergence, 10.0),
    }
    compare(capsys, f"occupancy_weights {divergence} [1, 100000]", functions)
    benchmark(functions["operator"])
