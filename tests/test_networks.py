"""Stacks of networks and their optimiser behave as the networks would alone."""

from __future__ import annotations

import torch
from torch import nn

from helpers import streams
from tom.networks import Adam, StackedMLP

SIZES = (3, 8, 8, 2)


def _plain(stack: StackedMLP, seed: int, member: int) -> nn.Sequential:
    """One network of a stack as an ordinary module."""
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(weight.shape[-2], weight.shape[-1])
        with torch.no_grad():
            linear.weight.copy_(weight[seed, member].T)
            linear.bias.copy_(bias[seed, member])
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def test_outputs_are_those_of_each_network() -> None:
    stack = StackedMLP(3, SIZES, "silu", streams(0, 1))
    x = torch.randn(2, 3, 5, 3)
    shared = torch.randn(2, 1, 5, 3)
    for s in range(2):
        for m in range(3):
            plain = _plain(stack, s, m)
            torch.testing.assert_close(stack(x)[s, m], plain(x[s, m]))
            torch.testing.assert_close(stack(shared)[s, m], plain(shared[s, 0]))


def test_adam_steps_every_network_as_if_alone() -> None:
    stack = StackedMLP(2, SIZES, "silu", streams(0, 1))
    plain = {(s, m): _plain(stack, s, m) for s in range(2) for m in range(2)}
    adams = {
        k: torch.optim.Adam(net.parameters(), 1e-2, weight_decay=0.1) for k, net in plain.items()
    }
    optimizer = Adam(stack, 1e-2, weight_decay=0.1)
    x, y = torch.randn(2, 2, 16, 3), torch.randn(2, 2, 16, 2)
    for _ in range(5):
        optimizer.minimise((stack(x) - y).square().mean((2, 3)).sum())
        for (s, m), net in plain.items():
            adams[s, m].zero_grad()
            (net(x[s, m]) - y[s, m]).square().mean().backward()
            adams[s, m].step()
    for (s, m), net in plain.items():
        torch.testing.assert_close(stack(x)[s, m], net(x[s, m]), rtol=1e-4, atol=1e-5)


def test_parameters_are_views_of_one_vector() -> None:
    stack = StackedMLP(2, SIZES, "tanh", streams(0))
    assert sum(p.numel() for p in stack.parameters) == stack.flat.numel()
    stack.flat.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in stack.parameters)


def test_a_seeds_initialisation_does_not_depend_on_its_neighbours() -> None:
    alone, together = (
        StackedMLP(2, SIZES, "relu", streams(4)),
        StackedMLP(2, SIZES, "relu", streams(1, 4)),
    )
    assert torch.equal(alone.per_seed(alone.flat)[0], together.per_seed(together.flat)[1])


def test_normal_initialisation_is_truncated_with_the_stated_deviation() -> None:
    stack = StackedMLP(1, (400, 400, 1), "silu", streams(0), init="normal")
    weight, unit = stack.weights[0], 1 / (2 * 400**0.5)
    assert weight.abs().max().item() <= 2 * unit * (1 + 1e-5)
    # A standard normal truncated at ±2 has a standard deviation of 0.8796.
    assert abs(weight.std().item() / unit - 0.8796) < 0.005
    assert stack.biases[0].abs().max().item() == 0


def test_state_round_trips_and_training_continues_exactly() -> None:
    def step(stack: StackedMLP, optimizer: Adam) -> None:
        optimizer.minimise(stack(torch.ones(2, 2, 4, 3)).square().sum())

    first = StackedMLP(2, SIZES, "relu", streams(0, 1), extra={"low": ((2,), -1.0)})
    first_adam = Adam(first, 1e-2)
    step(first, first_adam)
    second = StackedMLP(2, SIZES, "relu", streams(2, 3), extra={"low": ((2,), 0.0)})
    second_adam = Adam(second, 1e-2)
    second.load_state_dict(first.state_dict())
    second_adam.load_state_dict(first_adam.state_dict())
    assert torch.equal(first.flat, second.flat)
    step(first, first_adam)
    step(second, second_adam)
    assert torch.equal(first.flat, second.flat)


def test_a_reset_optimiser_is_a_fresh_one() -> None:
    stack = StackedMLP(1, SIZES, "relu", streams(0))
    used, fresh = Adam(stack, 1e-3), Adam(stack, 1e-3)
    used.minimise(stack(torch.ones(1, 1, 4, 3)).square().sum())
    used.reset()
    for mine, other in zip(used.trained[2:], fresh.trained[2:], strict=True):
        assert torch.equal(mine, other)
