"""Soft actor-critic updates on a GPU, eight kernels each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tom.kernels import sac
from tom.kernels.launch import (
    LAUNCH,
    ROWS,
    TILES,
    cdiv,
    power,
    products_in,
    train_programs,
)
from tom.kernels.layers import train_kernel


def sac_updates(
    rows: Tensor,
    noise: Tensor,
    actor: Sequence[Tensor],
    critic: Sequence[Tensor],
    temperature: Sequence[Tensor],
    target: Tensor,
    scale: Tensor,
    center: Tensor,
    observations: int,
    hidden: Sequence[int],
    discount: float,
    tau: float,
    target_entropy: float,
    learning_rate: float,
    log_std_min: float,
    log_std_max: float,
    precision: str,
) -> Tensor:
    """What `tom::sac_updates` says, for arguments that it has checked."""
    rows, noise = rows.contiguous(), noise.contiguous()
    scale, center = scale.contiguous(), center.contiguous()
    updates, seeds, batch, width = rows.shape
    actions = scale.numel()
    (h1, h2), inputs = hidden, observations + actions
    dot = products_in(precision)
    sizes = {"OBS": observations, "ACT": actions, "H1": h1, "H2": h2, "B": batch}
    back = {"P1": power(h1)}
    forward = {
        **sizes,
        "P2": power(h2),
        **ROWS,
        **dot,
        "INPUTS": min(ROWS["CHUNK"], power(inputs)),
    }
    training = {"H1": h1, "H2": h2, "B": batch, "W": width, **TILES, **dot}
    of_actions = {"PA": power(actions)}
    outputs = power(2 * actions)
    way_back = {"POUT": outputs, **ROWS, **dot}
    if outputs > 64:  # with more stages a small GPU's shared memory does not hold it
        way_back["num_stages"] = 2

    def new(*shape: int) -> Tensor:
        return rows.new_empty(shape)

    actor_h1, actor_h2 = new(seeds, h1, 2 * batch), new(seeds, h2, 2 * batch)
    actor_g1, actor_g2 = new(seeds, h1, 2 * batch), new(seeds, h2, 2 * batch)
    actor_g3 = new(seeds, 2 * actions, 2 * batch)
    critic_h1, critic_h2 = new(seeds, 2, h1, batch), new(seeds, 2, h2, batch)
    critic_g1, critic_g2 = new(seeds, 2, h1, batch), new(seeds, 2, h2, batch)
    critic_g3, error, next_q, q = (new(seeds, 2, batch) for _ in range(4))
    action, spread, squashed, raw = (new(seeds, 2 * batch, actions) for _ in range(4))
    slope = new(seeds, 2, batch, actions)
    log_prob, alpha, entropy = new(seeds, 2 * batch), new(seeds), new(seeds)
    log_alpha = temperature[0]

    both, half = cdiv(2 * batch, ROWS["BM"]), cdiv(batch, ROWS["BM"])
    with torch.cuda.device_of(rows):  # Triton launches on the current device
        for g in range(updates):
            step_rows, step_noise = rows[g], noise[g]
            sac.sample_kernel[(both, seeds)](
                step_rows, step_noise, actor[0], scale, center, actor[4], critic[4], temperature[4],
                actor_h1, actor_h2, action, log_prob, spread, squashed, raw,
                seeds, log_std_min, log_std_max,
                **forward, **of_actions,
            )  # fmt: skip
            sac.target_kernel[(half, 2 * seeds)](
                step_rows, action, target, next_q, seeds,
                **forward,
            )  # fmt: skip
            sac.critic_kernel[(half, 2 * seeds)](
                step_rows, critic[0], next_q, log_prob, log_alpha,
                critic_h1, critic_h2, critic_g1, critic_g2, critic_g3, error, seeds, discount,
                **forward, **back,
            )  # fmt: skip
            train_kernel[(train_programs(inputs, hidden, 1), 2 * seeds)](
                step_rows, critic_h1, critic_h2, critic_g1, critic_g2, critic_g3,
                critic[0], critic[2], critic[3], critic[4], target, learning_rate, tau, 0.0,
                2 * seeds, **training, MEMBERS=2, IN=inputs,
                OUT=1, R=batch, FOLLOW=True,
            )  # fmt: skip
            sac.action_value_kernel[(half, 2 * seeds)](
                step_rows, action, critic[0], critic_h1, critic_h2, critic_g1, q, slope, seeds,
                **forward, **back, **of_actions,
            )  # fmt: skip
            sac.actor_kernel[(half, seeds)](
                actor[0], q, slope, log_alpha, scale, spread, squashed, raw,
                actor_h1, actor_h2, actor_g1, actor_g2, actor_g3, seeds, log_std_min, log_std_max,
                **sizes, **back, **of_actions, **way_back,
            )  # fmt: skip
            train_kernel[(train_programs(observations, hidden, 2 * actions), seeds)](
                step_rows, actor_h1, actor_h2, actor_g1, actor_g2, actor_g3,
                actor[0], actor[2], actor[3], actor[4], actor[0], learning_rate, tau, 0.0,
                seeds, **training, MEMBERS=1, IN=observations,
                OUT=2 * actions, R=2 * batch, FOLLOW=False,
            )  # fmt: skip
            sac.temperature_kernel[(seeds,)](
                log_prob, log_alpha, temperature[2], temperature[3], temperature[4], alpha, entropy,
                learning_rate, target_entropy, B=batch, PB=power(batch), **LAUNCH,
            )  # fmt: skip
    critic_loss = error.square().mean(2).sum(1)
    actor_loss = (alpha.unsqueeze(1) * log_prob[:, :batch] - q.amin(1)).mean(1)
    return torch.stack([critic_loss, actor_loss, alpha, entropy])
