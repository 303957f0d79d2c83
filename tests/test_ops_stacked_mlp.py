"""stacked_mlp against its plain PyTorch reference: values, gradients, registration, errors."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ops_cases import (
    ACTIVATIONS,
    DEVICES,
    assert_near,
    assert_same_bits,
    network,
    number_of_threads,
)
from tom import ops, reference


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    with number_of_threads(request.param):
        yield request.param


class CalledOperators(TorchDispatchMode):
    """Records the operators of the namespace that are called, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "tom":
            self.calls.append((func.__name__.removesuffix(".default"), args))
        return func(*args, **(kwargs or {}))


def compare_networks(x, weights, biases, activation):
    inputs = [x, *weights, *biases]
    out = ops.stacked_mlp(x, weights, biases, activation)
    expected = reference.stacked_mlp(x, weights, biases, activation)
    assert_near(out, expected)
    assert out.is_contiguous()
    grad_out = torch.randn_like(expected)
    gradients = torch.autograd.grad(out, inputs, grad_out)
    for actual, wanted in zip(
        gradients, torch.autograd.grad(expected, inputs, grad_out), strict=True
    ):
        assert_near(actual, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("seeds", "members", "members_of_x"),
    [(1, 1, 1), (1, 2, 1), (1, 2, 2), (3, 1, 1), (3, 2, 1), (3, 2, 2)],
)
def test_stacked_mlp_equals_its_reference(
    seeds, members, members_of_x, activation, dtype, device, threads
):
    for sizes in [[14, 64, 40, 1], [5, 17, 6], [4, 3]]:
        compare_networks(
            *network(sizes, seeds, members, members_of_x, 150, dtype, device), activation
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_types_without_a_kernel_are_composed_of_aten_operations(activation, device):
    compare_networks(*network([14, 64, 40, 1], dtype=torch.bfloat16, device=device), activation)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    seeds=st.integers(1, 3),
    members=st.integers(1, 3),
    share=st.booleans(),
    batch=st.integers(0, 300),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_stacked_mlp_of_any_shape(sizes, seeds, members, share, batch, activation):
    members_of_x = 1 if share else members
    compare_networks(*network(sizes, seeds, members, members_of_x, batch), activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_on_slices_of_longer_rows_and_expanded_gradients(activation):
    _, weights, biases = network([6, 20, 3], batch=70)
    rows = torch.randn(2, 1, 70, 11, dtype=torch.float64)
    out = ops.stacked_mlp(rows[..., 2:8], weights, biases, activation)
    expected = reference.stacked_mlp(rows[..., 2:8], weights, biases, activation)
    assert_near(out, expected)
    # mean() sends an expanded scalar back.
    actual = torch.autograd.grad(out.mean(), weights)
    for a, b in zip(actual, torch.autograd.grad(expected.mean(), weights), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_gradcheck_and_gradgradcheck(activation):
    # float64 samples lie further from ReLU's kink than the checks' step of 1e-6.
    x, weights, biases = network([3, 4, 5, 2], seeds=2, members=2, batch=3)
    layers = len(weights)

    def function(x, *parameters):
        return ops.stacked_mlp(x, parameters[:layers], parameters[layers:], activation)

    hidden = x @ weights[0] + biases[0].unsqueeze(2)
    assert hidden.abs().min() > 1e-4
    assert torch.autograd.gradcheck(function, (x, *weights, *biases))
    assert torch.autograd.gradgradcheck(function, (x, *weights, *biases))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_derivative_in_a_direction(activation):
    x, weights, biases = network([3, 4, 5, 2], seeds=2, members=2, batch=3)
    layers = len(weights)
    inputs = [t.detach() for t in (x, *weights, *biases)]
    for which in ([True] * len(inputs), [n == 2 for n in range(len(inputs))]):
        chosen = [t for t, wanted in zip(inputs, which, strict=True) if wanted]
        directions = tuple(torch.randn_like(t) for t in chosen)

        def function(operator, *given, which=which):
            given = iter(given)
            all_ = [next(given) if wanted else t for t, wanted in zip(inputs, which, strict=True)]
            return operator(all_[0], all_[1 : 1 + layers], all_[1 + layers :], activation)

        found, expected = (
            torch.func.jvp(functools.partial(function, operator), tuple(chosen), directions)
            for operator in (ops.stacked_mlp, reference.stacked_mlp)
        )
        for a, b in zip(found, expected, strict=True):
            assert_near(a, b)
        assert found[1].abs().max() > 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_layer_of_no_units_passes_on_nothing(activation):
    for sizes in ([3, 0, 2], [3, 40, 0, 2]):
        x, weights, biases = network(sizes, dtype=torch.float32)
        torch.full((1 << 16,), 7.0)  # what memory might hold
        out = ops.stacked_mlp(x, weights, biases, activation)
        assert torch.equal(out, biases[-1].unsqueeze(2).expand_as(out))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stacked_mlp_gradient_penalty_equals_its_reference(activation):
    x, weights, biases = network([6, 32, 32, 1], members=1, batch=64)
    results = []
    for function in (ops.stacked_mlp, reference.stacked_mlp):
        out = function(x, weights, biases, activation)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = out.mean() + 10 * (slope.norm(dim=-1) - 1).square().mean()
        results.append(torch.autograd.grad(loss, [*weights, *biases], allow_unused=True))
    for actual, expected in zip(*results, strict=True):
        assert_near(actual, expected)


def test_stacked_mlp_computes_only_the_gradients_asked_for():
    x, weights, biases = network([3, 8, 8, 1])
    out = ops.stacked_mlp(x, weights, biases, "relu")
    for inputs, need_x, need_parameters in [
        ([x], True, False),
        (weights, False, True),
        ([x, biases[1]], True, True),
    ]:
        with CalledOperators() as called:
            torch.autograd.grad(out.sum(), inputs, retain_graph=True)
        ((name, args),) = called.calls
        assert name == "stacked_mlp_backward"
        assert args[-2:] == (need_x, need_parameters)


def test_stacked_mlp_without_gradients_saves_nothing():
    x, weights, biases = network([3, 8, 1])
    with torch.no_grad():
        assert not ops.stacked_mlp(x, weights, biases, "tanh").requires_grad
    with torch.inference_mode():
        assert_near(
            ops.stacked_mlp(x, weights, biases, "tanh"),
            reference.stacked_mlp(x, weights, biases, "tanh"),
        )
    detached = [[t.detach() for t in group] for group in ([x], weights, biases)]
    assert not ops.stacked_mlp(detached[0][0], *detached[1:], "tanh").requires_grad


def test_stacked_mlp_relu_keeps_nan_visible():
    x, weights, biases = network([3, 8, 1])
    with torch.no_grad():
        x[0, 0, 2, 1] = math.nan
        out = ops.stacked_mlp(x, weights, biases, "relu")
    assert out[0, :, 2].isnan().all()
    assert out.isnan().sum() == out.shape[1]


def test_stacked_mlp_under_torch_compile():
    x, weights, biases = network([3, 8, 8, 2])

    def loss(x):
        return ops.stacked_mlp(x, weights, biases, "silu").square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    inputs = [x, *weights]
    actual = torch.autograd.grad(compiled(x), inputs)
    for a, b in zip(actual, torch.autograd.grad(loss(x), inputs), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("members_of_x", [1, 3])
def test_opcheck_stacked_mlp(members_of_x, activation, device):
    x, weights, biases = network([3, 20, 20, 1], members_of_x=members_of_x, device=device)
    torch.library.opcheck(torch.ops.tom.stacked_mlp.default, (x, weights, biases, activation))

    x, *groups = x.detach(), [w.detach() for w in weights], [b.detach() for b in biases]
    forward = torch.ops.tom.stacked_mlp_forward.default
    for save in (False, True):
        torch.library.opcheck(forward, (x, *groups, activation, save))
    out, saved = forward(x, *groups, activation, True)
    for needs in [(True, True), (True, False), (False, True)]:
        torch.library.opcheck(
            torch.ops.tom.stacked_mlp_backward.default,
            (torch.ones_like(out), x, groups[0], saved, activation, *needs),
        )


X, WEIGHTS, BIASES = (
    torch.zeros(2, 1, 5, 3),
    [torch.zeros(2, 3, 3, 4), torch.zeros(2, 3, 4, 1)],
    [torch.zeros(2, 3, 4), torch.zeros(2, 3, 1)],
)


@pytest.mark.parametrize(
    ("x", "weights", "biases", "activation", "message"),
    [
        (X, WEIGHTS, BIASES, "gelu", "activation 'gelu' is unknown; use 'relu', 'tanh' or 'silu'"),
        (X[0], WEIGHTS, BIASES, "relu", r"x has shape \[1, 5, 3\]; it must be \[S, M, B, I\]"),
        (X.long(), WEIGHTS, BIASES, "relu", "x is Long; it must be of a floating-point type"),
        (X.double(), WEIGHTS, BIASES, "relu", "layer 0 are Float on cpu, but x is Double on cpu"),
        (X, [], [], "relu", "got 0 weights and 0 biases"),
        (X, WEIGHTS, BIASES[:1], "relu", "got 2 weights and 1 biases"),
        (X[:1], WEIGHTS, BIASES, "relu", r"weights\[0\] has shape .* S = 1 as in x"),
        (X[..., :2], WEIGHTS, BIASES, "relu", r"weights\[0\] has shape .* in = 2"),
        (X, WEIGHTS[:1] * 2, BIASES, "relu", r"weights\[1\] has shape .* in = 4"),
        (X, WEIGHTS, BIASES[:1] * 2, "relu", r"biases\[1\] has shape \[2, 3, 4\]"),
        (X, [WEIGHTS[0], WEIGHTS[1][:, :1]], [BIASES[0], BIASES[1][:, :1]], "relu", "same M"),
        (X[:, :1], [w[:, :0] for w in WEIGHTS], [b[:, :0] for b in BIASES], "relu", "M >= 1"),
        (X.expand(2, 2, 5, 3), WEIGHTS, BIASES, "relu", "x has M = 2 and the weights have M = 3"),
    ],
)
def test_stacked_mlp_bad_input(x, weights, biases, activation, message):
    with pytest.raises(ValueError, match=message):
        ops.stacked_mlp(x, weights, biases, activation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": []}, "got 0 weights and 1 saved tensors"),
        ({"saved": []}, "got 2 weights and 0 saved tensors"),
        ({"saved": [torch.zeros(2, 3, 5, 4)] * 2}, "2 saved tensors; .* for these weights 1"),
        ({"saved": [torch.zeros(2, 3, 5, 4).double()]}, r"saved\[0\] is Double .* must be Float"),
        ({"saved": [torch.zeros(2, 3, 5, 4).bfloat16()]}, r"saved\[0\] is BFloat16"),
        ({"weights": [WEIGHTS[0], WEIGHTS[1].double()]}, r"weights\[1\] is Double on cpu"),
        ({"x": X.long()}, "x is Long; it must be of a floating-point type"),
        ({"grad_out": torch.zeros(2, 3, 5, 1).double()}, "grad_out is Double on cpu; .* Float on"),
        ({"saved": [torch.zeros(2, 3, 5, 3)]}, r"saved\[0\] has shape .* must be \[2, 3, 5, 4\]"),
        ({"x": X[..., :2]}, r"weights\[0\] has shape"),
        ({"x": X[0]}, r"weights\[0\] has shape"),
        ({"x": X[:, :1], "weights": [w[:, :0] for w in WEIGHTS]}, "with M >= 1"),
        ({"grad_out": torch.zeros(2, 3, 4, 2)}, "grad_out has shape"),
    ],
)
def test_a_way_back_that_does_not_fit_is_refused(change, message):
    """Autograd never makes such a call; the operator is in reach of everybody."""
    out, saved = torch.ops.tom.stacked_mlp_forward(X, WEIGHTS, BIASES, "relu", True)
    given = {"grad_out": torch.ones_like(out), "x": X, "weights": WEIGHTS, "saved": saved}
    back = torch.ops.tom.stacked_mlp_backward
    assert len(back(*given.values(), "relu", True, True)) == 5
    with pytest.raises(ValueError, match=message):
        back(*{**given, **change}.values(), "relu", True, True)


def test_a_way_back_through_silu_needs_what_silu_saves():
    """The slope of each layer beside its value, each in the type that its reader wants."""
    _, saved = torch.ops.tom.stacked_mlp_forward(X, WEIGHTS, BIASES, "silu", True)
    grad_out, back = torch.ones(2, 3, 5, 1), torch.ops.tom.stacked_mlp_backward
    assert len(back(grad_out, X, WEIGHTS, saved, "silu", True, True)) == 5
    with pytest.raises(ValueError, match=r"1 saved tensors; .* for these weights 2"):
        back(grad_out, X, WEIGHTS, saved[:1], "silu", True, True)
    with pytest.raises(ValueError, match=r"saved\[1\] is Double on cpu; it must be Float on cpu"):
        back(grad_out, X, WEIGHTS, [saved[0], saved[1].double()], "silu", True, True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_was_saved_may_lie_in_memory_in_any_order(activation):
    x, weights, biases = network([3, 20, 20, 1])
    x, *groups = x.detach(), [w.detach() for w in weights], [b.detach() for b in biases]
    out, saved = torch.ops.tom.stacked_mlp_forward(x, *groups, activation, True)
    turned = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in saved]
    results = [
        torch.ops.tom.stacked_mlp_backward(
            torch.ones_like(out), x, groups[0], given, activation, True, True
        )
        for given in (saved, turned)
    ]
    for one, other in zip(*results, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("members", "members_of_x"), [(1, 1), (3, 1), (3, 3)])
def test_many_rows_without_gradients(members, members_of_x, activation, dtype):
    """Blocks of rows go through all layers at once, with the same bits for every such split."""
    for sizes in [[14, 64, 40, 1], [5, 17, 6], [4, 33]]:
        x, weights, biases = network(sizes, 2, members, members_of_x, 700, dtype)
        wider = torch.cat([x.detach(), x.detach()], dim=-1)
        results = []
        with torch.no_grad():
            for threads in [1, 2, 4]:
                with number_of_threads(threads):
                    results.append(ops.stacked_mlp(x, weights, biases, activation))
            sliced = ops.stacked_mlp(wider[..., : sizes[0]], weights, biases, activation)
            few = ops.stacked_mlp(x[:, :, 300:310], weights, biases, activation)
        assert_near(results[0], reference.stacked_mlp(x, weights, biases, activation).detach())
        for result in [*results[1:], sliced]:
            assert_same_bits(result, results[0])
        assert_near(few, results[0][:, :, 300:310])
