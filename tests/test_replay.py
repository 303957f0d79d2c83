"""The replay buffer does what its docstrings say, in one thread."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tom._libraries import _native
from tom.replay import ReplayBuffer


def filled(capacity: int, n: int, width: int = 3, seed: int = 0) -> ReplayBuffer:
    """A buffer after n appends; row k is [k, k, ...]."""
    buffer = ReplayBuffer(capacity, width, seed)
    rows = torch.arange(n, dtype=torch.float32).repeat_interleave(width).reshape(n, width)
    for part in rows.split(max(1, capacity // 3)):
        buffer.append(part)
    return buffer


def test_a_new_buffer_is_empty() -> None:
    buffer = ReplayBuffer(capacity=5, width=2, seed=7)
    assert (buffer.capacity, buffer.width, buffer.seed) == (5, 2, 7)
    assert len(buffer) == buffer.total_appended == 0
    assert buffer.total_weight == buffer.effective_sample_size == 0.0
    assert buffer.rows.shape == (0, 2)
    assert buffer.weights.shape == buffer.ages.shape == (0,)
    assert buffer.newest(0).shape == (0, 2)


@pytest.mark.parametrize("capacity", [1, 7, 10, 64])
@pytest.mark.parametrize("n", [1, 7, 10, 25])
def test_the_newest_rows_are_kept_in_a_ring(capacity: int, n: int) -> None:
    buffer = filled(capacity, n)
    size = min(capacity, n)
    assert len(buffer) == size
    assert buffer.total_appended == n
    kept = np.arange(n - size, n)
    by_slot = torch.empty(size)
    by_slot[kept % capacity] = torch.from_numpy(kept).float()
    torch.testing.assert_close(buffer.rows[:, 0], by_slot, rtol=0, atol=0)
    torch.testing.assert_close(buffer.newest(size)[:, 0], torch.from_numpy(kept).float())
    torch.testing.assert_close(buffer.ages, n - 1 - by_slot.long())
    torch.testing.assert_close(buffer.newest_indices(size), torch.from_numpy(kept % capacity))


def test_append_returns_the_first_slot() -> None:
    buffer = ReplayBuffer(capacity=5, width=1)
    assert [buffer.append(torch.zeros(2, 1)) for _ in range(4)] == [0, 2, 4, 1]
    assert buffer.append(np.zeros((0, 1), dtype=np.float32)) == 3
    assert buffer.total_appended == 8


def test_appended_rows_take_their_weights() -> None:
    buffer = ReplayBuffer(capacity=4, width=1)
    rows = torch.zeros(2, 1)
    buffer.append(rows)
    buffer.append(rows, 2.5)
    assert buffer.weights.tolist() == [1.0, 1.0, 2.5, 2.5]
    buffer.append(rows, torch.tensor([3.0, 0.0]))
    assert buffer.weights.tolist() == [3.0, 0.0, 2.5, 2.5]
    assert buffer.total_weight == 8.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_set_weights_replaces_all(dtype: torch.dtype) -> None:
    buffer = filled(1000, 700)
    w = torch.rand(700, dtype=dtype)
    buffer.set_weights(w)
    torch.testing.assert_close(buffer.weights, w.double(), rtol=0, atol=0)
    assert buffer.total_weight == pytest.approx(w.double().sum().item(), rel=1e-12)
    buffer.append(torch.zeros(1, 3), 9.0)
    assert buffer.weights[-1] == 9.0


def test_set_weights_can_leave_newer_rows_alone() -> None:
    buffer = filled(100, 50)
    buffer.append(torch.zeros(2, 3), torch.tensor([7.0, 0.0]))
    buffer.set_weights(torch.full((50,), 2.0), allow_newer=True)
    assert buffer.weights.tolist() == [2.0] * 50 + [7.0, 0.0]
    assert buffer.total_weight == 107.0


def test_update_weights_changes_a_few_and_the_last_of_equal_slots_counts() -> None:
    buffer = filled(40, 40)
    buffer.update_weights(torch.tensor([3, 39, 3]), torch.tensor([5.0, 0.0, 4.0]))
    expected = torch.ones(40, dtype=torch.float64)
    expected[3], expected[39] = 4.0, 0.0
    assert torch.equal(buffer.weights, expected)
    some = torch.tensor([39, 3, 0, 3])
    assert torch.equal(buffer.weights_at(some), expected[some])
    assert torch.equal(buffer.weights_at(some.numpy()[:0]), expected[:0])
    buffer.update_weights(np.array([0, 1]), 0.5)
    assert buffer.weights[:2].tolist() == [0.5, 0.5]
    assert buffer.total_weight == 38 + 4 - 1 + 1 - 1


def test_effective_sample_size_is_kish_s() -> None:
    buffer = filled(100, 100)
    assert buffer.effective_sample_size == 100.0
    w = torch.rand(100, dtype=torch.float64)
    buffer.set_weights(w)
    assert buffer.effective_sample_size == pytest.approx((w.sum() ** 2 / (w**2).sum()).item())
    buffer.set_weights(w * 1e200)  # the squares would overflow
    assert buffer.effective_sample_size == pytest.approx((w.sum() ** 2 / (w**2).sum()).item())
    buffer.set_weights(torch.zeros(100))
    assert buffer.effective_sample_size == 0.0


def test_sample_is_draw_and_gather() -> None:
    a, b = filled(50, 80), filled(50, 80)
    for stratified in (False, True):
        idx, rows = a.sample(20, stratified)
        assert torch.equal(idx, b.draw(20, stratified))
        assert torch.equal(rows, b.gather(idx))
        assert torch.equal(rows, b.rows[idx])
    idx, rows = a.sample_uniform(20)
    assert torch.equal(idx, b.draw_uniform(20))
    assert torch.equal(rows, b.gather(idx))


def test_rows_are_written_into_out() -> None:
    buffer = filled(50, 50)
    out = torch.empty(8, 3)
    rows = buffer.gather(torch.arange(8), out=out)
    assert rows.data_ptr() == out.data_ptr()
    assert out[:, 0].tolist() == list(range(8))
    idx, rows = buffer.sample(8, out=out)
    assert rows.data_ptr() == out.data_ptr()
    assert torch.equal(out, buffer.rows[idx])


def test_autograd_notices_rows_written_into_out() -> None:
    buffer = filled(50, 50)
    idx, factor = torch.arange(8), torch.ones((), requires_grad=True)
    for write in (
        lambda out: buffer.gather(idx, out=out),
        lambda out: buffer.sample(8, out=out),
        lambda out: buffer.sample_uniform(8, out=out),
    ):
        out = torch.zeros(8, 3)
        loss = (factor * out).sum()
        assert write(out) is not None
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize(
    "one",
    [
        2,
        2.0,
        np.float32(2),
        np.int64(2),
        np.longdouble(2),
        Fraction(2),
        np.array(2),
        np.array(2.0, "f2"),
        torch.tensor(2),
        torch.tensor(2.0, requires_grad=True),
        torch.tensor(2.0, dtype=torch.bfloat16),
    ],
    ids=repr,
)
def test_one_number_of_any_kind_is_the_weight_of_all(one: float) -> None:
    buffer = ReplayBuffer(8, 3)
    buffer.append(torch.ones(3, 3), one)
    assert buffer.weights.tolist() == [2.0] * 3
    buffer.set_weights(torch.zeros(3))
    buffer.update_weights(torch.tensor([0, 2]), one)
    assert buffer.weights.tolist() == [2.0, 0.0, 2.0]


def test_the_view_shows_the_memory_and_keeps_it_alive() -> None:
    buffer = filled(5, 5)
    rows = buffer.rows
    assert rows.data_ptr() == buffer.rows.data_ptr()
    buffer.append(torch.full((1, 3), 99.0))
    assert rows[0].tolist() == [99.0] * 3
    del buffer
    assert rows[4].tolist() == [4.0] * 3


@pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 1000])
def test_any_number_of_draws(n: int) -> None:
    buffer = filled(100, 100)
    for idx in (buffer.draw(n), buffer.draw(n, stratified=True), buffer.draw_uniform(n)):
        assert idx.dtype == torch.int64
        assert idx.shape == (n,)
        assert ((idx >= 0) & (idx < 100)).all()


def test_draws_follow_the_seed() -> None:
    assert torch.equal(filled(100, 100, seed=5).draw(50), filled(100, 100, seed=5).draw(50))
    assert not torch.equal(filled(100, 100, seed=5).draw(50), filled(100, 100, seed=6).draw(50))
    buffer = filled(100, 100)
    assert not torch.equal(buffer.draw(50), buffer.draw(50))
    assert torch.equal(filled(100, 100).draw(60)[:50], filled(100, 100).draw(50))


def philox2x64(key: int, c0: int, c1: int) -> tuple[int, int]:
    """The published algorithm in whole numbers."""
    mask = 2**64 - 1
    for _ in range(10):
        product = 0xD2B74407B1CE6E93 * c0
        c0, c1 = (product >> 64) ^ key ^ c1, product & mask
        key = (key + 0x9E3779B97F4A7C15) & mask
    return c0, c1


def test_philox_gives_the_published_numbers() -> None:
    full = 2**64 - 1
    known = {
        (0, 0, 0): (0xCA00A0459843D731, 0x66C24222C9A845B5),
        (full, full, full): (0x65B021D60CD8310F, 0x4D02F3222F86DF20),
        (0xA4093822299F31D0, 0x243F6A8885A308D3, 0x13198A2E03707344): (
            0x0A5E742C2997341C,
            0xB0F883D38000DE5D,
        ),
    }
    for arguments, block in known.items():
        assert _native.philox2x64(*arguments) == philox2x64(*arguments) == block


# By search from the top of the tree (one to four levels of nodes) and from a table of many blocks.
@pytest.mark.parametrize(
    "n, k", [(200, 2), (3000, 40), (3000, 300), (40_000, 333), (300_000, 1000), (1_100_000, 70)]
)
def test_draws_are_philox_in_the_inverse_of_the_cumulative_weights(n: int, k: int) -> None:
    buffer = filled(n, n, seed=11)
    w = torch.arange(n, dtype=torch.float64) % 7  # all sums of whole numbers are exact
    buffer.set_weights(w)
    buffer.draw(1)
    words = [word for i in range((k + 1) // 2) for word in philox2x64(11, i, 1)][:k]
    u = np.array([word >> 11 for word in words]) * 2.0**-53
    expected = np.searchsorted(np.cumsum(w.numpy()), u * w.sum().item(), side="right")
    assert np.array_equal(buffer.draw(k).numpy(), expected)


def test_saving_and_loading_continues_the_draws() -> None:
    buffer = filled(1000, 1300, seed=3)
    buffer.set_weights(torch.rand(1000))
    buffer.draw(10)
    buffer.update_weights(torch.arange(100), torch.rand(100))
    state = {name: value.clone() for name, value in buffer.state_dict().items()}
    other = ReplayBuffer(1000, 3, seed=999)
    other.append(torch.ones(20, 3))
    other.load_state_dict(state)
    for b in (buffer, other):
        b.append(torch.full((5, 3), -1.0), 3.0)
    assert (other.seed, other.total_appended) == (3, 1305)
    assert torch.equal(buffer.rows, other.rows)
    assert torch.equal(buffer.weights, other.weights)
    assert torch.equal(buffer.ages, other.ages)
    for _ in range(3):
        assert torch.equal(buffer.draw(500), other.draw(500))
        assert torch.equal(buffer.draw_uniform(500), other.draw_uniform(500))
    for name, value in buffer.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_an_empty_buffer_can_be_saved_and_loaded() -> None:
    other = filled(10, 25)
    other.load_state_dict(ReplayBuffer(10, 3, seed=4).state_dict())
    assert len(other) == other.total_appended == 0
    assert other.append(torch.ones(2, 3)) == 0
    assert other.rows.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize(
    "odd", [[], [0.1], [1e200, 1e-300, 0.1], [1e-40, 1e200, 1e-300, -0.0, 2.0**-127]]
)
@pytest.mark.parametrize("n", [7, 128, 5000])
def test_weights_are_kept_exactly(n: int, odd: list[float]) -> None:
    """Whether a float32 equals them or not, and however they came into the buffer."""
    w = torch.rand(n).double()
    w[::3] = 0.0
    w[1 : 1 + len(odd)] = torch.tensor(odd, dtype=torch.float64)
    whole, points = ReplayBuffer(n, 1), ReplayBuffer(n, 1)
    for buffer in (whole, points):
        buffer.append(torch.zeros(n, 1))
    whole.set_weights(w)
    points.update_weights(torch.arange(n), w)
    for buffer in (whole, points):
        assert torch.equal(buffer.weights, w)
    assert whole.total_weight == points.total_weight
    assert torch.equal(whole.draw(1000), points.draw(1000))
    single = w.clamp(max=1e30).float()
    whole.set_weights(single)
    assert torch.equal(whole.weights, single.double())
    points.set_weights(single.double())
    assert torch.equal(whole.draw(1000), points.draw(1000))


@pytest.mark.parametrize("weight", [3e38, 2.0**-126, 2.0**-149, -0.0])
@pytest.mark.parametrize("many", [True, False])
def test_float32_weights_at_the_ends_of_their_range(weight: float, many: bool) -> None:
    """Sums of the largest exceed float32; the smallest are below its normal numbers."""
    w = torch.zeros(1000)
    w[5::7] = 1.0
    (w if many else w[300:301])[::3] = weight
    single, double = ReplayBuffer(1000, 1), ReplayBuffer(1000, 1)
    for buffer, weights in ((single, w), (double, w.double())):
        buffer.append(torch.zeros(1000, 1))
        buffer.set_weights(weights)
        assert torch.equal(buffer.weights, w.double())
    assert single.total_weight == double.total_weight
    assert single.total_weight == pytest.approx(w.double().sum().item(), rel=1e-12)
    assert torch.equal(single.draw(1000), double.draw(1000))


@pytest.mark.parametrize(
    "bad, dtype",
    [(bad, torch.float32) for bad in (-0.1, -1.0, -3e38, -1e-45, float("nan"), float("inf"))]
    + [(bad, torch.float64) for bad in (-0.1, -1.0, -1e-300, float("nan"), float("inf"), 1e300)],
)
def test_one_bad_weight_among_many_is_found(bad: float, dtype: torch.dtype) -> None:
    buffer = ReplayBuffer(5000, 1)
    buffer.append(torch.zeros(5000, 1))
    before = torch.rand(5000)
    buffer.set_weights(before)
    w = torch.rand(5000, dtype=torch.float64).to(dtype)
    w[1234] = bad
    with pytest.raises(ValueError, match="weight 1234 is"):
        buffer.set_weights(w)
    assert torch.equal(buffer.weights, before.double())


def test_nothing_remains_of_weights_before_loading() -> None:
    buffer, small = ReplayBuffer(40, 1), ReplayBuffer(40, 1)
    for w in (0.3, 1.0):  # into both of the trees that take turns
        buffer.append(torch.zeros(40, 1))
        buffer.set_weights(torch.full((40,), w, dtype=torch.float64))
    small.append(torch.zeros(5, 1))
    buffer.load_state_dict(small.state_dict())
    for w in (2.0, 3.0, 4.0):
        buffer.set_weights(torch.full((5,), w))
        assert buffer.total_weight == 5 * w


def test_tensors_are_taken_as_they_are() -> None:
    buffer = ReplayBuffer(8, 2)
    rows = torch.nn.Parameter(torch.arange(12.0).reshape(6, 2))
    buffer.append(rows[2:], weight=np.arange(4.0))
    assert torch.equal(buffer.rows, rows[2:])
    assert buffer.weights.tolist() == [0, 1, 2, 3]
    buffer.set_weights(torch.arange(8.0, requires_grad=True)[4:])
    assert buffer.weights.tolist() == [4, 5, 6, 7]
