"""A step of the ensemble's weighted maximum likelihood as two kernels, in Triton.

`tom.kernels.dynamics_steps` launches them; `tom.dynamics.DynamicsEnsemble._step` says what they
compute. The networks have L hidden layers of one width H with SiLU between; what a layer leaves for
the way back and for the gradients is transposed, see `tom.kernels.layers`: before it `z`, after it
`h`, and d/dz `g`, each [L, S M, H, B], and d/d output `g_out` [S M, 2 D, B].
"""

from __future__ import annotations

import triton
import triton.language as tl

from tom.kernels.layers import adam, bias_corrections, times_rows, train_layer


@triton.jit
def softplus(u):
    """log(1 + e^u), without overflow."""
    return tl.where(u > 0, u, 0.0) + tl.log(1 + tl.exp(-tl.abs(u)))


@triton.jit
def silu_slope(z):
    """d/dz of z σ(z)."""
    s = tl.sigmoid(z)
    return s * (1 + z * (1 - s))


@triton.jit(do_not_specialize=["stacks"])
def rows_kernel(
    inputs, targets, weights, flat, step, z, h, g, g_out, sums, stacks,
    IN: tl.constexpr, D: tl.constexpr, L: tl.constexpr, H: tl.constexpr, PH: tl.constexpr,
    PD: tl.constexpr, B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows through all layers, their likelihood, and the way back; counts Adam's step.

    Of each block of rows `sums` [S M, blocks, 1 + 2 D] tells the loss and the gradients of the
    log-variance's lower and upper bounds.
    """
    OUT: tl.constexpr = 2 * D
    block, stack = tl.program_id(0), tl.program_id(1)
    m = block * BM + tl.arange(0, BM)
    valid = m < B
    n = tl.arange(0, PH)
    at, here = n[None, :] * B + m[:, None], valid[:, None] & (n < H)[None, :]
    per_layer = stacks * (H * B)
    z += stack * (H * B)
    h += stack * (H * B)
    g += stack * (H * B)

    acc = tl.zeros((BM, PH), tl.float32)
    for first in range(0, IN, INPUTS):
        k = first + tl.arange(0, INPUTS)
        x = tl.load(
            inputs + (stack * B + m)[:, None] * IN + k[None, :],
            mask=valid[:, None] & (k < IN)[None, :],
            other=0.0,
        )
        w = tl.load(
            flat + stack * (IN * H) + k[:, None] * H + n[None, :],
            mask=(k < IN)[:, None] & (n < H)[None, :],
            other=0.0,
        )
        acc = tl.dot(x, w, acc, input_precision=PRECISION)
    bias = flat + stacks * (IN * H) + stack * H
    weight = flat + stacks * ((IN + 1) * H) + stack * (H * H)
    for below in tl.static_range(L):
        acc += tl.load(bias + n, mask=n < H, other=0.0)[None, :]
        tl.store(z + below * per_layer + at, acc, mask=here)
        tl.store(h + at, acc * tl.sigmoid(acc), mask=here)
        if below + 1 < L:
            acc, _ = times_rows(h, weight, H, 1, m, valid, H, H, PH, 1, B, BM, CHUNK, PRECISION)
            h += per_layer
            bias = weight + (stacks - stack) * (H * H) + stack * H
            weight += stacks * ((H + 1) * H)

    # `weight` would be that of another hidden layer: the last layer's begin where it does.
    last = weight - stack * (H * H)
    last_bias = last + stacks * (H * OUT) + stack * OUT
    bounds = last + stacks * ((H + 1) * OUT) + stack * D
    last += stack * (H * OUT)
    d = tl.arange(0, PD)
    in_d = d < D
    mean, log_var = times_rows(h, last, OUT, 1, m, valid, H, D, PD, 2, B, BM, CHUNK, PRECISION)
    mean += tl.load(last_bias + d, mask=in_d, other=0.0)[None, :]
    log_var += tl.load(last_bias + D + d, mask=in_d, other=0.0)[None, :]
    lower = tl.load(bounds + d, mask=in_d, other=0.0)[None, :]
    upper = tl.load(bounds + stacks * D + d, mask=in_d, other=0.0)[None, :]

    row_at, in_row = (stack * B + m)[:, None] * D + d[None, :], valid[:, None] & in_d[None, :]
    below_max = upper - log_var
    above_min = upper - softplus(below_max) - lower
    log_var = lower + softplus(above_min)
    error = mean - tl.load(targets + row_at, mask=in_row, other=0.0)
    precise = error * tl.exp(-log_var)
    squared = error * precise
    share = tl.load(weights + stack * B + m, mask=valid, other=0.0)[:, None] / (B * D)
    grad_lower = 0.5 * share * (1 - squared)
    grad_upper = grad_lower * tl.sigmoid(above_min)
    grad_log_var = grad_upper * tl.sigmoid(below_max)
    g_out += stack * (OUT * B)
    out_at = g_out + d[None, :] * B + m[:, None]
    tl.store(out_at, share * precise, mask=in_row)
    tl.store(out_at + D * B, grad_log_var, mask=in_row)
    sums += (stack * tl.num_programs(0) + block) * (1 + OUT)
    loss = tl.where(in_row, 0.5 * share * (squared + log_var), 0.0)
    tl.store(sums, tl.sum(tl.sum(loss, 1), 0))
    of_lower = tl.sum(tl.where(in_row, grad_lower - grad_upper, 0.0), 0)
    of_upper = tl.sum(tl.where(in_row, grad_upper - grad_log_var, 0.0), 0)
    tl.store(sums + 1 + d, of_lower, mask=in_d)
    tl.store(sums + 1 + D + d, of_upper, mask=in_d)

    acc, _ = times_rows(g_out, last, 1, OUT, m, valid, OUT, H, PH, 1, B, BM, CHUNK, PRECISION)
    z += (L - 1) * per_layer
    g += (L - 1) * per_layer
    for above in tl.static_range(L):
        before = tl.load(z + at, mask=here, other=0.0)
        tl.store(g + at, acc * silu_slope(before), mask=here)
        if above + 1 < L:
            weight -= stacks * ((H + 1) * H)
            acc, _ = times_rows(g, weight, 1, H, m, valid, H, H, PH, 1, B, BM, CHUNK, PRECISION)
            z -= per_layer
            g -= per_layer
    if (block == 0) & (stack == 0):
        tl.store(step, tl.load(step) + 1)


@triton.jit(do_not_specialize=["stacks"], do_not_specialize_on_alignment=["loss"])
def train_kernel(
    inputs, h, g, g_out, sums, flat, exp_avg, exp_avg_sq, step, loss, learning_rate, decay, penalty,
    stacks,
    IN: tl.constexpr, D: tl.constexpr, L: tl.constexpr, H: tl.constexpr, PD: tl.constexpr,
    B: tl.constexpr, BLOCKS: tl.constexpr, PB: tl.constexpr, TK: tl.constexpr, TN: tl.constexpr,
    TB: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of all layers and of the bounds, and Adam's step on them; `loss` [S M]."""
    OUT: tl.constexpr = 2 * D
    # Constants that are functions of constants: (x + n - 1) // n is ⌈x / n⌉.
    hidden_tiles: tl.constexpr = ((H + TK - 1) // TK) * ((H + TN - 1) // TN)
    first_tiles: tl.constexpr = ((IN + 15) // 16) * ((H + TN - 1) // TN)
    last_tiles: tl.constexpr = ((H + TK - 1) // TK) * ((OUT + 15) // 16)
    tile, stack = tl.program_id(0), tl.program_id(1)
    rate, root = bias_corrections(step, learning_rate)
    per_layer = stacks * (H * B)
    second = stacks * ((IN + 1) * H)  # where the second layer begins
    last = second + (L - 1) * stacks * ((H + 1) * H)
    h += stack * (H * B)
    g += stack * (H * B)
    if tile < (L - 1) * hidden_tiles:
        layer = 1 + tile // hidden_tiles
        weights = second + (layer - 1) * stacks * ((H + 1) * H)
        train_layer(
            tile % hidden_tiles, h + (layer - 1) * per_layer, B, 1, g + layer * per_layer,
            weights + stack * (H * H), weights + stacks * (H * H) + stack * H,
            rate, root, decay, decay, flat, exp_avg, exp_avg_sq, flat, 0.0,
            H, H, B, B, TK, TN, TB, False, PRECISION,
        )  # fmt: skip
    elif tile < (L - 1) * hidden_tiles + first_tiles:
        train_layer(
            tile - (L - 1) * hidden_tiles, inputs + stack * (B * IN), 1, IN, g,
            stack * (IN * H), stacks * (IN * H) + stack * H,
            rate, root, decay, decay, flat, exp_avg, exp_avg_sq, flat, 0.0,
            IN, H, B, B, 16, TN, TB, False, PRECISION,
        )  # fmt: skip
    elif tile < (L - 1) * hidden_tiles + first_tiles + last_tiles:
        train_layer(
            tile - (L - 1) * hidden_tiles - first_tiles, h + (L - 1) * per_layer, B, 1,
            g_out + stack * (OUT * B), last + stack * (H * OUT),
            last + stacks * (H * OUT) + stack * OUT,
            rate, root, decay, decay, flat, exp_avg, exp_avg_sq, flat, 0.0,
            H, OUT, B, B, TK, 16, TB, False, PRECISION,
        )  # fmt: skip
    else:
        b, d = tl.arange(0, PB), tl.arange(0, PD)
        sums_at = sums + (stack * BLOCKS + b) * (1 + OUT)
        losses = tl.load(sums_at, mask=b < BLOCKS, other=0.0)
        tl.store(loss + stack, tl.sum(losses, 0))
        bounds_at, in_d = sums_at[:, None] + 1 + d[None, :], d < D
        in_sums = (b < BLOCKS)[:, None] & in_d[None, :]
        of_lower = tl.sum(tl.load(bounds_at, mask=in_sums, other=0.0), 0)
        of_upper = tl.sum(tl.load(bounds_at + D, mask=in_sums, other=0.0), 0)
        # The penalty is penalty * sum(upper − lower); the decay is the layers' alone.
        at = last + stacks * ((H + 1) * OUT) + stack * D + d
        adam(
            at, in_d, of_lower - penalty,
            rate, root, 0.0, flat, exp_avg, exp_avg_sq, flat, 0.0, False,
        )  # fmt: skip
        adam(
            at + stacks * D, in_d, of_upper + penalty,
            rate, root, 0.0, flat, exp_avg, exp_avg_sq, flat, 0.0, False,
        )  # fmt: skip
