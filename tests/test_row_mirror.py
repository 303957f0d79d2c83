"""Rows mirrored on the device read like those on the host, bit for bit; here both are the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from helpers import CPU, LAYOUT, streams
from tom.batching import take, write_ring
from tom.config import Config, override
from tom.model_buffer import ModelBuffer
from tom.policy_batches import policy_batches
from tom.replays import Replays
from tom.rows import RowLayout
from tom.transfer import to_device

SEEDS = [3, 4, 5]
READS: dict[str, Callable[[Replays], tuple[Tensor, ...]]] = {
    "sample": lambda r: r.sample(7),
    "sample_uniform": lambda r: r.sample_uniform(7),
    "newest": lambda r: (r.newest(min(5, len(r))),),
    "rows": lambda r: (r.rows(),),
    "ages": lambda r: (r.ages(),),
    "standardisation": lambda r: r.standardisation(slice(0, 3)),
}


def _pair(capacity: int, seeds: list[int] = SEEDS) -> tuple[Replays, Replays]:
    host, mirrored = (Replays(LAYOUT, capacity, seeds, CPU, mirror=m) for m in (False, True))
    return host, mirrored


def _append(n: int, *replays: Replays) -> None:
    for _ in range(n):
        rows = torch.randn(replays[0].seeds, LAYOUT.width)
        for each in replays:
            each.append(rows)


def _assert_same_reads(host: Replays, mirrored: Replays) -> None:
    for name, read in READS.items():
        for expected, found in zip(read(host), read(mirrored), strict=True):
            assert torch.equal(found, expected), name


@pytest.mark.parametrize("seeds", [[3], SEEDS])
@pytest.mark.parametrize("capacity", [5, 8, 100])
def test_reads_equal_the_hosts_while_the_buffers_fill_and_wrap(
    capacity: int, seeds: list[int]
) -> None:
    """Between two reads there are no rows, one, some, and more than the buffer holds."""
    host, mirrored = _pair(capacity, seeds)
    for n in (3, 0, 1, 4, 1, 7, 23, 1):
        _append(n, host, mirrored)
        weights = torch.rand(len(seeds), len(host))
        host.set_weights(weights)
        mirrored.set_weights(weights)
        _assert_same_reads(host, mirrored)


def test_a_restored_buffer_is_mirrored_again() -> None:
    """The state has as many rows as the buffers had before, so their number tells nothing."""
    host, mirrored = _pair(8)
    _append(11, host, mirrored)
    mirrored.rows()
    other, _ = _pair(8)
    _append(11, other)
    host.load_state_dict(other.state_dict())
    mirrored.load_state_dict(other.state_dict())
    _assert_same_reads(host, mirrored)
    _append(2, host, mirrored)
    _assert_same_reads(host, mirrored)


def test_a_mirrored_state_is_the_hosts() -> None:
    host, mirrored = _pair(8)
    _append(11, host, mirrored)
    _assert_same_reads(host, mirrored)
    for name, value in host.state_dict().items():
        assert torch.equal(mirrored.state_dict()[name], value), name


def test_too_few_rows_are_refused_alike() -> None:
    for replays in _pair(8):
        _append(2, replays)
        with pytest.raises(ValueError, match="3"):
            replays.newest(3)


def test_the_mirror_is_kept_on_every_device_but_the_processor() -> None:
    assert Replays(LAYOUT, 4, SEEDS, CPU)._mirror is None
    assert Replays(LAYOUT, 4, SEEDS, torch.device("meta"))._mirror is not None


@pytest.mark.parametrize("transform", ["none", "log"])
def test_policy_batches_are_the_same(transform: str) -> None:
    config = override(
        Config(), {"updates_per_step": 3, "sac.batch_size": 20, "reward_transform": transform}
    )
    host, mirrored = _pair(30)
    _append(25, host, mirrored)
    lowest = torch.tensor([-1.0, 0.0, -2.0])
    batches = []
    for replays in (host, mirrored):
        model = ModelBuffer(10, LAYOUT.width, streams(*SEEDS))
        model.extend([torch.ones(4, LAYOUT.width)] * len(SEEDS))
        batches.append(policy_batches(replays, model, config, lowest))
    assert torch.equal(*batches)


@pytest.mark.parametrize("n", [0, 1, 3, 7])
@pytest.mark.parametrize("start", [0, 4, 6])
def test_a_ring_is_written_around_its_end(n: int, start: int) -> None:
    ring, rows = torch.zeros(2, 7, 3), torch.randn(2, n, 3)
    expected = ring.clone()
    for i in range(n):
        expected[:, (start + i) % 7] = rows[:, i]
    write_ring(ring, rows, start)
    assert torch.equal(ring, expected)


def test_take_reads_each_seeds_rows() -> None:
    rows, index = torch.randn(2, 9, RowLayout(2, 1).width), torch.randint(9, (2, 20))
    expected = torch.stack([rows[s][index[s]] for s in range(2)])
    assert torch.equal(take(rows, index), expected)
    assert torch.equal(take(rows[..., 1:4], index), expected[..., 1:4])
    assert take(rows.to("meta"), index.to("meta")).shape == expected.shape


def test_copies_to_the_processor_are_the_tensor_itself() -> None:
    tensor = torch.randn(3)
    assert to_device(tensor, CPU) is tensor
