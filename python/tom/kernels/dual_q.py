"""A step on the dual objective (22) as three kernels, in Triton.

`tom.kernels.dual_q_steps` launches them, the third being `train_kernel` of `tom.kernels.layers`;
`tom.dual_q.DualQ._step` says what they compute. A seed has R = B (1 + 2 P) inputs: (s, a), then P
actions in each s', then P in each initial state.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tom.kernels.layers import back_to_first, hidden_layers, layers_of


@triton.jit(do_not_specialize=["seeds"])
def value_kernel(
    inputs, flat, step, h1, h2, q, seeds,
    IN: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P2: tl.constexpr,
    R: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Q of all inputs, `q` [S, R]; counts Adam's step."""
    seed = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < R
    w1, b1, w2, b2, w3, b3 = layers_of(flat, seed, seeds, IN, H1, H2, 1)
    row_at = inputs + (seed * R + m) * IN
    hidden = hidden_layers(
        row_at, row_at, valid, w1, b1, w2, b2, m, h1 + seed * (H1 * R),
        IN, IN, H1, H2, P2, R, BM, CHUNK, INPUTS, True, PRECISION,
    )  # fmt: skip
    j = tl.arange(0, P2)
    tl.store(
        h2 + (seed * H2 + j[None, :]) * R + m[:, None],
        hidden,
        mask=valid[:, None] & (j < H2)[None, :],
    )
    last = tl.load(w3 + j, mask=j < H2, other=0.0)[None, :]
    tl.store(q + seed * R + m, tl.sum(hidden * last, 1) + tl.load(b3), mask=valid)
    if (tl.program_id(0) == 0) & (seed == 0):
        tl.store(step, tl.load(step) + 1)


@triton.jit
def delta_of(
    b, here, q, rewards, go_on, start, discount,
    B: tl.constexpr, SAMPLES: tl.constexpr, RESTART: tl.constexpr,
):  # fmt: skip
    """δ of rows b, and the weights in it of V(s') and, under the restart, of V(s0)."""
    following = tl.zeros_like(start + b)
    for p in range(SAMPLES):
        following += tl.load(q + B + b * SAMPLES + p, mask=here, other=0.0)
    weight = discount * tl.load(go_on + b, mask=here, other=0.0)
    own = tl.load(q + b, mask=here, other=0.0)
    delta = tl.load(rewards + b, mask=here, other=0.0) + weight * (following / SAMPLES) - own
    restart_weight = discount - weight
    if RESTART:
        delta += restart_weight * start
    return delta, weight, restart_weight


@triton.jit
def conjugate_slope(delta, factor, QUADRATIC: tl.constexpr):
    """f*'(δ) of ½(x − 1)², where the factor is 1, or of (x − 1)², where it is ½."""
    slope = 1 + factor * delta
    if not QUADRATIC:
        slope = tl.where(slope < 0, 0.0, slope)
    return slope


@triton.jit(do_not_specialize=["seeds"], do_not_specialize_on_alignment=["start_out"])
def gradient_kernel(
    rewards, go_on, flat, q, h1, h2, g1, g2, g3, delta_out, start_out, seeds, discount,
    start_share, factor,
    IN: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P1: tl.constexpr,
    B: tl.constexpr, PB: tl.constexpr, PS: tl.constexpr, R: tl.constexpr, SAMPLES: tl.constexpr,
    QUADRATIC: tl.constexpr, RESTART: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """δ, the objective's gradient in Q, and the way back as far as the layers.

    Every program finds what is a mean over the batch by itself, from the numbers of Q.
    `start_share` is 1 − γ, of which float32 would keep few digits.
    """
    block, seed = tl.program_id(0), tl.program_id(1)
    m = block * BM + tl.arange(0, BM)
    valid = m < R
    _, _, w2, _, w3, _ = layers_of(flat, seed, seeds, IN, H1, H2, 1)
    q += seed * R
    rewards += seed * B
    go_on += seed * B
    all_starts, all_rows = tl.arange(0, PS), tl.arange(0, PB)
    starts = tl.load(q + B * (1 + SAMPLES) + all_starts, mask=all_starts < B * SAMPLES, other=0.0)
    start = tl.sum(starts, 0) / (B * SAMPLES)
    grad_start = start_share / (B * SAMPLES)
    in_rows = all_rows < B
    delta, weight, restart_weight = delta_of(
        all_rows, in_rows, q, rewards, go_on, start, discount, B, SAMPLES, RESTART
    )
    if RESTART:
        through = restart_weight * conjugate_slope(delta, factor, QUADRATIC) / B
        grad_start += tl.sum(tl.where(in_rows, through, 0.0), 0) / (B * SAMPLES)
    if block == 0:
        tl.store(delta_out + seed * B + all_rows, delta, mask=in_rows)
        tl.store(start_out + seed, start)

    of_row, of_next = m < B, (m >= B) & (m < B * (1 + SAMPLES))
    b = tl.where(of_row, m, (m - B) // SAMPLES)
    delta, weight, restart_weight = delta_of(
        b, of_row | of_next, q, rewards, go_on, start, discount, B, SAMPLES, RESTART
    )
    slope = conjugate_slope(delta, factor, QUADRATIC) / B
    grad = tl.where(of_row, -slope, tl.where(of_next, weight * slope / SAMPLES, grad_start))
    grad = tl.where(valid, grad, 0.0)
    tl.store(g3 + seed * R + m, grad, mask=valid)
    only = tl.where((tl.arange(0, 16) == 0)[None, :], grad[:, None], 0.0)
    back_to_first(
        only, w2, w3, m, valid, h1 + seed * (H1 * R), h2 + seed * (H2 * R),
        g1 + seed * (H1 * R), g2 + seed * (H2 * R),
        H1, H2, P1, 1, 16, R, BM, CHUNK, True, PRECISION,
    )  # fmt: skip
