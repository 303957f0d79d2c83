"""The operators `torch.ops.tom`: networks in stacks, and the weighted likelihood of the dynamics.

Axes: S seeds (independent runs), M members (of an ensemble, or twin critics), B batch. Equation
numbers are those of the Transition Occupancy Matching paper. Each operator computes what the
function of the same name in `tom.reference` says in plain PyTorch.

On the CPU they are compiled for float32 and float64; everywhere else they are composed of ATen
operations. They work under `torch.compile`. Arguments of a wrong shape, type, device or name raise
ValueError. Values are not looked at: a NaN given is a NaN in the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from tom import _libraries as _libraries

Activation = Literal["relu", "tanh", "silu"]
Divergence = Literal["chi2", "chi2_bound", "kl"]


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
        weights: Per layer `[S, M, in, out]`: y = x @ W + b.
        biases: Per layer `[S, M, out]`.
        activation: `"relu"`, `"tanh"` or `"silu"`.

    Returns:
        Outputs `[S, M, B, O]`.

    Raises:
        ValueError: The shapes do not fit, types or devices differ, or the activation is unknown.
    """
    return cast(Tensor, torch.ops.tom.stacked_mlp(x, list(weights), list(biases), activation))


def occupancy_weights(
    delta: Tensor, divergence: Divergence, max_weight: float = float("inf")
) -> tuple[Tensor, Tensor, Tensor]:
    """Importance weights ξ* = f*'(δ) of the buffer's transitions (eq. 23).

    With f(x) = ½(x − 1)² (`"chi2"`): ξ* = max(0, 1 + δ); with f(x) = (x − 1)² (`"chi2_bound"`):
    ξ* = max(0, 1 + δ/2); with KL in its Donsker–Varadhan form (`"kl"`): ξ* = N · softmax(δ), whose
    mean is 1 by construction. No gradient passes through.

    Args:
        delta: δ = R + γ (1 − terminated) V(s') − Q(s, a), `[..., N]`.
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
    divergence: Divergence = "chi2",
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


def sac_updates(
    batches: Tensor,
    noise: Tensor,
    *,
    actor: Sequence[Tensor],
    critic: Sequence[Tensor],
    temperature: Sequence[Tensor],
    target: Tensor,
    scale: Tensor,
    center: Tensor,
    hidden: Sequence[int],
    discount: float,
    tau: float,
    target_entropy: float,
    learning_rate: float,
    log_std_bounds: tuple[float, float],
) -> Tensor:
    """Soft actor-critic updates of S seeds, one after the other, with gradients written by hand.

    `tom.sac.SAC` says in autograd what each update is.

    Args:
        batches: Rows `[s | a | s' | r | terminated]`, `[G, S, B, W]`, of which each of G updates
            takes one batch.
        noise: Standard normal numbers `[G, S, 2B, A]` for the actions in s and in s'.
        actor: `Adam.trained` of the actor, updated in place.
        critic: The same of the twin critics.
        temperature: The same of a stack without layers and with the parameter log α `[S, 1]`.
        target: The target critics' flat parameters, updated in place.
        scale: Half the range of each action `[A]`.
        center: Middle of each action's bounds `[A]`.
        hidden: Widths of the ReLU layers of the actor and the critics.
        discount: γ.
        tau: Rate at which the target follows.
        target_entropy: What the temperature steers to.
        learning_rate: Of all three.
        log_std_bounds: Between which the policy's log standard deviation is held.

    Returns:
        Critic loss, actor loss, temperature and entropy of the last update, `[4, S]`.

    Raises:
        ValueError: A shape, type or device does not fit.
    """
    observations = (batches.shape[-1] - scale.shape[0] - 2) // 2
    result = torch.ops.tom.sac_updates(
        batches,
        noise,
        list(actor),
        list(critic),
        list(temperature),
        target,
        scale,
        center,
        observations,
        list(hidden),
        discount,
        tau,
        target_entropy,
        learning_rate,
        *log_std_bounds,
    )
    return cast(Tensor, result)


def dynamics_steps(
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    network: Sequence[Tensor],
    hidden: Sequence[int],
    learning_rate: float,
    weight_decay: float,
    log_var_penalty: float,
) -> Tensor:
    """K steps of weighted maximum likelihood (25) for an ensemble of Gaussian networks.

    `tom.dynamics.DynamicsEnsemble` says in autograd what each step is.

    Args:
        inputs: Standardised (s, a), `[K, S, M, B, I]`.
        targets: Standardised (s' − s, r), `[K, S, M, B, D]`.
        weights: `[K, S, M, B]`, as in `weighted_gaussian_nll`.
        network: `Adam.trained` of the ensemble, updated in place; behind the layers it has the
            lower and then the upper bounds of the log-variance, each `[S, M, D]`.
        hidden: Widths of the SiLU layers.
        learning_rate: Adam's.
        weight_decay: Adam's L2 penalty.
        log_var_penalty: Weight of Σ (upper − lower bound) in the loss.

    Returns:
        The likelihood's loss, without the penalty, averaged over steps and members, `[S]`.

    Raises:
        ValueError: A shape, type or device does not fit.
    """
    result = torch.ops.tom.dynamics_steps(
        inputs,
        targets,
        weights,
        list(network),
        list(hidden),
        learning_rate,
        weight_decay,
        log_var_penalty,
    )
    return cast(Tensor, result)


def dual_q_steps(
    inputs: Tensor,
    rewards: Tensor,
    go_on: Tensor,
    *,
    network: Sequence[Tensor],
    hidden: Sequence[int],
    samples: int,
    divergence: Divergence,
    quadratic: bool,
    discount: float,
    learning_rate: float,
    l2: float,
) -> tuple[Tensor, Tensor]:
    """K minibatch steps on the dual objective (22), with gradients written by hand.

    `tom.dual_q.DualQ` says in autograd what each step is.

    Args:
        inputs: `[K, S, B + 2 B P, I]`: (s, a) of the rows, then P sampled actions in each of their
            s', then P in each initial state; those of one state are neighbours.
        rewards: R `[K, S, B]`.
        go_on: 1 − terminated, `[K, S, B]`.
        network: `Adam.trained` of the dual Q, updated in place.
        hidden: Widths of the ReLU layers.
        samples: P.
        divergence: The generator f.
        quadratic: Take the χ² conjugate over all real x.
        discount: γ.
        learning_rate: Adam's.
        l2: Weight of Σ W² over the layers' weights in the loss.

    Returns:
        δ before each step `[K, S, B]`, and the mean V(s0) before each step `[K, S]`.

    Raises:
        ValueError: A shape, type or device does not fit, or the divergence is unknown.
    """
    result = torch.ops.tom.dual_q_steps(
        inputs,
        rewards,
        go_on,
        list(network),
        list(hidden),
        samples,
        divergence,
        quadratic,
        discount,
        learning_rate,
        l2,
    )
    return cast(tuple[Tensor, Tensor], result)


def discriminator_steps(
    current: Tensor,
    replay: Tensor,
    mix: Tensor,
    *,
    network: Sequence[Tensor],
    hidden: Sequence[int],
    replay_label: float,
    gradient_penalty: float,
    learning_rate: float,
) -> Tensor:
    """K steps of the discriminator (21) with its gradient penalty, gradients written by hand.

    `tom.discriminator.Discriminator` says in autograd what each step is.

    Args:
        current: The current policy's transitions, standardised, `[K, S, B, I]`.
        replay: The buffer's, of the same shape.
        mix: Share of `current` in the mixtures that the penalty looks at, `[K, S, B, 1]`.
        network: `Adam.trained` of the discriminator, updated in place.
        hidden: Widths of the tanh layers.
        replay_label: Label of the buffer's rows.
        gradient_penalty: Weight of the mean (‖∇x logit‖ − 1)²; 0 leaves it out.
        learning_rate: Adam's.

    Returns:
        Logits before each step, `[K, S, 2B]`: those of `current`, then those of `replay`.

    Raises:
        ValueError: A shape, type or device does not fit.
    """
    result = torch.ops.tom.discriminator_steps(
        current,
        replay,
        mix,
        list(network),
        list(hidden),
        replay_label,
        gradient_penalty,
        learning_rate,
    )
    return cast(Tensor, result)


# The fake kernels: shapes and types only, for torch.compile and torch.export.


def _fake_stacked_mlp(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str
) -> Tensor:
    return _layer_output(x, weights[-1])


def _fake_stacked_mlp_forward(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str, save: bool
) -> tuple[Tensor, list[Tensor]]:
    hidden = weights[:-1] * (2 if activation == "silu" else 1) if save else []
    return _layer_output(x, weights[-1]), [_layer_output(x, weight) for weight in hidden]


def _layer_output(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1], x.shape[2], weight.shape[3])


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
        gradients += [w.new_empty(w.shape[0], w.shape[1], w.shape[3]) for w in weights]
    return gradients


def _fake_occupancy_weights(
    delta: Tensor, divergence: str, max_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    statistic = delta.new_empty(delta.shape[:-1])
    return delta.new_empty(delta.shape), statistic, torch.empty_like(statistic)


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
) -> tuple[Tensor, Tensor, list[Tensor]]:
    inputs = [mean, log_var, min_log_var, max_log_var] if need_gradients else []
    gradients = [t.new_empty(t.shape) for t in inputs]
    return mean.new_empty(mean.shape[:2]), mean.new_empty(weight.shape[:2]), gradients


torch.library.register_fake("tom::stacked_mlp", _fake_stacked_mlp)
torch.library.register_fake("tom::stacked_mlp_forward", _fake_stacked_mlp_forward)
torch.library.register_fake("tom::stacked_mlp_backward", _fake_stacked_mlp_backward)
torch.library.register_fake("tom::occupancy_weights", _fake_occupancy_weights)
torch.library.register_fake("tom::weighted_gaussian_nll", _fake_weighted_gaussian_nll)
torch.library.register_fake(
    "tom::weighted_gaussian_nll_forward", _fake_weighted_gaussian_nll_forward
)
