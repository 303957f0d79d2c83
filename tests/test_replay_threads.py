"""Many threads use one buffer; the C++ stress programs do the same under sanitizers."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tom.replay import ReplayBuffer


def run_together(*jobs: Callable[[], None]) -> None:
    """Run each job in a thread of its own and raise what any of them raised."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
def test_threads_share_one_stream_of_draws(threads: int) -> None:
    def buffer() -> ReplayBuffer:
        made = ReplayBuffer(1000, 1, seed=3)
        made.append(torch.zeros(1000, 1), torch.rand(1000, generator=torch.manual_seed(0)))
        return made

    calls = 64
    alone = buffer()
    expected = {tuple(alone.draw(100).tolist()) for _ in range(calls)}
    shared = buffer()
    results: list[tuple[int, ...]] = []

    def draw() -> None:
        for _ in range(calls // threads):
            results.append(tuple(shared.draw(100).tolist()))

    run_together(*[draw] * threads)
    assert len(results) == calls
    assert set(results) == expected


@pytest.mark.parametrize("width", [8, 5])
def test_no_row_is_lost_or_torn(width: int) -> None:
    producers, each, batch = 4, 200, 10
    buffer = ReplayBuffer(500, width)
    buffer.append(torch.zeros(500, width))
    done = threading.Event()
    left = [producers]
    firsts: list[tuple[int, int]] = []

    def produce(base: int) -> None:
        for i in range(each):
            value = base * each + i + 1
            firsts.append((buffer.append(torch.full((batch, width), float(value))), value))
        left[0] -= 1
        if left[0] == 0:
            done.set()

    def consume() -> None:
        while not done.is_set():
            for rows in (buffer.sample(64)[1], buffer.newest(100), buffer.sample_uniform(64)[1]):
                assert (rows == rows[:, :1]).all()
            assert len(buffer.ages) == len(buffer) == 500

    run_together(*[lambda b=b: produce(b) for b in range(producers)], consume, consume)
    assert buffer.total_appended == 500 + producers * each * batch
    assert len(set(firsts)) == producers * each
    newest = buffer.newest(500)[:, 0].reshape(50, batch)
    assert (newest == newest[:, :1]).all(), "the rows of one call are neighbours"
    assert buffer.total_weight == 500.0


def test_a_draw_sees_one_generation_of_weights() -> None:
    buffer = ReplayBuffer(2000, 1)
    buffer.append(torch.zeros(2000, 1))
    first = torch.arange(2000) < 1000
    generations = [first.float(), (~first).float()]
    done = threading.Event()

    def rewrite() -> None:
        for i in range(2000):
            buffer.set_weights(generations[i % 2])
        done.set()

    def draw() -> None:
        while not done.is_set():
            low = buffer.draw(50) < 1000
            assert low.all() or not low.any()

    buffer.set_weights(generations[1])
    run_together(rewrite, draw, draw)


def test_rows_appended_during_a_rewrite_keep_their_weights() -> None:
    buffer = ReplayBuffer(100 + 4000, 1)
    buffer.append(torch.zeros(100, 1))
    done = threading.Event()

    def produce() -> None:
        for _ in range(2000):
            slot = buffer.append(torch.zeros(2, 1), 3.0)
            buffer.update_weights(np.array([slot]), 2.0)
        done.set()

    def rewrite() -> None:
        while True:  # at least once, though the producer may already be done
            buffer.set_weights(torch.full((100,), 5.0), allow_newer=True)
            if done.is_set():
                return

    run_together(produce, rewrite, rewrite)
    assert buffer.weights.tolist() == [5.0] * 100 + [2.0, 3.0] * 2000
    assert buffer.total_weight == 500.0 + 5.0 * 2000
