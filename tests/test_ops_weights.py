"""occupancy_weights against its plain PyTorch reference."""

from __future__ import annotations

import math

import pytest
import torch

from ops_cases import DEVICES, DIVERGENCES, assert_near, number_of_threads
from tom import ops, reference


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    with number_of_threads(request.param):
        yield request.param


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("max_weight", [math.inf, 3.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 4096), (1, 10_001), (2, 3, 5), (4, 0)])
def test_occupancy_weights_equal_their_reference(
    shape, divergence, max_weight, dtype, device, threads
):
    torch.manual_seed(0)
    delta = (4 * torch.randn(shape, dtype=torch.float64)).to(device, dtype)
    actual = ops.occupancy_weights(delta, divergence, max_weight)
    for a, b in zip(
        actual, reference.occupancy_weights(delta, divergence, max_weight), strict=True
    ):
        assert_near(a, b)


def test_occupancy_weights_at_the_edges():
    delta = torch.tensor([[-5.0, -1.0, 0.0, 20.0]])
    weights, ess, clipped = ops.occupancy_weights(delta, "chi2", 10.0)
    assert weights.tolist() == [[0.0, 0.0, 1.0, 10.0]]
    assert ess.item() == pytest.approx(11**2 / 101)
    assert clipped.item() == 0.25
    weights, ess, clipped = ops.occupancy_weights(torch.full((1, 3), -2.0), "chi2")
    assert (weights.sum(), ess.item(), clipped.item()) == (0, 0, 0)


def test_kl_weights_have_mean_one_and_do_not_overflow():
    torch.manual_seed(0)
    delta = 1000 * torch.randn(2, 9000)
    weights, _, _ = ops.occupancy_weights(delta, "kl")
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.mean(-1), torch.ones(2))
    for offset in (1e3, 1e5):  # of which float32 keeps four digits and two behind the point
        weights, _, _ = ops.occupancy_weights(torch.randn(2, 9000) + offset, "kl")
        torch.testing.assert_close(weights.mean(-1), torch.ones(2))
    delta[:, :5000] = -math.inf  # whole blocks of impossible transitions
    weights, _, _ = ops.occupancy_weights(delta, "kl")
    assert (weights[:, :5000] == 0).all()
    torch.testing.assert_close(weights.mean(-1), torch.ones(2))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_occupancy_weights_keep_nan_visible(divergence):
    delta = torch.zeros(2, 5000)
    delta[0, 4500] = math.nan
    weights, ess, _ = ops.occupancy_weights(delta, divergence, 10.0)
    assert weights[0, 4500].isnan()
    assert ess.isnan().tolist() == [True, False]


def test_occupancy_weights_pass_no_gradient():
    delta = torch.randn(1, 10, requires_grad=True)
    assert not any(t.requires_grad for t in ops.occupancy_weights(delta, "chi2"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_opcheck_occupancy_weights(divergence, device):
    for delta in (torch.randn(2, 9, device=device), torch.randn(2, 9, requires_grad=True)):
        torch.library.opcheck(torch.ops.tom.occupancy_weights.default, (delta, divergence, 2.0))


@pytest.mark.parametrize(
    ("delta", "divergence", "max_weight", "message"),
    [
        (torch.zeros(2, 3), "js", 1.0, "divergence 'js' is unknown; use 'chi2', 'chi2_bound' or"),
        (torch.zeros(2, 3).int(), "chi2", 1.0, "delta is Int .* floating-point"),
        (torch.tensor(1.0), "chi2", 1.0, r"it must be .* shape \[\.\.\., N\]"),
        (torch.zeros(2, 3), "chi2", 0.0, "max_weight is 0; it must be positive"),
        (torch.zeros(2, 3), "chi2", math.nan, "max_weight is nan; it must be positive"),
    ],
)
def test_occupancy_weights_bad_input(delta, divergence, max_weight, message):
    with pytest.raises(ValueError, match=message):
        ops.occupancy_weights(delta, divergence, max_weight)


@pytest.mark.parametrize("weights", [torch.tensor(1.0), torch.ones(3).int()])
def test_an_effective_sample_size_of_no_vector_is_refused(weights):
    with pytest.raises(ValueError, match=r"weights is .*; it must be .* shape \[\.\.\., N\]"):
        torch.ops.tom.effective_sample_size(weights)
