"""Maximum likelihood for an ensemble on a GPU, two kernels a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tom.kernels import dynamics
from tom.kernels.launch import (
    ENSEMBLE_TILES,
    cdiv,
    ensemble_rows,
    hidden_tiles,
    outer_tiles,
    power,
    products_in,
)


def dynamics_steps(
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor,
    network: Sequence[Tensor],
    hidden: Sequence[int],
    learning_rate: float,
    weight_decay: float,
    log_var_penalty: float,
    precision: str,
) -> Tensor:
    """What `tom::dynamics_steps` says, for arguments that it has checked."""
    inputs, targets, weights = inputs.contiguous(), targets.contiguous(), weights.contiguous()
    steps, seeds, members, batch, size = inputs.shape
    outputs, layers, width, stacks = targets.shape[4], len(hidden), hidden[0], seeds * members
    flat, _, exp_avg, exp_avg_sq, step = network
    z, h, g = inputs.new_empty(3, layers, stacks, width, batch)
    g_out = inputs.new_empty(stacks, 2 * outputs, batch)
    by_rows = ensemble_rows(stacks, batch, inputs.device)
    blocks = cdiv(batch, by_rows["BM"])
    sums = inputs.new_empty(stacks, blocks, 1 + 2 * outputs)
    losses = inputs.new_empty(steps, stacks)
    tiles = (layers - 1) * hidden_tiles(width, width)
    tiles += outer_tiles(size, width, width, 2 * outputs)
    tiles += 1  # the bounds of the log-variance
    shape = {"IN": size, "D": outputs, "L": layers, "H": width, "PD": power(outputs), "B": batch}
    dot = products_in(precision)
    wide = {"PH": power(width), "INPUTS": min(by_rows["CHUNK"], power(size))}
    with torch.cuda.device_of(inputs):  # Triton launches on the current device
        for k in range(steps):
            dynamics.rows_kernel[(blocks, stacks)](
                inputs[k], targets[k], weights[k], flat, step, z, h, g, g_out, sums, stacks,
                **shape, **wide, **by_rows, **dot,
            )  # fmt: skip
            dynamics.train_kernel[(tiles, stacks)](
                inputs[k], h, g, g_out, sums, flat, exp_avg, exp_avg_sq, step, losses[k],
                learning_rate, weight_decay, log_var_penalty, stacks,
                **shape, **ENSEMBLE_TILES, **dot, BLOCKS=blocks, PB=power(blocks),
            )  # fmt: skip
    return losses.view(steps, seeds, members).mean(2).mean(0)
