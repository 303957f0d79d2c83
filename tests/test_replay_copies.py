"""A buffer's own rows given back to it, copies of a buffer, and a buffer in a forked child."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest
import torch

from tom.batch_env import BatchEnv
from tom.replay import ReplayBuffer

WIDTH = 2 * 105 + 8 + 2  # of a row of Ant
REFUSED = 7


def made() -> ReplayBuffer:
    buffer = ReplayBuffer(capacity=4, width=2, seed=3)
    buffer.append(torch.arange(12.0).reshape(6, 2)[:4])
    buffer.append(torch.arange(12.0).reshape(6, 2)[4:], torch.tensor([2.0, 3.0]))
    buffer.draw(5)
    return buffer


@pytest.mark.parametrize("part", [slice(None), slice(1, 3), slice(2, 4)])
def test_its_own_rows_can_be_appended(part: slice) -> None:
    """The call overwrites slots that it has yet to read, so it reads a copy."""
    buffer = made()
    given = buffer.rows[part].clone()
    buffer.append(buffer.rows[part])
    assert torch.equal(buffer.newest(len(given)), given)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_a_copy_is_a_buffer_of_its_own(duplicate: Callable[[ReplayBuffer], ReplayBuffer]) -> None:
    buffer = made()
    other = duplicate(buffer)
    for name, value in buffer.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(buffer.draw(100), other.draw(100))
    other.append(torch.zeros(1, 2))
    assert other.total_appended == buffer.total_appended + 1


def test_a_copy_is_of_the_same_class_with_its_attributes() -> None:
    class Named(ReplayBuffer):
        def __init__(self, name: str) -> None:
            super().__init__(4, 2)
            self.name = [name]

    buffer = Named("a")
    buffer.append(torch.ones(1, 2))
    other = copy.deepcopy(buffer)
    assert isinstance(other, Named) and other.name == ["a"] and len(other) == 1
    other.name.append("b")
    assert buffer.name == ["a"]


def test_effective_sample_size_is_in_range_while_weights_come_and_go() -> None:
    n = 20_000
    buffer = ReplayBuffer(n, 1)
    buffer.append(torch.zeros(n, 1), 0.0)
    last, stop = torch.tensor([n - 1]), threading.Event()

    def toggle() -> None:
        while not stop.is_set():
            buffer.update_weights(last, 1e200)
            buffer.update_weights(last, 0.0)

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        sizes = [buffer.effective_sample_size for _ in range(2000)]
    finally:
        stop.set()
        thread.join()
    assert set(sizes) <= {0.0, 1.0}
    far_apart = torch.tensor([1e-300, 3e200, 1e200], dtype=torch.float64)
    buffer.update_weights(torch.tensor([5, 7, 9]), far_apart)
    assert buffer.effective_sample_size == pytest.approx(16 / 10)


def test_rows_are_gathered_where_the_indices_stand() -> None:
    """What has been checked is read once more, and the first row is written over the others."""
    buffer = ReplayBuffer(8, 4)
    buffer.append(torch.full((8, 4), 1e30))
    memory = torch.arange(40) % 8
    expected = buffer.gather(memory[:20])
    out = memory.view(torch.float32).view(20, 4)
    assert torch.equal(buffer.gather(memory[:20], out=out), expected)


def test_indices_may_change_while_they_are_in_use() -> None:
    """Each call works with the rows that it has checked, however large the numbers become."""
    buffer = ReplayBuffer(8, 4)
    buffer.append(torch.ones(8, 4))
    idx, stop = torch.zeros(100_000, dtype=torch.int64), threading.Event()
    idx.numpy()[:] = np.arange(100_000) % 8

    def spoil() -> None:
        while not stop.is_set():
            idx.fill_(2**40)
            idx.fill_(7)

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        for _ in range(200):
            with contextlib.suppress(IndexError):
                assert buffer.gather(idx).eq(1).all()
            with contextlib.suppress(IndexError):
                buffer.update_weights(idx, 2.0)
    finally:
        stop.set()
        thread.join()
    assert buffer.total_weight <= 16


@pytest.fixture(params=[4, 100])
def held(request: pytest.FixtureRequest) -> Iterator[tuple[ReplayBuffer, threading.Thread]]:
    """A thread has claimed four rows of a buffer, for a step of a second that is going on.

    They are all that a small buffer has; in a larger one there is room beside them.
    """
    env = BatchEnv("Ant-v5", 4, 1, frame_skip=10_000)
    env.reset(seed=0)
    actions = np.zeros(env.action_space.shape, np.float32)
    buffer = ReplayBuffer(request.param, WIDTH)
    thread = threading.Thread(target=lambda: env.step(actions, into=buffer))
    thread.start()
    clock = time.pthread_getcpuclockid(cast(int, thread.ident))
    while time.clock_gettime(clock) < 0.05:  # until it is in the middle of the step
        time.sleep(0.01)
    yield buffer, thread
    thread.join()
    env.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("use", ["append", "step"])
def test_a_child_does_not_wait_for_ever_for_a_thread_that_it_has_not(
    use: str, held: tuple[ReplayBuffer, threading.Thread]
) -> None:
    """Of the threads only the one that forks lives on, and what another had claimed never ends.

    Rows behind those would be appended and never counted, so they are refused too.
    """
    buffer, thread = held
    child = os.fork()
    if child == 0:
        os._exit(_status(lambda: _append(buffer) if use == "append" else _step(buffer)))
    assert thread.is_alive()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status), f"ended by signal {os.WTERMSIG(status)}"
    assert os.WEXITSTATUS(status) == REFUSED


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_goes_on_with_a_buffer_that_was_at_rest() -> None:
    buffer = made()
    child = os.fork()
    if child == 0:
        buffer.append(torch.zeros(3, 2))
        os._exit(REFUSED if buffer.total_appended == 9 and len(buffer.draw(5)) == 5 else 1)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == REFUSED
    assert buffer.total_appended == 6


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_all_threads_of_a_child_may_be_the_first_to_append() -> None:
    buffer = made()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(_status(lambda: _append_at_once(buffer, 8)) or (buffer.total_appended != 14))
        _, status = os.waitpid(child, 0)
        assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def _append_at_once(buffer: ReplayBuffer, count: int) -> None:
    start, errors, row = threading.Barrier(count), [], np.zeros((1, 2), np.float32)

    def append() -> None:
        start.wait()
        try:
            buffer.append(row)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=append) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _append(buffer: ReplayBuffer) -> None:
    buffer.append(torch.zeros(4, WIDTH))


def _step(buffer: ReplayBuffer) -> None:
    with BatchEnv("Ant-v5", 4, 1) as env:
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, np.float32), into=buffer)


def _status(use: Callable[[], object]) -> int:
    """Whether the buffer refuses to be used, or lets itself be; killed after a minute."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(60)
    try:
        use()
    except RuntimeError as error:
        return REFUSED if "forked while another thread appended" in str(error) else 1
    return 0


def test_a_load_under_a_reader_ends_the_read() -> None:
    """The documentation forbids it; what it must not do is to wait for a row that never comes."""
    many, few = ReplayBuffer(50_000, 16), ReplayBuffer(50_000, 16)
    many.append(torch.zeros(50_000, 16))
    few.append(torch.zeros(2, 16))
    full, short = many.state_dict(), few.state_dict()
    idx, stop, messages = torch.arange(50_000), threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            try:
                many.gather(idx)
            except (RuntimeError, IndexError) as error:
                messages.add(type(error))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(200):
        many.load_state_dict(short)
        many.load_state_dict(full)
        if RuntimeError in messages:
            break
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()
