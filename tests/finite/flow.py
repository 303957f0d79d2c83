"""The primal behind (20), max_d E_d[R] − D_f(d ‖ d_D) under the flow (16), and its dual (22).

A problem is a list of outcomes with shares q of the data. The flow is Bᵀd = b and the dual
min_Q b·Q + E_q[f*(R − B Q)]. Newton's method on the dual gives ξ* = f*'(R − B Q). That d = ξ* q ≥ 0
satisfies the flow and that both objectives agree certifies, by weak duality, that both are optimal.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from finite.mdp import MDP, Array
from tom.divergences import Divergence

End = Literal["cut", "restart"]
"""What follows a terminal row: nothing, V(s') = 0, or a new start, V(s') = E_{s0~ρ0}[V(s0)]."""


@dataclass(frozen=True)
class Problem:
    """Outcomes [N] and the K = S A constraints of the flow.

    Attributes:
        matrix: B [N, K].
        inflow: b [K].
        data: q [N], positive.
        reward: R [N].
        rows: index [N] of each outcome's (s, a, s') in the flat [S A S].
        shape: (S, A, S).
    """

    matrix: Array
    inflow: Array
    data: Array
    reward: Array
    rows: npt.NDArray[np.intp]
    shape: tuple[int, ...]

    def violation(self, d: Array) -> float:
        """Largest violation of the flow by a distribution [N] of outcomes."""
        return float(np.abs(self.matrix.T @ d - self.inflow).max())

    def of_rows(self, d: Array) -> Array:
        """A distribution of outcomes [N] as one of rows, [S, A, S]."""
        return np.bincount(self.rows, d, math.prod(self.shape)).reshape(self.shape)


@dataclass(frozen=True)
class Solution:
    """Q [K], ξ* [N], d = ξ* q [N] and both objectives at the optimum."""

    q: Array
    ratio: Array
    d: Array
    primal: float
    dual: float


def sample_means(probabilities: Array, samples: int | None) -> list[tuple[float, Array]]:
    """Every mean of `samples` one-hot draws with its probability; None: infinitely many draws."""
    if samples is None:
        return [(1.0, probabilities)]
    cases = []
    for counts in itertools.product(range(samples + 1), repeat=len(probabilities)):
        if sum(counts) == samples:
            ways = math.factorial(samples) // math.prod(math.factorial(c) for c in counts)
            p = ways * float(np.prod(probabilities ** np.array(counts)))
            cases.append((p, np.array(counts) / samples))
    return [case for case in cases if case[0] > 0]


def problem(
    mdp: MDP,
    policy: Array,
    data: Array,
    reward: Array,
    *,
    end: End = "cut",
    samples: int | None = None,
) -> Problem:
    """The problem on the rows with data > 0.

    Args:
        mdp: supplies ρ0, γ and which states end episodes; its transitions are not read.
        policy: π.
        data: d_D [S, A, S].
        reward: R [S, A, S].
        end: what follows a terminal row.
        samples: actions whose Q are averaged to V(s'), each draw an outcome of its own inside f*;
            None takes the expectation over π.
    """
    start = mdp.start[:, None] * policy
    after_end = start if end == "restart" else np.zeros_like(start)
    matrix, shares, rows = [], [], []
    for s, a, following in zip(*np.nonzero(data), strict=True):
        cases = sample_means(policy[following], samples)
        if mdp.terminal[following]:
            cases = [(1.0, after_end)]
        for p, value_of in cases:
            constraint = np.zeros_like(start)
            if mdp.terminal[following]:
                constraint -= mdp.discount * value_of
            else:
                constraint[following] -= mdp.discount * value_of
            constraint[s, a] += 1
            matrix.append(constraint.ravel())
            shares.append(data[s, a, following] * p)
            rows.append(np.ravel_multi_index((s, a, following), data.shape))
    index = np.array(rows)
    inflow = (1 - mdp.discount) * start.ravel()
    outcomes = np.array(matrix), inflow, np.array(shares), reward.ravel()[index], index
    return Problem(*outcomes, data.shape)


def solve(given: Problem, divergence: Divergence, *, quadratic: bool = False) -> Solution:
    """Newton's method with a line search; semismooth where f*' has a kink."""
    n = given.matrix.shape[1]
    q = np.zeros(n)
    value, gradient, hessian, ratio = dual(given, divergence, q, quadratic)
    for _ in range(500):
        norm = np.abs(gradient).max()
        if norm < 1e-13:
            break
        # A shift that shrinks with the gradient keeps the step defined along flat directions.
        shift = min(1e-3, norm) * max(1e-8, np.trace(hessian) / n) * np.eye(n)
        step = -np.linalg.lstsq(hessian + shift, gradient, rcond=1e-15)[0]
        for halvings in range(40):
            trial = dual(given, divergence, q + 0.5**halvings * step, quadratic)
            enough = trial[0] <= value + 1e-4 * 0.5**halvings * (gradient @ step)
            # Near the optimum the values are equal to rounding, and the gradient still tells.
            equal = abs(trial[0] - value) <= 1e-13 * max(1.0, abs(value))
            if enough or (equal and np.abs(trial[1]).max() < norm):
                break
        else:
            break
        q = q + 0.5**halvings * step
        value, gradient, hessian, ratio = trial
    generator = divergence.generator(torch.from_numpy(ratio)).numpy()
    d = ratio * given.data
    primal = float(d @ given.reward - given.data @ generator)
    return Solution(q, ratio, d, primal, value)


def dual(
    given: Problem, divergence: Divergence, q: Array, quadratic: bool = False
) -> tuple[float, Array, Array, Array]:
    """The objective of (22), its gradient and Hessian in Q, and ξ = f*'(δ).

    Everything about f* comes from the project's own registry.
    """
    delta = torch.from_numpy(given.reward - given.matrix @ q).requires_grad_()
    if divergence.log_mean_exp:
        logits = delta.detach() + torch.from_numpy(given.data).log()
        value, d = logits.logsumexp(0).item(), logits.softmax(0).numpy()
        ratio, flow = d / given.data, given.matrix.T @ d
        hessian = (given.matrix.T * d) @ given.matrix - np.outer(flow, flow)
    else:
        conjugate = divergence.quadratic if quadratic else divergence.conjugate
        assert conjugate is not None
        values = conjugate(delta)
        if quadratic:  # the registry's f*' is that of the exact conjugate
            (first,) = torch.autograd.grad(values.sum(), delta, create_graph=True)
        else:
            first = divergence.conjugate_derivative(delta)
        (second,) = torch.autograd.grad(first.sum(), delta)
        value, ratio = float(given.data @ values.detach().numpy()), first.detach().numpy()
        hessian = (given.matrix.T * (given.data * second.numpy())) @ given.matrix
    gradient = given.inflow - given.matrix.T @ (ratio * given.data)
    return float(given.inflow @ q) + value, gradient, hessian, ratio
