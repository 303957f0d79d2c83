"""The replay buffer beside cumsum + searchsorted in torch, and cpprb and torchrl where installed.

    pytest bench/test_bench_replay.py --benchmark-only

Each test times its baselines in the same run, each alternating with the buffer (A B A B ...), and
prints both medians and their ratio; a table of all stands at the end. Torch's sums are float64, and
get the faster of one thread and torch's default; torchrl's tree is float32, its default.
"""

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from comparison_table import add_row
from replay_peers import TorchSums, cpprb_buffer, torchrl_tree
from timing import alternate
from tom.replay import ReplayBuffer

WIDTH = 64  # of the rows that are gathered
SIZES = [100_000, 1_000_000]


# Torch's threads keep their processors busy for some milliseconds after their last work, which
# would slow down whatever is timed next. So what uses one thread takes its turns in blocks, and
# what uses several in blocks between them.
BLOCK = 50
QUIET_SECONDS = 0.01


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: Any, capsys: Any) -> Any:
    """Time a call against each baseline, print the ratios, and leave it to pytest-benchmark.

    A baseline alternates with the call alone, so that each pays for what the other, and nothing
    else, leaves in the caches; `in_a_row` and `before_each` are those of `alternate`.
    """

    def run(
        work: str,
        call: Callable[[], Any],
        baselines: dict[str, Callable[[], Any]],
        rounds: int = 100,
        **conditions: Any,
    ) -> None:
        pairs = {}
        for name, baseline in baselines.items():
            uses_threads = name.startswith("torch ")
            pairs[name] = compare_two(call, baseline, uses_threads, rounds, conditions)
        with capsys.disabled():
            print(f"\n  {work}")
            for name, (ours, theirs) in pairs.items():
                print(
                    f"    tom {ours * 1e6:9.1f} us   {name:26s} {theirs * 1e6:9.1f} us"
                    f"   ratio {theirs / ours:5.1f}"
                )
        benchmark.extra_info |= {name: theirs / ours for name, (ours, theirs) in pairs.items()}
        add_row(request.config, work, pairs)
        benchmark(call)

    return run


def compare_two(
    call: Callable[[], Any],
    baseline: Callable[[], Any],
    uses_threads: bool,
    rounds: int,
    conditions: dict[str, Any],
) -> tuple[float, float]:
    """Median seconds of both with one thread; the baseline's with torch's default if less."""
    default = torch.get_num_threads()
    times: dict[int, list[list[float]]] = {1: [], default: []}
    for _ in range(rounds // BLOCK):
        for threads in {1, default} if uses_threads else {1}:
            torch.set_num_threads(threads)
            end = time.perf_counter() + QUIET_SECONDS
            while time.perf_counter() < end:  # not asleep, so that the clock stays up
                pass
            pair = [call, baseline] if threads == 1 else [baseline]
            times[threads].append(alternate(*pair, rounds=BLOCK, **conditions))
    torch.set_num_threads(default)
    ours = median(pair[0] for pair in times[1])
    return ours, min(median(pair[-1] for pair in of) for of in times.values() if of)


class Case:
    """A full buffer with random weights, and the baselines in the same state."""

    def __init__(self, n: int, width: int = 1) -> None:
        self.buffer = ReplayBuffer(n, width)
        self.buffer.append(torch.rand(n, width))
        self.weights = torch.rand(n)
        self.buffer.set_weights(self.weights)
        self.torch = TorchSums(self.weights, self.buffer.rows)

    def set(self) -> None:
        self.buffer.set_weights(self.weights)


class Copy:
    """Copies as many bytes as a rewrite of n weights writes: 4 a leaf, and 8/7 for the sums.

    In turns to two places, as the buffer rewrites the weights that nobody reads.
    """

    def __init__(self, n: int) -> None:
        self.source = torch.rand(n * 9 // 7)
        self.targets = [torch.empty_like(self.source) for _ in range(2)]

    def __call__(self) -> None:
        self.targets.reverse()
        self.targets[0].copy_(self.source)


class OtherWork:
    """Reads and writes more memory than the caches hold, as a training step may."""

    def __init__(self) -> None:
        self.numbers = np.zeros(1 << 23)

    def __call__(self) -> None:
        self.numbers += 1.0


# What finds what in the caches decides about the time of a million weights.
CONDITIONS: dict[str, dict[str, Any]] = {
    "in a loop": {"in_a_row": 25},  # of its own, as `timeit` measures
    "in turns": {},
    "after other work": {"before_each": OtherWork(), "rounds": BLOCK},
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("when", CONDITIONS)
def test_set_all_weights(compare: Any, when: str, n: int) -> None:
    case = Case(n)
    w = case.weights
    baselines: dict[str, Callable[[], Any]] = {
        "torch cumsum": lambda: case.torch.set(w),
        "torch cumsum(out=)": lambda: case.torch.set_in_place(w),
    }
    if (tree := torchrl_tree(w)) is not None:
        baselines["torchrl"] = lambda: tree.set(w)
    if (cpprb := cpprb_buffer(n, 1)) is not None:
        baselines["cpprb"] = lambda: cpprb.set(w)
    baselines["copy"] = Copy(n)
    compare(f"set {n:,} weights {when}", case.set, baselines, **CONDITIONS[when])


@pytest.mark.parametrize("k", [256, 100_000])
@pytest.mark.parametrize("n", SIZES)
def test_draw(compare: Any, n: int, k: int) -> None:
    case = Case(n)
    baselines: dict[str, Callable[[], Any]] = {
        "torch rand + searchsorted": lambda: case.torch.draw(k)
    }
    if (tree := torchrl_tree(case.weights)) is not None:
        baselines["torchrl"] = lambda: tree.draw(k)
    rounds = 400 if k == 256 else 50
    compare(f"draw {k:,} of {n:,}", lambda: case.buffer.draw(k), baselines, rounds)


@pytest.mark.parametrize("k", [256, 100_000])
@pytest.mark.parametrize("n", SIZES)
def test_draw_and_gather(compare: Any, n: int, k: int) -> None:
    case = Case(n, WIDTH)
    baselines: dict[str, Callable[[], Any]] = {
        "torch searchsorted + index": lambda: case.torch.sample(k)
    }
    if (cpprb := cpprb_buffer(n, WIDTH)) is not None:
        baselines["cpprb"] = lambda: cpprb.sample(k)
    rounds = 400 if k == 256 else 50
    work = f"draw and gather {k:,} of {n:,}"
    compare(work, lambda: case.buffer.sample(k), baselines, rounds)


@pytest.mark.parametrize("n", [10_000, *SIZES])
def test_update_256_weights(compare: Any, n: int) -> None:
    case = Case(n)
    batches = [(torch.randint(n, (256,)), torch.rand(256)) for _ in range(64)]
    turn = iter(range(10**9))

    def updating(update: Callable[[torch.Tensor, torch.Tensor], None]) -> Callable[[], None]:
        return lambda: update(*batches[next(turn) % 64])

    baselines: dict[str, Callable[[], Any]] = {}
    if (tree := torchrl_tree(case.weights)) is not None:
        baselines["torchrl"] = updating(tree.update)
    if (cpprb := cpprb_buffer(n, 1)) is not None:
        baselines["cpprb"] = updating(cpprb.update)
    work = f"update 256 weights of {n:,}"
    compare(work, updating(case.buffer.update_weights), baselines, rounds=400)


@pytest.mark.parametrize("n", SIZES)
def test_memory_bandwidth(benchmark: Any, capsys: pytest.CaptureFixture[str], n: int) -> None:
    """The rate at which set_weights reads weights and writes leaves and sums, and a copy's."""
    case, copy = Case(n), Copy(n)
    (ours,) = alternate(case.set, rounds=100)
    (theirs,) = alternate(copy, rounds=100)
    written = 4 * len(copy.source)
    rates = (4 * n + written) / ours, 2 * written / theirs
    with capsys.disabled():
        print(f"\n  set_weights {rates[0] / 1e9:.1f} GB/s, copy {rates[1] / 1e9:.1f} GB/s")
        print(f"  fraction {rates[0] / rates[1]:.2f}")
    benchmark.extra_info["fraction"] = rates[0] / rates[1]
    benchmark(case.set)


@pytest.mark.parametrize("producers", [1, 2, 4])
def test_producers_while_one_thread_draws(
    benchmark: Any, producers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(100_000, WIDTH)
    rows = torch.rand(256, WIDTH)
    stop = threading.Event()
    drawn = [0]

    def draw() -> None:
        while not stop.is_set():
            case.buffer.sample(256)
            drawn[0] += 256

    def produce() -> None:
        for _ in range(400 // producers):
            case.buffer.append(rows)

    def run() -> None:
        threads = [threading.Thread(target=produce) for _ in range(producers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    drawer = threading.Thread(target=draw)
    drawer.start()
    begin = time.perf_counter()
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    seconds = time.perf_counter() - begin
    stop.set()
    drawer.join()
    appended = 6 * (400 // producers) * producers * 256
    with capsys.disabled():
        print(
            f"\n  {producers} producers: {appended / seconds / 1e6:.2f} M rows/s appended, "
            f"{drawn[0] / seconds / 1e6:.2f} M rows/s drawn"
        )
