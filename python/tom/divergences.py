r"""The divergence generators f, their convex conjugates f* and the derivatives f*' of those.

D_f(p ‖ q) = E_q[f(p/q)]. The dual problem (22) minimises f*(δ) and the optimal importance weight
(23) is ξ* = f*'(δ). All conjugates are taken over x ≥ 0, because a density ratio is never negative.

With the exact R = log(d_π / d_D), E_d[R] − KL(d ‖ d_D) = −KL(d ‖ d_π): only KL's ξ* is the ratio
itself. The χ² divergences stop short of d_π: in finite MDPs at 15 to 47 % of d_D's
distance from it (tests/finite).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tom.names import DivergenceName


@dataclass(frozen=True)
class Divergence:
    """One generator and what (22) and (23) need of it.

    Attributes:
        name: its name in the configuration and in `torch.ops.tom.occupancy_weights`.
        generator: f, elementwise on x ≥ 0.
        conjugate: f*(y) = max over x ≥ 0 of x y − f(x), elementwise.
        conjugate_derivative: f*', elementwise.
        bounds_kl: whether D_f ≥ KL for all pairs, as the lower bound (13) needs. ½(x − 1)² does
            not: p = (.99, .01), q = (.5, .5) has KL .637 > .480, and tests/finite/test_bound.py
            has an MDP in which (13) fails with it.
        quadratic: f* over all real x instead of x ≥ 0, where that exists. Its gradient does not
            vanish where the weight is zero, at the price of "negative densities": clipped to
            weights, its optimum breaks the flow (tests/finite/test_choices.py).
        quadratic_derivative: its derivative.
        log_mean_exp: use the Donsker–Varadhan form log E[exp δ] for E[f*(δ)] and
            ξ* = exp δ / E[exp δ], which needs no separate normalisation and cannot overflow.
    """

    name: DivergenceName
    generator: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    conjugate_derivative: Callable[[Tensor], Tensor]
    bounds_kl: bool
    quadratic: Callable[[Tensor], Tensor] | None = None
    quadratic_derivative: Callable[[Tensor], Tensor] | None = None
    log_mean_exp: bool = False

    def dual_loss(self, delta: Tensor, *, quadratic: bool = False) -> Tensor:
        """E_D[f*(δ)] of (22) over the last axis: [..., B] → [...]."""
        if self.log_mean_exp:
            return torch.logsumexp(delta, dim=-1) - math.log(delta.shape[-1])
        conjugate = self.quadratic if quadratic and self.quadratic else self.conjugate
        return conjugate(delta).mean(dim=-1)


def _chi2(scale: float, name: DivergenceName, *, bounds_kl: bool) -> Divergence:
    """The entry f(x) = scale · (x − 1)², whose f* is y + y²/(4·scale) down to y = −2·scale."""
    return Divergence(
        name=name,
        generator=lambda x: scale * (x - 1).square(),
        # For y < −2·scale the maximum lies on the boundary x = 0 and f* = −f(0).
        conjugate=lambda y: (z := y.clamp(min=-2 * scale)) + z.square() / (4 * scale),
        conjugate_derivative=lambda y: (1 + y / (2 * scale)).clamp(min=0),
        quadratic=lambda y: y + y.square() / (4 * scale),
        quadratic_derivative=lambda y: 1 + y / (2 * scale),
        bounds_kl=bounds_kl,
    )


DIVERGENCES: Mapping[str, Divergence] = {
    "chi2": _chi2(0.5, "chi2", bounds_kl=False),
    "chi2_bound": _chi2(1.0, "chi2_bound", bounds_kl=True),
    "kl": Divergence(
        name="kl",
        generator=lambda x: torch.special.xlogy(x, x),
        conjugate=lambda y: torch.exp(y - 1),
        conjugate_derivative=lambda y: torch.exp(y - 1),
        bounds_kl=True,
        log_mean_exp=True,
    ),
}
