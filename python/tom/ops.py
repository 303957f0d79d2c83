"""The operators `torch.ops.tom`: networks in stacks, and the weighted likelihood of the dynamics.

Axes: S seeds (independent runs), M members (of an ensemble, or twin critics), B batch. Equation
numbers are those of the Transition Occupancy Matching paper. Each operator computes what the
function of the same name in `tom.reference` says in plain PyTorch.

On the CPU they are compiled for float32 and float64; everywhere else they are composed of ATen
operations. They work under `torch.compile`. Arguments of a wrong shape, type, device or name raise
ValueError. Values are not looked at: a NaN given is a NaN in the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from tom import _libraries as _libraries
from tom.names import Activation, DivergenceName


def stacked_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activation
) -> Tensor:
    """Apply S × M multilayer perceptrons at once.

    The activation follows every layer but the last, whose output is linear. Forward and backward
    are one node of the autograd graph, and the backward computes only what is asked of it: nothing
    for the parameters in `torch.autograd.grad(loss, x)`, nothing for `x` if it needs no gradient.
    Gradients of gradients work (`create_graph=True`); they cost one more forward pass.

    Args:
        x: Inputs `[S, M, B, I]`, or `[S, 1, B, I]` to give all members of a seed the same inputs
            without copying them. Its rows may be slices of longer ones.
        weights: Per layer `[S, M, in, out]`: y = x @ W + b. Beside float32 `x` and biases some may
            be bfloat16: those layers' products are made of bfloat16 factors, summed in float32 and
            rounded to bfloat16, forward and backward; everything else stays float32.
        biases: Per layer `[S, M, out]`.
        activation: `"relu"`, `"tanh"` or `"silu"`.

    Returns:
        Outputs `[S, M, B, O]`.

    Raises:
        ValueError: The shapes do not fit, types or devices differ, or the activation is unknown.
    """
    return cast(Tensor, torch.ops.tom.stacked_mlp(x, list(weights), list(biases), activation))


def occupancy_weights(
    delta: Tensor, divergence: DivergenceName, max_weight: float = float("inf")
) -> tuple[Tensor, Tensor, Tensor]:
    """Importance weights ξ* = f*'(δ) of the buffer's transitions (eq. 23).

    With f(x) = ½(x − 1)² (`"chi2"`): ξ* = max(0, 1 + δ); with f(x) = (x − 1)² (`"chi2_bound"`):
    ξ* = max(0, 1 + δ/2); with KL in its Donsker–Varadhan form (`"kl"`): ξ* = N · softmax(δ), whose
    mean is 1 by construction. No gradient passes through.

    Args:
        delta: δ = R + γ V(s') − Q(s, a), `[..., N]`; `tom.dual_q` says what V(s') is after a
            terminal row.
        divergence: The generator f.
        max_weight: Weights above it are clipped to it.

    Returns:
        The weights `[..., N]`; their effective sample size (Σξ)² / Σξ² `[...]`, 0 if all are zero;
        and the fraction that was clipped `[...]`. On the CPU all three are the same bits for every
        number of threads.

    Raises:
        ValueError: The divergence is unknown, or `max_weight` is not positive.
    """
    result = torch.ops.tom.occupancy_weights(delta, divergence, max_weight)
    return cast(tuple[Tensor, Tensor, Tensor], result)


def weighted_gaussian_nll(
    mean: Tensor,
    log_var: Tensor,
    min_log_var: Tensor,
    max_log_var: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    delta: Tensor | None = None,
    divergence: DivergenceName = "chi2",
    max_weight: float = 10.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted negative log-likelihood of a stack of Gaussian models (eq. 25).

    The raw log-variance is first held softly between its learned bounds, as in MBPO: v = max −
    softplus(max − log_var), then v = min + softplus(v − min). Per member,

        loss = 1/B Σ_b ξ_b · 1/D Σ_d ½ ((mean − target)² e^−v + v),

    half of MBPO's loss, and like `torch.nn.GaussianNLLLoss` without the constant ½ log 2π. The sum
    is divided by B, not by Σξ: with weights of mean 1 that is the importance-weighted mean. An
    empty batch has loss 0.

    The gradients in `mean`, `log_var` and both bounds are computed in the same pass as the loss;
    the weights and the target are constants. Take `mean` and `log_var` from the network's output by
    `output.chunk(2, dim=-1)`; neither is copied.

    Args:
        mean: `[S, M, B, D]`.
        log_var: Raw log-variance `[S, M, B, D]`.
        min_log_var: Lower bounds `[S, M, D]`.
        max_log_var: Upper bounds `[S, M, D]`.
        target: `[S, M, B, D]`, or `[S, 1, B, D]` for the same targets for all members.
        weight: ξ `[S, M, B]` or `[S, 1, B]`, used as it is. Give either this or `delta`.
        delta: δ `[S, M, B]` or `[S, 1, B]`, of which ξ = min(f*'(δ), max_weight) is computed as by
            `occupancy_weights` (`"kl"` normalises over B).
        divergence: The generator f that goes with `delta`.
        max_weight: Upper limit of the weights that are computed from `delta`.

    Returns:
        The loss `[S, M]`; the weights' effective sample size `[S, M]` or `[S, 1]`; the fraction of
        them that was clipped, of the same shape. On the CPU all three, and the gradients, are the
        same bits for every number of threads.

    Raises:
        ValueError: The shapes do not fit, types or devices differ, not exactly one of `weight` and
            `delta` is given, the divergence is unknown, or `max_weight` is not positive.
    """
    result = torch.ops.tom.weighted_gaussian_nll(
        mean, log_var, min_log_var, max_log_var, target, weight, delta, divergence, max_weight
    )
    return cast(tuple[Tensor, Tensor, Tensor], result)


# The fake kernels: shapes and types only, for torch.compile and torch.export.


def _fake_stacked_mlp(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str
) -> Tensor:
    return _layer_output(x, weights[-1])


def _fake_stacked_mlp_forward(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str, save: bool
) -> tuple[Tensor, list[Tensor]]:
    # A hidden layer's value has the type that the next product reads, its slope that of its own.
    values = [
        _layer_output(x, weight, following.dtype)
        for weight, following in itertools.pairwise(weights)
    ]
    slopes = [_layer_output(x, weight, weight.dtype) for weight in weights[:-1]]
    saved = values + slopes if activation == "silu" else values
    return _layer_output(x, weights[-1]), saved if save else []


def _layer_output(x: Tensor, weight: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    shape = (x.shape[0], weight.shape[1], x.shape[2], weight.shape[3])
    return x.new_empty(shape, dtype=dtype or x.dtype)


def _fake_stacked_mlp_backward(
    grad_out: Tensor,
    x: Tensor,
    weights: list[Tensor],
    saved: list[Tensor],
    activation: str,
    need_x: bool,
    need_parameters: bool,
) -> list[Tensor]:
    gradients = [x.new_empty(x.shape)] if need_x else []
    if need_parameters:
        gradients += [weight.new_empty(weight.shape) for weight in weights]
        gradients += [x.new_empty(w.shape[0], w.shape[1], w.shape[3]) for w in weights]
    return gradients


def _fake_occupancy_weights(
    delta: Tensor, divergence: str, max_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    statistic = delta.new_empty(delta.shape[:-1])
    return delta.new_empty(delta.shape), statistic, torch.empty_like(statistic)


def _fake_effective_sample_size(weights: Tensor) -> Tensor:
    return weights.new_empty(weights.shape[:-1])


def _fake_weighted_gaussian_nll(
    mean: Tensor,
    log_var: Tensor,
    min_log_var: Tensor,
    max_log_var: Tensor,
    target: Tensor,
    weight: Tensor | None,
    delta: Tensor | None,
    divergence: str,
    max_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    given = weight if weight is not None else delta
    assert given is not None
    statistic = mean.new_empty(given.shape[:2])
    return mean.new_empty(mean.shape[:2]), statistic, torch.empty_like(statistic)


def _fake_weighted_gaussian_nll_forward(
    mean: Tensor,
    log_var: Tensor,
    min_log_var: Tensor,
    max_log_var: Tensor,
    target: Tensor,
    weight: Tensor,
    need_gradients: bool,
) -> tuple[Tensor, list[Tensor]]:
    inputs = [mean, log_var, min_log_var, max_log_var] if need_gradients else []
    gradients = [t.new_empty(t.shape) for t in inputs]
    return mean.new_empty(mean.shape[:2]), gradients


torch.library.register_fake("tom::stacked_mlp", _fake_stacked_mlp)
torch.library.register_fake("tom::stacked_mlp_forward", _fake_stacked_mlp_forward)
torch.library.register_fake("tom::stacked_mlp_backward", _fake_stacked_mlp_backward)
torch.library.register_fake("tom::occupancy_weights", _fake_occupancy_weights)
torch.library.register_fake("tom::effective_sample_size", _fake_effective_sample_size)
torch.library.register_fake("tom::weighted_gaussian_nll", _fake_weighted_gaussian_nll)
torch.library.register_fake(
    "tom::weighted_gaussian_nll_forward", _fake_weighted_gaussian_nll_forward
)
