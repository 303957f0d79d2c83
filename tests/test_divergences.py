"""f, f* and f*' of every divergence fit together."""

from __future__ import annotations

import math

import pytest
import torch

from tom.divergences import DIVERGENCES

Y = torch.linspace(-4, 2, 61, dtype=torch.float64)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugate_is_the_maximum_over_nonnegative_x(name: str) -> None:
    divergence = DIVERGENCES[name]
    x = torch.linspace(0, 20, 200_001, dtype=torch.float64)
    maximum = torch.stack([(x * y - divergence.generator(x)).max() for y in Y])
    # A grid of spacing h misses the maximum by at most h² f''/8; f'' is largest for KL, 1/x = e⁵.
    atol = 1e-8 * math.exp(5) / 8
    torch.testing.assert_close(divergence.conjugate(Y), maximum, rtol=0, atol=atol)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugate_derivative_is_the_derivative(name: str) -> None:
    divergence = DIVERGENCES[name]
    # Half a grid step away from the kinks at −1 and −2, where the second derivative jumps.
    y, h = Y + 0.05, 1e-5
    slope = (divergence.conjugate(y + h) - divergence.conjugate(y - h)) / (2 * h)
    torch.testing.assert_close(divergence.conjugate_derivative(y), slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_generator_vanishes_for_equal_distributions(name: str) -> None:
    assert DIVERGENCES[name].generator(torch.ones(1)).item() == 0


def _divergence_and_kl(name: str, p: torch.Tensor, q: torch.Tensor) -> tuple[float, float]:
    d = (q * DIVERGENCES[name].generator(p / q)).sum().item()
    return d, torch.special.xlogy(p, p / q).sum().item()


@pytest.mark.parametrize("name", [n for n, d in DIVERGENCES.items() if d.bounds_kl])
def test_upper_bounds_of_kl_hold_on_random_pairs(name: str) -> None:
    for seed in range(300):
        torch.manual_seed(seed)
        p, q = torch.distributions.Dirichlet(torch.full((2, 4), 0.3).double()).sample()
        d, kl = _divergence_and_kl(name, p, q.clamp(min=1e-9))
        assert d >= kl - 1e-9


def test_customary_chi2_does_not_bound_kl() -> None:
    assert not DIVERGENCES["chi2"].bounds_kl
    p, q = torch.tensor([0.99, 0.01]).double(), torch.tensor([0.5, 0.5]).double()
    d, kl = _divergence_and_kl("chi2", p, q)
    assert d == pytest.approx(0.4802)
    assert kl == pytest.approx(0.6371, abs=1e-4)


def test_kl_dual_loss_is_the_stable_log_mean_exp() -> None:
    delta = torch.tensor([[1.0, 2.0, 3.0], [1000.0, 1000.0, 1000.0]]).double()
    loss = DIVERGENCES["kl"].dual_loss(delta)
    assert loss[0].item() == pytest.approx(math.log(delta[0].exp().mean().item()))
    assert loss[1].item() == pytest.approx(1000.0)


def test_quadratic_conjugate_has_a_gradient_below_the_threshold() -> None:
    delta = torch.tensor([[-3.0]], requires_grad=True)
    (exact,) = torch.autograd.grad(DIVERGENCES["chi2"].dual_loss(delta).sum(), delta)
    (quadratic,) = torch.autograd.grad(
        DIVERGENCES["chi2"].dual_loss(delta, quadratic=True).sum(), delta
    )
    assert exact.item() == 0
    assert quadratic.item() == pytest.approx(-2.0)
