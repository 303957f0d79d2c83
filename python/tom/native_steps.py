"""Training steps as operators: many steps in one call, with gradients written by hand.

No graph is built and nothing waits for a value on the host. Each updates the networks it is given
in place: `Adam.trained` of a stack, which is its flat parameters, their gradient, Adam's two
moments and its counter. The gradient is memory to work in: on the CPU, where groups of seeds may
take their steps one after the other in copies, it then stays as it was. The parts that call them
say in autograd what each step is, and take those steps instead where the configuration sets
`native` off.

Axes: K steps (G for the policy's updates), S seeds, M members, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from tom.names import DivergenceName, Precision


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
    precision: Precision = "fp32",
    fused: bool = False,
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
        precision: Of the products between hidden layers; `tom.networks` says which those are.
        fused: Use the kernels of `tom.kernels`, if they take such networks: float32 and not bf16,
            two hidden layers of up to 256, up to 64 actions, batches of up to 4096. The device must
            have them, see `tom.kernels.unavailable`.

    Returns:
        Critic loss, actor loss, temperature and entropy of the last update, `[4, S]`.

    Raises:
        ValueError: A shape, type or device does not fit.
    """
    width = batches.shape[-1] if batches.dim() else 0  # the operator refuses another rank
    observations = (width - scale.numel() - 2) // 2
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
        precision,
        fused,
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
    precision: Precision = "fp32",
    fused: bool = False,
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
        weight_decay: Adam's L2 penalty, of the layers alone.
        log_var_penalty: Weight of Σ (upper − lower bound) in each member's loss.
        precision: Of the products between hidden layers; `tom.networks` says which those are.
        fused: As in `sac_updates`, if there are two or more hidden layers of one width of up to
            256, D of up to 64 and B of up to 4096.

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
        precision,
        fused,
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
    divergence: DivergenceName,
    quadratic: bool,
    restart: bool,
    discount: float,
    learning_rate: float,
    l2: float,
    precision: Precision = "fp32",
    fused: bool = False,
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
        restart: After a terminal row V(s') is the batch's mean V(s0), otherwise 0.
        discount: γ.
        learning_rate: Adam's.
        l2: Weight of Σ W² over the layers' weights in the loss.
        precision: Of the products between hidden layers; `tom.networks` says which those are.
        fused: As in `sac_updates`, if there are two hidden layers of up to 256, B P is at most 4096
            and the divergence is one of χ².

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
        restart,
        discount,
        learning_rate,
        l2,
        precision,
        fused,
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
    precision: Precision = "fp32",
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
        precision: Of the products between hidden layers; `tom.networks` says which those are.

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
        precision,
    )
    return cast(Tensor, result)
