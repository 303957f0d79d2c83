"""Maximum likelihood for an ensemble on a GPU, two kernels a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from tom.kernels import dynamics
from tom.kernels.layers import power

# The fastest of those tried on an H200, see sac_updates.py.
ROWS = {"BM": 16, "CHUNK": 32}
ROW_LAUNCH = {"num_warps": 4, "num_stages": 3}
TILES = {"TK": 64, "TN": 32, "TB": 32}
TILE_LAUNCH = {"num_warps": 4, "num_stages": 3}


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
    blocks = triton.cdiv(batch, ROWS["BM"])
    sums = inputs.new_empty(stacks, blocks, 1 + 2 * outputs)
    losses = inputs.new_empty(steps, stacks)
    tiles = (
        (layers - 1) * triton.cdiv(width, TILES["TK"]) * triton.cdiv(width, TILES["TN"])
        + triton.cdiv(size, 16) * triton.cdiv(width, TILES["TN"])
        + triton.cdiv(width, TILES["TK"]) * triton.cdiv(2 * outputs, 16)
        + 1
    )
    shape = {"IN": size, "D": outputs, "L": layers, "H": width, "PD": power(outputs), "B": batch}
    dot = {"PRECISION": "tf32" if precision == "tf32" else "tf32x3"}
    wide = {"PH": power(width), "INPUTS": min(32, power(size))}
    with torch.cuda.device_of(inputs):  # Triton launches on the current device
        for k in range(steps):
            dynamics.rows_kernel[(blocks, stacks)](
                inputs[k], targets[k], weights[k], flat, step, z, h, g, g_out, sums, stacks,
                **shape, **wide, **ROWS, **dot, **ROW_LAUNCH,
            )  # fmt: skip
            dynamics.train_kernel[(tiles, stacks)](
                inputs[k], h, g, g_out, sums, flat, exp_avg, exp_avg_sq, step, losses[k],
                learning_rate, weight_decay, log_var_penalty, stacks,
                **shape, **TILES, **dot, **TILE_LAUNCH, BLOCKS=blocks, PB=power(blocks),
            )  # fmt: skip
    return losses.view(steps, seeds, members).mean(2).mean(0)
