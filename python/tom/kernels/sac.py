"""An update of soft actor-critic as eight kernels, in Triton.

`tom.kernels.sac_updates` launches them in this order, and behind each network's gradients
`train_kernel` of `tom.kernels.layers`; `tom.sac.SAC._update` says what they compute. Each network
reads rows [s | a | s' | r | terminated], `rows` [S, B, W]; what the kernels leave for each other is
transposed, see `tom.kernels.layers`. Programs: blocks of rows along axis 0, networks [S, M] along
axis 1. What belongs to the actions in s and then in s' is [S, 2B, ...]: `noise`, `action`,
`log_prob`, and for the way back `spread` (σ times the noise), `squashed` (tanh) and `raw` (log σ
before it is clamped); so are the actor's hidden layers h1, h2 and their gradients g1, g2, g3. The
critics' are [S, 2, ..., B], and `error` and their g3 [S, 2, B].
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from tom.kernels.layers import (
    adam,
    back_to_first,
    bias_corrections,
    hidden_layers,
    layers_of,
    times_rows,
)

# Of the log-density of one action: of 1 − tanh² and of the Gaussian.
LOG_CONSTANT = tl.constexpr(-2 * math.log(2) - 0.5 * math.log(2 * math.pi))


@triton.jit(do_not_specialize=["seeds"])
def sample_kernel(
    rows, noise, flat, scale, center, actor_step, critic_step, temperature_step,
    h1, h2, action, log_prob, spread, squashed, raw, seeds, low, high,
    OBS: tl.constexpr, ACT: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P2: tl.constexpr,
    PA: tl.constexpr, B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr,
    INPUTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Actions in s (the first B) and in s', with log-densities; counts Adam's steps."""
    W: tl.constexpr = 2 * OBS + ACT + 2
    OUT: tl.constexpr = 2 * ACT
    R: tl.constexpr = 2 * B
    seed = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < 2 * B
    w1, b1, w2, b2, w3, b3 = layers_of(flat, seed, seeds, OBS, H1, H2, OUT)
    row_at = rows + (seed * B + m % B) * W + tl.where(m < B, 0, OBS + ACT)
    hidden = hidden_layers(
        row_at, row_at, valid, w1, b1, w2, b2, m, h1 + seed * (H1 * R),
        OBS, OBS, H1, H2, P2, R, BM, CHUNK, INPUTS, True, PRECISION,
    )  # fmt: skip
    j, a = tl.arange(0, P2), tl.arange(0, PA)
    h2 += seed * (H2 * R)
    at, here = j[None, :] * R + m[:, None], valid[:, None] & (j < H2)[None, :]
    tl.store(h2 + at, hidden, mask=here)
    mean, log_std = times_rows(h2, w3, OUT, 1, m, valid, H2, ACT, PA, 2, R, BM, CHUNK, PRECISION)
    mean += tl.load(b3 + a, mask=a < ACT, other=0.0)[None, :]
    log_std += tl.load(b3 + ACT + a, mask=a < ACT, other=0.0)[None, :]

    at, here = (seed * (2 * B) + m)[:, None] * ACT + a[None, :], valid[:, None] & (a < ACT)[None, :]
    tl.store(raw + at, log_std, mask=here)
    log_std = tl.where(log_std < low, low, tl.where(log_std > high, high, log_std))
    drawn = tl.load(noise + at, mask=here, other=0.0)
    times = tl.exp(log_std) * drawn
    u = mean + times
    e = tl.exp(-2 * tl.abs(u))
    t = (1 - e) / (1 + e)
    t = tl.where(u < 0, -t, t)
    # log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), and u + softplus(−2u) = |u| + log(1 + e).
    terms = 2 * (tl.abs(u) + tl.log(1 + e)) - log_std - 0.5 * drawn * drawn + LOG_CONSTANT
    tl.store(spread + at, times, mask=here)
    tl.store(squashed + at, t, mask=here)
    low_to_high = tl.load(scale + a, mask=a < ACT, other=0.0)[None, :]
    middle = tl.load(center + a, mask=a < ACT, other=0.0)[None, :]
    tl.store(action + at, t * low_to_high + middle, mask=here)
    log_probs = tl.sum(tl.where((a < ACT)[None, :], terms, 0.0), 1)
    tl.store(log_prob + seed * (2 * B) + m, log_probs, mask=valid)
    if (tl.program_id(0) == 0) & (seed == 0):
        tl.store(actor_step, tl.load(actor_step) + 1)
        tl.store(critic_step, tl.load(critic_step) + 1)
        tl.store(temperature_step, tl.load(temperature_step) + 1)


@triton.jit(do_not_specialize=["seeds"])
def target_kernel(
    rows, action, target, next_q, seeds,
    OBS: tl.constexpr, ACT: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P2: tl.constexpr,
    B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Both targets' values of (s', a'), `next_q` [S, 2, B]."""
    W: tl.constexpr = 2 * OBS + ACT + 2
    stack = tl.program_id(1)
    seed = stack // 2
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < B
    w1, b1, w2, b2, w3, b3 = layers_of(target, stack, 2 * seeds, OBS + ACT, H1, H2, 1)
    hidden = hidden_layers(
        rows + (seed * B + m) * W + OBS + ACT, action + (seed * (2 * B) + B + m) * ACT, valid,
        w1, b1, w2, b2, m, next_q,
        OBS, OBS + ACT, H1, H2, P2, B, BM, CHUNK, INPUTS, False, PRECISION,
    )  # fmt: skip
    j = tl.arange(0, P2)
    q = tl.sum(hidden * tl.load(w3 + j, mask=j < H2, other=0.0)[None, :], 1) + tl.load(b3)
    tl.store(next_q + stack * B + m, q, mask=valid)


@triton.jit(do_not_specialize=["seeds"])
def critic_kernel(
    rows, flat, next_q, log_prob, log_alpha, h1, h2, g1, g2, g3, error, seeds, discount,
    OBS: tl.constexpr, ACT: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P1: tl.constexpr,
    P2: tl.constexpr,
    B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, INPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Q(s, a), its distance from the target, and the way back as far as the layers."""
    W: tl.constexpr = 2 * OBS + ACT + 2
    stack = tl.program_id(1)
    seed = stack // 2
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < B
    w1, b1, w2, b2, w3, b3 = layers_of(flat, stack, 2 * seeds, OBS + ACT, H1, H2, 1)
    row_at = rows + (seed * B + m) * W
    h1 += stack * (H1 * B)
    hidden = hidden_layers(
        row_at, row_at, valid, w1, b1, w2, b2, m, h1,
        OBS + ACT, OBS + ACT, H1, H2, P2, B, BM, CHUNK, INPUTS, True, PRECISION,
    )  # fmt: skip
    j = tl.arange(0, P2)
    last = tl.load(w3 + j, mask=j < H2, other=0.0)[None, :]
    q = tl.sum(hidden * last, 1) + tl.load(b3)

    q_at = next_q + seed * (2 * B) + m
    one, other = tl.load(q_at, mask=valid, other=0.0), tl.load(q_at + B, mask=valid, other=0.0)
    smaller = tl.where((one < other) | (one != one), one, other)
    log_probs = tl.load(log_prob + seed * (2 * B) + B + m, mask=valid, other=0.0)
    value = smaller - tl.exp(tl.load(log_alpha + seed)) * log_probs
    reward = tl.load(row_at + W - 2, mask=valid, other=0.0)
    terminated = tl.load(row_at + W - 1, mask=valid, other=0.0)
    wrong = q - (reward + discount * (1 - terminated) * value)
    tl.store(error + stack * B + m, wrong, mask=valid)

    grad = tl.where(valid, wrong * (2.0 / B), 0.0)
    tl.store(g3 + stack * B + m, grad, mask=valid)
    h2 += stack * (H2 * B)
    tl.store(h2 + j[None, :] * B + m[:, None], hidden, mask=valid[:, None] & (j < H2)[None, :])
    only = tl.where((tl.arange(0, 16) == 0)[None, :], grad[:, None], 0.0)
    back_to_first(
        only, w2, w3, m, valid, h1, h2, g1 + stack * (H1 * B), g2 + stack * (H2 * B),
        H1, H2, P1, 1, 16, B, BM, CHUNK, True, PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=["seeds"])
def action_value_kernel(
    rows, action, flat, h1, h2, g1, q, slope, seeds,
    OBS: tl.constexpr, ACT: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P1: tl.constexpr,
    P2: tl.constexpr,
    PA: tl.constexpr, B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr,
    INPUTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Both critics' values `q` [S, 2, B] of the policy's actions in s, and dq/da [S, 2, B, A]."""
    W: tl.constexpr = 2 * OBS + ACT + 2
    stack = tl.program_id(1)
    seed = stack // 2
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < B
    w1, b1, w2, b2, w3, b3 = layers_of(flat, stack, 2 * seeds, OBS + ACT, H1, H2, 1)
    h1 += stack * (H1 * B)
    hidden = hidden_layers(
        rows + (seed * B + m) * W, action + (seed * (2 * B) + m) * ACT, valid,
        w1, b1, w2, b2, m, h1,
        OBS, OBS + ACT, H1, H2, P2, B, BM, CHUNK, INPUTS, True, PRECISION,
    )  # fmt: skip
    j, a = tl.arange(0, P2), tl.arange(0, PA)
    last = tl.load(w3 + j, mask=j < H2, other=0.0)[None, :]
    value = tl.sum(hidden * last, 1) + tl.load(b3)
    tl.store(q + stack * B + m, value, mask=valid)
    h2 += stack * (H2 * B)
    tl.store(h2 + j[None, :] * B + m[:, None], hidden, mask=valid[:, None] & (j < H2)[None, :])
    only = tl.where((tl.arange(0, 16) == 0)[None, :] & valid[:, None], 1.0, 0.0)
    g1 += stack * (H1 * B)
    back_to_first(
        only, w2, w3, m, valid, h1, h2, g1, g1,
        H1, H2, P1, 1, 16, B, BM, CHUNK, False, PRECISION,
    )  # fmt: skip
    grad, _ = times_rows(
        g1, w1 + OBS * H1, 1, H1, m, valid, H1, ACT, PA, 1, B, BM, CHUNK, PRECISION
    )
    at = (stack * B + m)[:, None] * ACT + a[None, :]
    tl.store(slope + at, grad, mask=valid[:, None] & (a < ACT)[None, :])


@triton.jit(do_not_specialize=["seeds"])
def actor_kernel(
    flat, q, slope, log_alpha, scale, spread, squashed, raw, h1, h2, g1, g2, g3, seeds, low, high,
    OBS: tl.constexpr, ACT: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P1: tl.constexpr,
    PA: tl.constexpr, POUT: tl.constexpr, B: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The way back from mean(α log π − min Q) through the actor's actions in s."""
    OUT: tl.constexpr = 2 * ACT
    R: tl.constexpr = 2 * B
    seed = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < B
    _, _, w2, _, w3, _ = layers_of(flat, seed, seeds, OBS, H1, H2, OUT)
    a = tl.arange(0, PA)

    # The smaller value takes the gradient; of equals each takes half, as in torch.amin.
    q_at = q + seed * (2 * B) + m
    one, other = tl.load(q_at, mask=valid, other=0.0), tl.load(q_at + B, mask=valid, other=0.0)
    share = tl.where(one < other, 1.0, tl.where(one > other, 0.0, 0.5)) / B
    here = valid[:, None] & (a < ACT)[None, :]
    slope_at = slope + (seed * (2 * B) + m)[:, None] * ACT + a[None, :]
    grad_action = -share[:, None] * tl.load(slope_at, mask=here, other=0.0)
    grad_action -= (1.0 / B - share)[:, None] * tl.load(slope_at + B * ACT, mask=here, other=0.0)

    at = (seed * (2 * B) + m)[:, None] * ACT + a[None, :]
    t = tl.load(squashed + at, mask=here, other=0.0)
    log_std = tl.load(raw + at, mask=here, other=0.0)
    grad_log_prob = tl.exp(tl.load(log_alpha + seed)) / B
    grad_mean = grad_action * tl.load(scale + a, mask=a < ACT, other=0.0)[None, :] * (1 - t * t)
    grad_mean += 2 * t * grad_log_prob
    grad_log_std = grad_mean * tl.load(spread + at, mask=here, other=0.0) - grad_log_prob
    grad_mean = tl.where(here, grad_mean, 0.0)
    grad_log_std = tl.where(here & (log_std >= low) & (log_std <= high), grad_log_std, 0.0)
    g3 += seed * (OUT * R)
    g3_at = g3 + a[None, :] * R + m[:, None]
    tl.store(g3_at, grad_mean, mask=here)
    tl.store(g3_at + ACT * R, grad_log_std, mask=here)
    tl.debug_barrier()
    o = tl.arange(0, POUT)
    grad = tl.load(
        g3 + o[None, :] * R + m[:, None], mask=valid[:, None] & (o < OUT)[None, :], other=0.0
    )
    back_to_first(
        grad, w2, w3, m, valid, h1 + seed * (H1 * R), h2 + seed * (H2 * R),
        g1 + seed * (H1 * R), g2 + seed * (H2 * R),
        H1, H2, P1, OUT, POUT, R, BM, CHUNK, True, PRECISION,
    )  # fmt: skip


@triton.jit
def temperature_kernel(
    log_prob, log_alpha, exp_avg, exp_avg_sq, step, alpha, entropy, learning_rate, target_entropy,
    B: tl.constexpr, PB: tl.constexpr,
):  # fmt: skip
    """The temperature's step; `alpha` and `entropy` [S] are told as they were before it."""
    seed = tl.program_id(0)
    b = tl.arange(0, PB)
    log_probs = tl.load(log_prob + seed * (2 * B) + b, mask=b < B, other=0.0)
    mean = -tl.sum(log_probs, 0) / B
    tl.store(entropy + seed, mean)
    tl.store(alpha + seed, tl.exp(tl.load(log_alpha + seed)))
    rate, root = bias_corrections(step, learning_rate)
    here = seed >= 0
    adam(
        seed, here, mean - target_entropy, rate, root, 0.0, log_alpha, exp_avg, exp_avg_sq,
        alpha, 0.0, False,
    )  # fmt: skip
