"""Steps on the dual objective on a GPU, three kernels each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tom.kernels import dual_q
from tom.kernels.launch import (
    ROWS,
    TILES,
    cdiv,
    power,
    products_in,
    train_programs,
)
from tom.kernels.layers import train_kernel


def dual_q_steps(
    inputs: Tensor,
    rewards: Tensor,
    go_on: Tensor,
    network: Sequence[Tensor],
    hidden: Sequence[int],
    samples: int,
    divergence: str,
    quadratic: bool,
    restart: bool,
    discount: float,
    learning_rate: float,
    l2: float,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """What `tom::dual_q_steps` says, for arguments that it has checked and a divergence of χ²."""
    inputs, rewards, go_on = inputs.contiguous(), rewards.contiguous(), go_on.contiguous()
    steps, seeds, rows, size = inputs.shape
    batch, (h1, h2) = rewards.shape[2], hidden
    flat, _, exp_avg, exp_avg_sq, step = network
    hidden_1, grad_1 = inputs.new_empty(2, seeds, h1, rows)
    hidden_2, grad_2 = inputs.new_empty(2, seeds, h2, rows)
    q, grad_q = inputs.new_empty(2, seeds, rows)
    deltas, starts = torch.empty_like(rewards), inputs.new_empty(steps, seeds)
    factor = {"chi2": 1.0, "chi2_bound": 0.5}[divergence]
    dot = products_in(precision)
    shape = {"IN": size, "H1": h1, "H2": h2, "R": rows}
    by_rows = {**shape, **ROWS, **dot}
    objective = {"B": batch, "SAMPLES": samples, "QUADRATIC": quadratic, "RESTART": restart}
    powers = {"PB": power(batch), "PS": power(batch * samples)}
    blocks = cdiv(rows, ROWS["BM"])
    with torch.cuda.device_of(inputs):  # Triton launches on the current device
        for k in range(steps):
            dual_q.value_kernel[(blocks, seeds)](
                inputs[k], flat, step, hidden_1, hidden_2, q, seeds,
                **by_rows, P2=power(h2), INPUTS=min(ROWS["CHUNK"], power(size)),
            )  # fmt: skip
            dual_q.gradient_kernel[(blocks, seeds)](
                rewards[k], go_on[k], flat, q, hidden_1, hidden_2, grad_1, grad_2, grad_q,
                deltas[k], starts[k], seeds, discount, 1 - discount, factor,
                **by_rows, P1=power(h1), **objective, **powers,
            )  # fmt: skip
            train_kernel[(train_programs(size, hidden, 1), seeds)](
                inputs[k], hidden_1, hidden_2, grad_1, grad_2, grad_q,
                flat, exp_avg, exp_avg_sq, step, flat, learning_rate, 0.0, 2 * l2, seeds,
                **shape, **TILES, **dot,
                MEMBERS=1, W=size, OUT=1, B=rows, FOLLOW=False,
            )  # fmt: skip
    return deltas, starts
