"""weighted_gaussian_nll against its plain PyTorch reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_cases import DEVICES, DIVERGENCES, assert_near, gaussians, number_of_threads
from tom import ops, reference


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    with number_of_threads(request.param):
        yield request.param


def compare_nll(output, lower, upper, target, condition=1.0, **weighting):
    results = []
    for function in (ops.weighted_gaussian_nll, reference.weighted_gaussian_nll):
        loss, ess, clipped = function(*output.chunk(2, dim=-1), lower, upper, target, **weighting)
        grad_out = torch.linspace(0.5, 1.5, loss.numel()).view(loss.shape).to(loss)
        gradients = torch.autograd.grad(loss, [output, lower, upper], grad_out)
        results.append([loss, ess, clipped, *gradients])
    for actual, expected in zip(*results, strict=True):
        assert_near(actual, expected, condition)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weighting", ["weight", *DIVERGENCES])
@pytest.mark.parametrize(
    ("seeds", "members", "sharing"), [(1, 1, 1), (1, 7, 1), (2, 3, 1), (2, 3, 3)]
)
def test_weighted_gaussian_nll_equals_its_reference(
    seeds, members, sharing, weighting, dtype, device, threads
):
    for batch, columns in [(0, 3), (1, 1), (64, 12), (200, 17)]:
        *arguments, delta = gaussians(seeds, members, sharing, batch, columns, dtype, device)
        if weighting == "weight":
            compare_nll(*arguments, weight=delta.abs())
        else:
            compare_nll(*arguments, delta=delta, divergence=weighting, max_weight=4.0)


@pytest.mark.parametrize("device", DEVICES)
def test_types_without_a_kernel_are_composed_of_aten_operations(device):
    *arguments, delta = gaussians(dtype=torch.bfloat16, device=device)
    compare_nll(*arguments, weight=delta.abs())
    for divergence in DIVERGENCES:
        compare_nll(*arguments, delta=delta, divergence=divergence, max_weight=4.0)


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.integers(1, 2),
    members=st.integers(1, 3),
    batch=st.integers(0, 150),
    columns=st.integers(1, 40),
)
def test_weighted_gaussian_nll_of_any_shape(seeds, members, batch, columns):
    *arguments, delta = gaussians(seeds, members, members, batch, columns)
    compare_nll(*arguments, delta=delta)


def test_weighted_gaussian_nll_far_outside_its_bounds():
    output, lower, upper, target, _ = gaussians(dtype=torch.float32)
    weight = torch.ones(2, 1, 70)
    with torch.no_grad():
        output[..., 5:] *= 1e4  # log-variances of ±30 000
    compare_nll(output, lower, upper, target, weight=weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("width", [-1.0, 0.0, 1e-3, 20.0, 79.0, 81.0, 690.0, 710.0, 1e4])
def test_weighted_gaussian_nll_between_bounds_of_any_width(width, dtype):
    """Wide bounds take another way, whose exponentials stay finite."""
    output, _, zeros, target, _ = gaussians(columns=18, dtype=dtype)
    weight = torch.ones(2, 1, 70, dtype=dtype)
    zeros = torch.zeros_like(zeros)
    around = torch.linspace(-4, 4, 9, dtype=dtype)
    for low in (-2.0, 60.0, 1000.0):
        with torch.no_grad():
            output[..., 18:] = low + torch.cat([around, width + around])
        lower, upper = (zeros + low).requires_grad_(), (zeros + low + width).requires_grad_()
        # max − softplus(max − log_var) loses what the bounds' size rounds off.
        condition = max(1.0, low, width)
        compare_nll(output, lower, upper, target, condition=condition, weight=weight)


@pytest.mark.parametrize(
    ("width", "dtype"),
    [
        *((width, torch.float32) for width in (60.0, 69.0, 71.0, 79.0)),
        *((width, torch.float64) for width in (79.0, 660.0, 669.0, 671.0, 690.0)),
    ],
)
def test_weighted_gaussian_nll_far_below_bounds_of_any_width(width, dtype):
    output, _, zeros, target, _ = gaussians(columns=4, dtype=dtype)
    weight = torch.ones(2, 1, 70, dtype=dtype)
    with torch.no_grad():
        output[..., :4] = target  # so that the value is the log-variance's alone
        output[..., 4:] = -width / 2 - torch.tensor([1.0, 5.0, 20.0, 50.0], dtype=dtype)
    zeros = torch.zeros_like(zeros)
    lower, upper = ((zeros + end).requires_grad_() for end in (-width / 2, width / 2))
    compare_nll(output, lower, upper, target, condition=width, weight=weight)


def test_one_pass_back_leaves_the_gradients_of_another_alone():
    """Without a factor the gradients are handed out themselves, if there is no other pass."""
    output, lower, upper, target, _ = gaussians(dtype=torch.float32)
    leaves = [output, lower, upper]
    weight = torch.ones(2, 1, 70)
    loss, _, _ = ops.weighted_gaussian_nll(
        *output.chunk(2, dim=-1), lower, upper, target, weight=weight
    )
    first = torch.autograd.grad(loss.sum(), leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.zero_()
    doubled = torch.autograd.grad(2 * loss.sum(), leaves, retain_graph=True)
    last = torch.autograd.grad(loss.sum(), leaves)
    for expected, two, one in zip(kept, doubled, last, strict=True):
        assert torch.equal(two, 2 * expected)
        assert torch.equal(one, expected)


def test_a_negated_gradient_is_not_taken_for_ones():
    """The memory of a lazily negated view holds 1 for −1."""
    output, lower, upper, target, _ = gaussians(dtype=torch.float64)
    weight = torch.ones(2, 1, 70, dtype=torch.float64)

    def gradient(seed):
        loss = ops.weighted_gaussian_nll(*output.chunk(2, -1), lower, upper, target, weight=weight)
        return torch.autograd.grad(loss[0], output, seed(loss[0].detach()))[0]

    negated = gradient(lambda loss: torch.complex(loss, torch.ones_like(loss)).conj().imag)
    assert torch.equal(negated, -gradient(torch.ones_like))
    nothing = gradient(lambda loss: torch._efficientzerotensor(loss.shape, dtype=loss.dtype))
    assert torch.equal(nothing, torch.zeros_like(nothing))


def test_weighted_gaussian_nll_gradcheck_and_gradgradcheck():
    output, lower, upper, target, delta = gaussians(batch=4, columns=2)
    mean, log_var = (t.detach().requires_grad_() for t in output.chunk(2, dim=-1))

    def function(*arguments):
        return ops.weighted_gaussian_nll(*arguments, target, delta=delta)[0]

    assert torch.autograd.gradcheck(function, (mean, log_var, lower, upper))
    assert torch.autograd.gradgradcheck(function, (mean, log_var, lower, upper))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own use
def test_weighted_gaussian_nll_derivative_in_a_direction():
    output, lower, upper, target, delta = (t.detach() for t in gaussians(batch=4, columns=2))
    inputs = (*output.chunk(2, dim=-1), lower, upper)
    directions = tuple(torch.randn_like(t) for t in inputs)

    def derivative(operator):
        return torch.func.jvp(
            lambda *given: operator(*given, target, delta=delta)[0], inputs, directions
        )

    found = derivative(ops.weighted_gaussian_nll)
    for a, b in zip(found, derivative(reference.weighted_gaussian_nll), strict=True):
        assert_near(a, b)
    assert found[1].abs().max() > 0


def test_weighted_gaussian_nll_treats_weights_and_target_as_constants():
    output, lower, upper, target, delta = gaussians()
    target.requires_grad_()
    delta.requires_grad_()
    mean, log_var = output.chunk(2, dim=-1)
    loss, ess, clipped = ops.weighted_gaussian_nll(mean, log_var, lower, upper, target, delta=delta)
    assert not ess.requires_grad
    assert not clipped.requires_grad
    assert torch.autograd.grad(loss.sum(), [target, delta], allow_unused=True) == (None, None)


def test_weights_of_zero_remove_their_rows():
    output, lower, upper, target, _ = gaussians(batch=100)
    weight = torch.zeros(2, 1, 100, dtype=torch.float64)
    weight[..., :30] = 1
    mean, log_var = output.chunk(2, dim=-1)
    loss, ess, clipped = ops.weighted_gaussian_nll(
        mean, log_var, lower, upper, target, weight=weight
    )
    part = [t[:, :, :30] for t in (mean, log_var)]
    alone, _, _ = ops.weighted_gaussian_nll(
        *part, lower, upper, target[:, :, :30], weight=weight[..., :30]
    )
    assert_near(loss, alone * 30 / 100)
    assert_near(ess, torch.full_like(ess, 30))
    assert (clipped == 0).all()


def test_same_bits_for_every_number_of_threads():
    results = []
    for threads in [1, 2, 3, 4, 2, 1]:
        with number_of_threads(threads):
            output, lower, upper, target, delta = gaussians(batch=1000, dtype=torch.float32)
            loss, ess, clipped = ops.weighted_gaussian_nll(
                *output.chunk(2, dim=-1), lower, upper, target, delta=delta, divergence="kl"
            )
            result = [loss, ess, clipped]
            result += torch.autograd.grad(loss.sum(), [output, lower, upper])
            buffer = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
            for divergence in DIVERGENCES:
                result += ops.occupancy_weights(buffer, divergence, 2.0)
            results.append([t.detach() for t in result])
    for result in results[1:]:
        for first, other in zip(results[0], result, strict=True):
            assert torch.equal(first, other)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_opcheck_weighted_gaussian_nll(divergence, device):
    output, lower, upper, target, delta = gaussians(device=device)
    mean, log_var = (t.detach().requires_grad_() for t in output.chunk(2, dim=-1))
    nll = torch.ops.tom.weighted_gaussian_nll.default
    fixed = (mean, log_var, lower, upper, target)
    torch.library.opcheck(nll, (*fixed, None, delta, divergence, 10.0))
    torch.library.opcheck(nll, (*fixed, delta.abs(), None, divergence, 10.0))
    fixed = tuple(t.detach() for t in fixed)
    for need in (False, True):
        torch.library.opcheck(
            torch.ops.tom.weighted_gaussian_nll_forward.default, (*fixed, delta.abs(), need)
        )


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": torch.zeros(3, 5, 2)}, r"mean is Float of shape \[3, 5, 2\]; it must be"),
        ({"mean": torch.zeros(2, 3, 5, 0)}, "D >= 1"),
        ({"mean": torch.zeros(2, 3, 5, 2).int()}, "mean is Int"),
        ({"log_var": torch.zeros(2, 1, 5, 2)}, r"log_var has shape \[2, 1, 5, 2\]"),
        ({"min_log_var": torch.zeros(2, 2)}, r"min_log_var has shape .* it must be \[S, M, D\]"),
        ({"max_log_var": torch.zeros(2, 3, 1)}, "max_log_var has shape"),
        ({"target": torch.zeros(2, 2, 5, 2)}, "target has shape"),
        ({"target": torch.zeros(2, 3, 5, 2).double()}, "target is Double on cpu, but mean is"),
        ({"weight": torch.zeros(2, 3, 4)}, r"weight \(or delta\) has shape"),
        ({"weight": torch.tensor(1.0)}, r"weight \(or delta\) has shape \[\]"),
        ({"weight": None, "delta": torch.tensor(1.0)}, r"weight \(or delta\) has shape \[\]"),
        ({"weight": torch.ones(2, 3, 5).int()}, r"weight \(or delta\) is Int on cpu, but mean is"),
        ({"weight": None}, "got neither weight nor delta; give exactly one of them"),
        ({"delta": torch.zeros(2, 3, 5)}, "got both weight and delta; give exactly one of them"),
        ({"weight": None, "delta": torch.zeros(2, 3, 5), "divergence": "js"}, "'js' is unknown"),
        ({"weight": None, "delta": torch.zeros(2, 3, 5), "max_weight": -1.0}, "max_weight is -1"),
    ],
)
def test_weighted_gaussian_nll_bad_input(change, message, gradients):
    arguments = {
        "mean": torch.zeros(2, 3, 5, 2),
        "log_var": torch.zeros(2, 3, 5, 2),
        "min_log_var": torch.zeros(2, 3, 2),
        "max_log_var": torch.zeros(2, 3, 2),
        "target": torch.zeros(2, 3, 5, 2),
        "weight": torch.ones(2, 3, 5),
    } | change
    if gradients:
        arguments["log_var"].requires_grad_()
    with pytest.raises(ValueError, match=message):
        ops.weighted_gaussian_nll(**arguments)
