"""The replay buffer beside cumsum + searchsorted in torch, and cpprb where it is installed.

    pytest bench/test_bench_replay.py --benchmark-only

Each test times its baseline in the same run, alternating with the buffer (A B A B ...), and prints
both medians and their ratio. The sums of the baseline are float64, and it gets the faster of one
thread and torch's default.
"""

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from timing import alternate
from tom.replay import ReplayBuffer

WIDTH = 64
SIZES = [100_000, 1_000_000]


# Torch's threads keep their processors busy for some milliseconds after their last work, which
# would slow down whatever is timed next. So what uses one thread takes its turns in blocks, and
# what uses several in blocks between them.
BLOCK = 50
QUIET_SECONDS = 0.01


@pytest.fixture
def compare(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Time a call against each baseline, print the ratios, and leave it to pytest-benchmark.

    A baseline alternates with the call alone, so that each pays for what the other, and nothing
    else, leaves in the caches.
    """

    def run(
        call: Callable[[], Any],
        baselines: dict[str, Callable[[], Any]],
        rounds: int = 100,
        before_each: Callable[[], Any] | None = None,
    ) -> None:
        lines = []
        for name, baseline in baselines.items():
            ours, theirs = compare_two(
                call, baseline, name.startswith("torch"), rounds, before_each
            )
            lines.append(
                f"  tom {ours * 1e6:9.1f} us   {name} {theirs * 1e6:9.1f} us"
                f"   ratio {theirs / ours:5.1f}"
            )
            benchmark.extra_info[name] = theirs / ours
        with capsys.disabled():
            print("\n" + "\n".join(lines))
        benchmark(call)

    return run


def compare_two(
    call: Callable[[], Any],
    baseline: Callable[[], Any],
    uses_threads: bool,
    rounds: int,
    before_each: Callable[[], Any] | None,
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
            times[threads].append(alternate(*pair, rounds=BLOCK, before_each=before_each))
    torch.set_num_threads(default)
    ours = median(pair[0] for pair in times[1])
    return ours, min(median(pair[-1] for pair in of) for of in times.values() if of)


class Case:
    """A full buffer with random weights, and the baselines in the same state."""

    def __init__(self, n: int, width: int = 1) -> None:
        self.n = n
        self.buffer = ReplayBuffer(n, width)
        self.buffer.append(torch.rand(n, width))
        self.weights = torch.rand(n)
        self.buffer.set_weights(self.weights)
        self.prefix = self.weights.cumsum(0, dtype=torch.float64)

    def torch_set(self) -> None:
        self.prefix = self.weights.cumsum(0, dtype=torch.float64)

    def torch_set_in_place(self) -> None:
        torch.cumsum(self.weights, 0, dtype=torch.float64, out=self.prefix)

    def torch_draw(self, k: int) -> torch.Tensor:
        u = torch.rand(k, dtype=torch.float64) * self.prefix[-1]
        return torch.searchsorted(self.prefix, u, right=True)


def cpprb_buffer(n: int, width: int) -> Any | None:
    """A prioritized buffer of cpprb in the same state, or None if it is not installed."""
    try:
        import cpprb
    except ImportError:
        return None
    buffer = cpprb.PrioritizedReplayBuffer(n, {"row": {"shape": width}}, alpha=1.0)
    rng = np.random.default_rng(0)
    for part in np.array_split(np.arange(n), max(1, n // 10_000)):
        rows = rng.random((len(part), width), dtype=np.float32)
        buffer.add(row=rows, priorities=rng.random(len(part), dtype=np.float32))
    return buffer


class PlainCopy:
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


@pytest.mark.parametrize("n", SIZES)
def test_set_all_weights(compare: Any, n: int) -> None:
    case = Case(n)
    baselines: dict[str, Callable[[], Any]] = {
        "torch cumsum": case.torch_set,
        "torch cumsum(out=)": case.torch_set_in_place,
    }
    if (peer := cpprb_buffer(n, 1)) is not None:
        idx, w = np.arange(n), case.weights.numpy()
        baselines["cpprb"] = lambda: peer.update_priorities(idx, w)
    baselines["plain copy"] = PlainCopy(n)
    compare(lambda: case.buffer.set_weights(case.weights), baselines)


@pytest.mark.parametrize("n", SIZES)
def test_set_all_weights_after_other_work(compare: Any, n: int) -> None:
    """With nothing in the caches, for either side: the memory sets the pace."""
    case = Case(n)
    compare(
        lambda: case.buffer.set_weights(case.weights),
        {"torch cumsum": case.torch_set, "plain copy": PlainCopy(n)},
        rounds=50,
        before_each=OtherWork(),
    )


@pytest.mark.parametrize("k", [256, 100_000])
@pytest.mark.parametrize("n", SIZES)
def test_draw(compare: Any, n: int, k: int) -> None:
    case = Case(n)
    baselines = {"torch rand + searchsorted": lambda: case.torch_draw(k)}
    compare(lambda: case.buffer.draw(k), baselines, rounds=400 if k == 256 else 50)


@pytest.mark.parametrize("k", [256, 100_000])
@pytest.mark.parametrize("n", SIZES)
def test_draw_and_gather(compare: Any, n: int, k: int) -> None:
    case = Case(n, WIDTH)
    rows = case.buffer.rows
    baselines: dict[str, Callable[[], Any]] = {
        "torch searchsorted + index": lambda: rows[case.torch_draw(k)]
    }
    if (peer := cpprb_buffer(n, WIDTH)) is not None:
        baselines["cpprb"] = lambda: peer.sample(k, beta=0.4)
    compare(lambda: case.buffer.sample(k), baselines, rounds=400 if k == 256 else 50)


@pytest.mark.parametrize("n", [10_000, *SIZES])
def test_update_256_weights(compare: Any, n: int) -> None:
    case = Case(n)
    batches = [(torch.randint(n, (256,)), torch.rand(256)) for _ in range(64)]
    turn = iter(range(10**9))

    def update() -> None:
        case.buffer.update_weights(*batches[next(turn) % 64])

    baselines: dict[str, Callable[[], Any]] = {}
    if (peer := cpprb_buffer(n, 1)) is not None:

        def peer_update() -> None:
            idx, w = batches[next(turn) % 64]
            peer.update_priorities(idx.numpy(), w.numpy())

        baselines["cpprb"] = peer_update
    compare(update, baselines, rounds=400)


@pytest.mark.parametrize("n", SIZES)
def test_memory_bandwidth(benchmark: Any, capsys: pytest.CaptureFixture[str], n: int) -> None:
    """The rate at which set_weights reads weights and writes leaves and sums, and a copy's."""
    case, copy = Case(n), PlainCopy(n)
    (ours,) = alternate(lambda: case.buffer.set_weights(case.weights), rounds=100)
    (theirs,) = alternate(copy, rounds=100)
    written = 4 * len(copy.source)
    rates = (4 * n + written) / ours, 2 * written / theirs
    with capsys.disabled():
        print(f"\n  set_weights {rates[0] / 1e9:.1f} GB/s, copy {rates[1] / 1e9:.1f} GB/s")
        print(f"  fraction {rates[0] / rates[1]:.2f}")
    benchmark.extra_info["fraction"] = rates[0] / rates[1]
    benchmark(lambda: case.buffer.set_weights(case.weights))


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
