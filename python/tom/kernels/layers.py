"""Networks with two hidden ReLU layers, in Triton: pieces of kernels.

A program takes `BM` rows through all layers, `CHUNK` columns of a hidden layer at a time, or
computes one tile of a gradient and at once Adam's step on it. What the gradients of the weights are
products of is kept transposed, [width, R]: both factors of such a product then lie along the axis
that is summed over.

Shapes: inputs `IN`, of which the first `X` are columns of a row and the rest an action; hidden
widths `H1` and `H2`, held by the powers of two `P1` and `P2`; outputs `OUT`; `B` rows, whose memory
has room for `R`.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

LOG_BETA1 = tl.constexpr(math.log(0.9))
LOG_BETA2 = tl.constexpr(math.log(0.999))
REST1 = tl.constexpr(1 - 0.9)
REST2 = tl.constexpr(1 - 0.999)
BETA2 = tl.constexpr(0.999)
EPS = tl.constexpr(1e-8)


@triton.jit
def relu(z):
    """The larger of z and 0, or NaN, which `tl.maximum` would turn into 0."""
    return tl.where(z < 0, 0.0, z)


@triton.jit
def layers_of(
    flat, stack, stacks, IN: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, OUT: tl.constexpr
):
    """Where a network's weights and biases begin in `StackedMLP`'s flat vector."""
    w1 = flat + stack * (IN * H1)
    b1 = flat + stacks * (IN * H1) + stack * H1
    flat += stacks * ((IN + 1) * H1)
    w2 = flat + stack * (H1 * H2)
    b2 = flat + stacks * (H1 * H2) + stack * H2
    flat += stacks * ((H1 + 1) * H2)
    w3 = flat + stack * (H2 * OUT)
    b3 = flat + stacks * (H2 * OUT) + stack * OUT
    return w1, b1, w2, b2, w3, b3


@triton.jit
def hidden_layers(
    row_at, action_at, valid, w1, b1, w2, b2, m, h1,
    X: tl.constexpr, IN: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, P2: tl.constexpr,
    R: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, INPUTS: tl.constexpr,
    KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The second hidden layer [BM, P2] of rows m; KEEP writes the first to h1 [H1, R].

    The inputs of a row are X numbers from `row_at` and the others from `action_at`.
    """
    j = tl.arange(0, P2)
    acc = tl.zeros((BM, P2), tl.float32)
    for first in range(0, H1, CHUNK):
        n = first + tl.arange(0, CHUNK)
        z = tl.zeros((BM, CHUNK), tl.float32)
        for start in range(0, IN, INPUTS):
            k = start + tl.arange(0, INPUTS)
            x = tl.load(
                row_at[:, None] + k[None, :], mask=valid[:, None] & (k < X)[None, :], other=0.0
            )
            if IN > X:
                a = k - X
                x += tl.load(
                    action_at[:, None] + a[None, :],
                    mask=valid[:, None] & ((a >= 0) & (k < IN))[None, :],
                    other=0.0,
                )
            w = tl.load(
                w1 + k[:, None] * H1 + n[None, :],
                mask=(k < IN)[:, None] & (n < H1)[None, :],
                other=0.0,
            )
            z = tl.dot(x, w, z, input_precision=PRECISION)
        h = relu(z + tl.load(b1 + n, mask=n < H1, other=0.0)[None, :])
        if KEEP:
            tl.store(h1 + n[None, :] * R + m[:, None], h, mask=valid[:, None] & (n < H1)[None, :])
        w = tl.load(
            w2 + n[:, None] * H2 + j[None, :], mask=(n < H1)[:, None] & (j < H2)[None, :], other=0.0
        )
        acc = tl.dot(h, w, acc, input_precision=PRECISION)
    return relu(acc + tl.load(b2 + j, mask=j < H2, other=0.0)[None, :])


@triton.jit
def times_rows(
    x, w, w_row: tl.constexpr, w_column: tl.constexpr, m, valid,
    K: tl.constexpr, N: tl.constexpr, PN: tl.constexpr, PARTS: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows m of x, kept as [K, R], times N columns of w [K, ...] of the given strides, [BM, PN].

    And, for two PARTS, times the N columns after these; otherwise the second result is zero.

    The program's other threads wrote some of x: a barrier comes first. (As one product with rows
    that are in registers already it would need more of these than there are.)
    """
    tl.debug_barrier()
    i = tl.arange(0, PN)
    one, other = tl.zeros((BM, PN), tl.float32), tl.zeros((BM, PN), tl.float32)
    for first in range(0, K, CHUNK):
        k = first + tl.arange(0, CHUNK)
        left = tl.load(
            x + k[None, :] * R + m[:, None], mask=valid[:, None] & (k < K)[None, :], other=0.0
        )
        at, here = k[:, None] * w_row + i[None, :] * w_column, (k < K)[:, None] & (i < N)[None, :]
        right = tl.load(w + at, mask=here, other=0.0)
        one = tl.dot(left, right, one, input_precision=PRECISION)
        if PARTS == 2:
            right = tl.load(w + N * w_column + at, mask=here, other=0.0)
            other = tl.dot(left, right, other, input_precision=PRECISION)
    return one, other


@triton.jit
def back_to_first(
    g3, w2, w3, m, valid, h1, h2, g1, g2,
    H1: tl.constexpr, H2: tl.constexpr, P1: tl.constexpr, OUT: tl.constexpr, POUT: tl.constexpr,
    R: tl.constexpr, BM: tl.constexpr, CHUNK: tl.constexpr, KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """From d/d output [BM, POUT] to d/dz of the first hidden layer, written to g1 [H1, R].

    KEEP writes that of the second to g2 [H2, R]. The program's other threads wrote some of h1 and
    h2: a barrier comes first.
    """
    tl.debug_barrier()
    n, o = tl.arange(0, P1), tl.arange(0, POUT)
    acc = tl.zeros((BM, P1), tl.float32)
    for first in range(0, H2, CHUNK):
        j = first + tl.arange(0, CHUNK)
        w = tl.load(
            w3 + j[None, :] * OUT + o[:, None],
            mask=(j < H2)[None, :] & (o < OUT)[:, None],
            other=0.0,
        )
        g = tl.dot(g3, w, input_precision=PRECISION)
        at, here = j[None, :] * R + m[:, None], valid[:, None] & (j < H2)[None, :]
        g = tl.where(tl.load(h2 + at, mask=here, other=0.0) > 0, g, 0.0)
        if KEEP:
            tl.store(g2 + at, g, mask=here)
        w = tl.load(
            w2 + n[None, :] * H2 + j[:, None], mask=(n < H1)[None, :] & (j < H2)[:, None], other=0.0
        )
        acc = tl.dot(g, w, acc, input_precision=PRECISION)
    at, here = n[None, :] * R + m[:, None], valid[:, None] & (n < H1)[None, :]
    g = tl.where(tl.load(h1 + at, mask=here, other=0.0) > 0, acc, 0.0)
    tl.store(g1 + at, g, mask=here)


@triton.jit
def adam(
    at, here, gradient, rate, root, decay, flat, exp_avg, exp_avg_sq, target, tau,
    FOLLOW: tl.constexpr,
):  # fmt: skip
    """Adam's step on the numbers of `flat` at `at`, which those of `target` may follow."""
    mean = tl.load(exp_avg + at, mask=here, other=0.0)
    square = tl.load(exp_avg_sq + at, mask=here, other=0.0)
    value = tl.load(flat + at, mask=here, other=0.0)
    gradient += decay * value
    mean += REST1 * (gradient - mean)
    square = BETA2 * square + REST2 * gradient * gradient
    value -= rate * mean / (tl.sqrt_rn(square) * root + EPS)
    tl.store(exp_avg + at, mean, mask=here)
    tl.store(exp_avg_sq + at, square, mask=here)
    tl.store(flat + at, value, mask=here)
    if FOLLOW:
        before = tl.load(target + at, mask=here, other=0.0)
        tl.store(target + at, before + tau * (value - before), mask=here)


@triton.jit
def bias_corrections(step, learning_rate):
    """What Adam's mean and the root of its square are multiplied by after `step` steps."""
    t = tl.load(step).to(tl.float64)  # 1 − β^t has few digits in float32
    rate = learning_rate / (1 - tl.exp(t * LOG_BETA1))
    root = 1 / tl.sqrt(1 - tl.exp(t * LOG_BETA2))
    return rate.to(tl.float32), root.to(tl.float32)


@triton.jit
def train_layer(
    tile, x, x_column: tl.constexpr, x_row: tl.constexpr, grad,
    weight, bias, rate, root, decay, bias_decay, flat, exp_avg, exp_avg_sq, target, tau,
    K: tl.constexpr, N: tl.constexpr, B: tl.constexpr, R: tl.constexpr, TK: tl.constexpr,
    TN: tl.constexpr, TB: tl.constexpr, FOLLOW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of a layer's gradient, xᵀ grad, and Adam's step on it and on its part of the bias.

    x is [B, K] with the given strides, grad [N, R], of which the first B rows count; `weight` and
    `bias` are places in `flat`. `decay` times the weights, `bias_decay` times the biases are added
    to the gradient.
    """
    across = tl.cdiv(N, TN)
    k = (tile // across) * TK + tl.arange(0, TK)
    n = (tile % across) * TN + tl.arange(0, TN)
    gradient = tl.zeros((TK, TN), tl.float32)
    sums = tl.zeros((TN,), tl.float32)
    for first in range(0, B, TB):
        b = first + tl.arange(0, TB)
        left = tl.load(
            x + k[:, None] * x_column + b[None, :] * x_row,
            mask=(k < K)[:, None] & (b < B)[None, :],
            other=0.0,
        )
        right = tl.load(
            grad + n[None, :] * R + b[:, None],
            mask=(n < N)[None, :] & (b < B)[:, None],
            other=0.0,
        )
        gradient = tl.dot(left, right, gradient, input_precision=PRECISION)
        sums += tl.sum(right, 0)
    adam(
        weight + k[:, None] * N + n[None, :], (k < K)[:, None] & (n < N)[None, :], gradient,
        rate, root, decay, flat, exp_avg, exp_avg_sq, target, tau, FOLLOW,
    )  # fmt: skip
    if tile < across:
        adam(
            bias + n, n < N, sums,
            rate, root, bias_decay, flat, exp_avg, exp_avg_sq, target, tau, FOLLOW,
        )  # fmt: skip


@triton.jit(do_not_specialize=["stacks"])
def train_kernel(
    rows, h1, h2, g1, g2, g3, flat, exp_avg, exp_avg_sq, step, target, learning_rate, tau, decay,
    stacks,
    MEMBERS: tl.constexpr, W: tl.constexpr, IN: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr,
    OUT: tl.constexpr, B: tl.constexpr, R: tl.constexpr, TK: tl.constexpr, TN: tl.constexpr,
    TB: tl.constexpr, FOLLOW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of all layers and Adam's step on them; the target, if it is to FOLLOW, does.

    A network's inputs are the first IN columns of its seed's `rows` [B, W].
    """
    tile, stack = tl.program_id(0), tl.program_id(1)
    w1, b1, w2, b2, w3, b3 = layers_of(0, stack, stacks, IN, H1, H2, OUT)
    rate, root = bias_corrections(step, learning_rate)
    # Constants that are functions of constants: (x + n - 1) // n is ⌈x / n⌉.
    tiles_2: tl.constexpr = ((H1 + TK - 1) // TK) * ((H2 + TN - 1) // TN)
    tiles_1: tl.constexpr = ((IN + 15) // 16) * ((H1 + TN - 1) // TN)
    if tile < tiles_2:
        train_layer(
            tile, h1 + stack * (H1 * R), R, 1, g2 + stack * (H2 * R),
            w2, b2, rate, root, decay, 0.0, flat, exp_avg, exp_avg_sq, target, tau,
            H1, H2, B, R, TK, TN, TB, FOLLOW, PRECISION,
        )  # fmt: skip
    elif tile < tiles_2 + tiles_1:
        train_layer(
            tile - tiles_2, rows + (stack // MEMBERS) * (B * W), 1, W, g1 + stack * (H1 * R),
            w1, b1, rate, root, decay, 0.0, flat, exp_avg, exp_avg_sq, target, tau,
            IN, H1, B, R, 16, TN, TB, FOLLOW, PRECISION,
        )  # fmt: skip
    else:
        train_layer(
            tile - tiles_2 - tiles_1, h2 + stack * (H2 * R), R, 1, g3 + stack * (OUT * R),
            w3, b3, rate, root, decay, 0.0, flat, exp_avg, exp_avg_sq, target, tau,
            H2, OUT, B, R, TK, 16, TB, FOLLOW, PRECISION,
        )  # fmt: skip
