"""The operators of `tom.ops` in plain PyTorch: slow, obvious, differentiated by autograd.

This is what the operators compute; the tests compare every one of them with its function here.
Axes: S seeds, M members (of an ensemble, or twin critics), B batch, D dimensions of a Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "silu": F.silu}


def stacked_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> Tensor:
    """S × M multilayer perceptrons with linear outputs: x [S, M or 1, B, in] → [S, M, B, out].

    A bfloat16 weight beside float32 x stands for a product of rounded factors, rounded itself.
    """
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.dtype == x.dtype:
            x = x @ weight + bias.unsqueeze(2)
        else:
            x = rounded(rounded(x) @ weight.to(x.dtype)) + bias.unsqueeze(2)
        if layer + 1 < len(weights):
            x = ACTIVATIONS[activation](x)
    return x


def rounded(x: Tensor) -> Tensor:
    """Round to bfloat16, in the type of x; on the way back the gradient is rounded too."""
    return x.bfloat16().to(x.dtype)


def occupancy_weights(
    delta: Tensor, divergence: str, max_weight: float = float("inf")
) -> tuple[Tensor, Tensor, Tensor]:
    """ξ* = f*'(δ) (eq. 23) along the last axis, their effective sample size and clipped share."""
    delta = delta.detach()
    if divergence == "chi2":  # f(x) = ½(x − 1)², f*'(y) = 1 + y where that is positive
        weights = (1 + delta).clamp(min=0)
    elif divergence == "chi2_bound":  # f(x) = (x − 1)²
        weights = (1 + delta / 2).clamp(min=0)
    elif divergence == "kl":  # Donsker–Varadhan: the gradient of log mean exp δ, times N
        weights = delta.softmax(-1) * delta.shape[-1]
    else:
        raise ValueError(f"divergence '{divergence}' is unknown")
    clipped = (weights > max_weight).to(delta.dtype).sum(-1)
    weights = weights.clamp(max=max_weight)
    return weights, effective_sample_size(weights), clipped / max(1, delta.shape[-1])


def effective_sample_size(weights: Tensor) -> Tensor:
    """(Σw)² / Σw² along the last axis: N if all are equal, 1 if one has all, 0 if none has any."""
    squares = weights.square().sum(-1)
    return weights.sum(-1).square() / squares.clamp(min=torch.finfo(weights.dtype).tiny)


def softplus(u: Tensor) -> Tensor:
    """log(1 + eᵘ), without the shortcut above 20 of `F.softplus`, which float64 can tell apart."""
    return -F.logsigmoid(-u)


def weighted_gaussian_nll(
    mean: Tensor,
    log_var: Tensor,
    min_log_var: Tensor,
    max_log_var: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    delta: Tensor | None = None,
    divergence: str = "chi2",
    max_weight: float = 10.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over B of ξ* × mean over D of the Gaussian −log T̂(s' | s, a) (eq. 25), per member."""
    if delta is not None:
        weight, ess, clipped_fraction = occupancy_weights(delta, divergence, max_weight)
    else:
        assert weight is not None
        weight = weight.detach()
        ess = effective_sample_size(weight)
        clipped_fraction = torch.zeros_like(ess)
    lower, upper = min_log_var.unsqueeze(2), max_log_var.unsqueeze(2)
    log_var = upper - softplus(upper - log_var)
    log_var = lower + softplus(log_var - lower)
    nll = 0.5 * ((mean - target.detach()).square() * torch.exp(-log_var) + log_var)
    loss = (weight * nll.mean(3)).sum(2) / max(1, mean.shape[2])
    return loss, ess, clipped_fraction
