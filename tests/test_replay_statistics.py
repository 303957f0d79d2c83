"""Draws follow the weights: chi-square tests on a million draws, and a control that must fail.

Power. The chi-square statistic of N draws over k cells, with true probabilities p and tested ones
q, is noncentral with λ = N Σ (p_i - q_i)² / q_i. At N = 10⁶ and k = 64, a sampler that gets every
probability wrong by a relative 1.5 % (alternating in sign) has λ = 225 and is caught with
probability above 0.9999 at the level 10⁻⁶ used here; test_power computes it. The seeds are fixed,
so the tests do not fail by chance.
"""

import threading

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats

from tom.replay import ReplayBuffer

DRAWS = 1_000_000
LEVEL = 1e-6
SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
Floats = npt.NDArray[np.float64]


def weighted(w: npt.ArrayLike, seed: int = 0) -> ReplayBuffer:
    weights = np.asarray(w, dtype=np.float64)
    buffer = ReplayBuffer(len(weights), 1, seed)
    buffer.append(torch.zeros(len(weights), 1))
    buffer.set_weights(weights)
    return buffer


def p_value(idx: npt.NDArray[np.int64], w: npt.ArrayLike) -> float:
    """Of the chi-square test that the draws follow the weights, over about 64 equal cells."""
    p = np.asarray(w, dtype=np.float64) / np.sum(w)
    counts = np.bincount(idx, minlength=len(p))
    assert not counts[p == 0].any(), "a row of weight 0 was drawn"
    order = np.argsort(p, kind="stable")  # rare rows share a cell
    cell = np.minimum((np.cumsum(p[order]) * 64).astype(int), 63)
    mass = np.bincount(cell, p[order], 64)
    observed = np.bincount(cell, counts[order], 64)
    used = mass > 0
    return float(stats.chisquare(observed[used], mass[used] / mass.sum() * len(idx)).pvalue)


rng = np.random.default_rng(0)
SHAPES: dict[str, Floats] = {
    "equal": np.ones(1000),
    "uniform": rng.random(100_000),
    "half are zero": rng.random(5000) * (rng.random(5000) < 0.5),
    "two": np.array([1.0, 3.0]),
    "block of 16": np.arange(16.0),
    "block of 16 and one": np.arange(17.0),
    "node of 256 and one": np.arange(257.0),
    "node of 4096 and one": np.arange(4097.0),
    "only block edges": np.where(np.isin(np.arange(4096) % 16, (0, 15)), 1.0 + np.arange(4096), 0),
    "heavy tail": rng.pareto(1.0, 20_000),
    "1e-30 to 1e30": 10.0 ** rng.uniform(-30, 30, 10_000),
    "1e30 among 1e-30": np.r_[np.full(500, 1e-30), [1e30, 2e30, 3e30], np.full(500, 1e-30)],
    "clipped": np.minimum(rng.exponential(3.0, 50_000), 10.0),
}


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_draws_follow_the_weights(shape: str, stratified: bool) -> None:
    w = SHAPES[shape]
    idx = weighted(w).draw(DRAWS, stratified).numpy()
    p = p_value(idx, w)
    assert p > LEVEL
    if stratified:  # every count is within one or two of its expectation: far closer than chance
        expected = w / w.sum() * DRAWS
        assert np.abs(np.bincount(idx, minlength=len(w)) - expected).max() < 2


@pytest.mark.parametrize("shape", ["uniform", "half are zero", "heavy tail"])
def test_many_small_draws_follow_the_weights(shape: str) -> None:
    buffer = weighted(SHAPES[shape])
    idx = torch.cat([buffer.draw(100) for _ in range(DRAWS // 100)]).numpy()
    assert p_value(idx, SHAPES[shape]) > LEVEL


@pytest.mark.parametrize("shape", ["uniform", "half are zero", "1e-30 to 1e30"])
def test_draws_follow_updated_weights(shape: str) -> None:
    w = SHAPES[shape]
    buffer = weighted(np.random.default_rng(1).random(len(w)) * 1e20)
    for part in np.array_split(np.random.default_rng(2).permutation(len(w)), 37):
        buffer.update_weights(part, w[part])
    assert torch.equal(buffer.draw(DRAWS), weighted(w).draw(DRAWS)), "the sums kept a trace"
    assert p_value(buffer.draw(DRAWS).numpy(), w) > LEVEL


def test_uniform_draws_ignore_the_weights() -> None:
    idx = weighted(np.arange(1000.0)).draw_uniform(DRAWS).numpy()
    assert p_value(idx, np.ones(1000)) > LEVEL


def test_successive_draws_are_independent() -> None:
    w = np.arange(1.0, 9.0)
    idx = weighted(w).draw(2 * DRAWS).numpy()
    pairs = idx[0::2] * 8 + idx[1::2]
    assert p_value(pairs, np.outer(w, w).ravel()) > LEVEL


def test_one_positive_weight_among_a_million() -> None:
    w = np.zeros(1_000_000)
    for slot in (0, 15, 16, 777_777, 999_999):
        w[:] = 0.0
        w[slot] = 1e-3
        assert (weighted(w).draw(10_000) == slot).all()


def test_draws_follow_weights_of_which_the_sum_is_barely_normal() -> None:
    """Slots per unit of weight, which many draws multiply by, would be infinite."""
    w = np.zeros(20_000)
    w[::4000] = SMALLEST_NORMAL
    w[::8000] *= 2
    assert p_value(weighted(w).draw(DRAWS).numpy(), w) > LEVEL


@pytest.mark.parametrize("w", [5e-324, 1e-310, np.nextafter(SMALLEST_NORMAL, 0)])
def test_a_subnormal_weight_counts_as_zero(w: float) -> None:
    """However many there are, and by whichever way they come."""
    n, some = 1000, torch.tensor([3, 500, 999])
    weights = torch.full((n,), w, dtype=torch.float64)
    buffer = weighted(weights)
    for set_them in (
        lambda: buffer.set_weights(weights),
        lambda: buffer.update_weights(some, w),
        lambda: buffer.append(torch.zeros(n, 1), w),
        lambda: buffer.load_state_dict({**buffer.state_dict(), "weights": weights}),
    ):
        set_them()
        assert not buffer.weights.any() and buffer.total_weight == 0.0
        with pytest.raises(RuntimeError, match="sum to 0"):
            buffer.draw(10)
    buffer.update_weights(some, torch.tensor([SMALLEST_NORMAL, w, 0.0], dtype=torch.float64))
    assert (buffer.draw(1000) == 3).all()


def test_a_thread_that_flushes_subnormal_numbers_draws_the_same() -> None:
    """A row whose weight it read as 0, but of which it saw the sum, it would look for for ever."""
    w = rng.random(4096) * 4 * SMALLEST_NORMAL
    buffer, other = weighted(w), weighted(w)
    tiny = weighted(np.full(4096, 1e-309))
    expected = buffer.draw(10_000)
    drawn: list[torch.Tensor] = []

    def draw() -> None:
        torch.set_flush_denormal(True)  # of this thread
        drawn.append(other.draw(10_000))
        with pytest.raises(RuntimeError, match="sum to 0"):
            tiny.draw(1)
        drawn.append(other.draw(1))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert len(drawn) == 2
    assert torch.equal(drawn[0], expected)


def float32_prefix_draws(w: Floats) -> npt.NDArray[np.int64]:
    """What this buffer must not be: sums and uniforms in float32."""
    prefix = np.cumsum(w.astype(np.float32), dtype=np.float32)
    u = np.random.default_rng(0).random(DRAWS, dtype=np.float32)
    return np.minimum(np.searchsorted(prefix, u * prefix[-1], side="right"), len(w) - 1)


def test_the_test_catches_float32_sums() -> None:
    # A large weight first: in float32 the small ones that follow vanish beside it one by one.
    w = np.r_[[2.0**24], np.full(400_000, 0.75), np.full(400_000, 0.5), np.ones(1_000_000)]
    assert p_value(weighted(w).draw(DRAWS).numpy(), w) > LEVEL
    assert p_value(float32_prefix_draws(w), w) < LEVEL


def test_power() -> None:
    q = np.full(64, 1 / 64)
    p = q * (1 + 0.015 * np.tile([1, -1], 32))
    noncentrality = DRAWS * np.sum((p - q) ** 2 / q)
    assert stats.ncx2.sf(stats.chi2.isf(LEVEL, 63), 63, noncentrality) > 0.9999
    idx = np.random.default_rng(0).choice(64, DRAWS, p=p)
    assert p_value(idx, q) < LEVEL
