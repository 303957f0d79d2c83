"""On a GPU: the same training as on the processor, with graphs and without, and without waiting.

What can be checked without one is in test_other_devices.py, test_graphs.py and test_row_mirror.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from step_cases import (
    FUSED,
    KINDS,
    LAYOUT,
    SEEDS,
    Case,
    make_case,
    map_tensors,
    note_fused_calls,
    take_larger_blocks,
)
from tom import kernels, metrics
from tom.config import Config
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ
from tom.dynamics import DynamicsEnsemble
from tom.experiment import Experiment
from tom.graphs import StepGraphs, Steps
from tom.model_buffer import ModelBuffer
from tom.policy_batches import policy_batches
from tom.replays import Replays
from tom.sac import SAC
from tom.settings import override
from tom.streams import RandomStreams
from tom.tasks import defaults
from tom.train import main, open_run
from tom.transfer import to_device

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device: none is present"
)
CUDA = torch.device("cuda")
# Over 100 steps, of which each starts from the differences of the last. cuBLAS sums in another
# order than MKL; two orders on the CPU end 2e-7 apart in float32. Between two runs of one kernel on
# one GPU nothing should differ.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
GRAPH_TOLERANCE = 1e-6


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def _assert_near(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for found, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(found.cpu(), wanted.cpu(), rtol=tolerance, atol=tolerance)


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Any call that makes the host wait for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _graphed(case: Case) -> Steps:
    return functools.partial(StepGraphs(case.state, CUDA).take, case.steps)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_on_the_gpu_equal_those_on_the_processor(kind: str, dtype: torch.dtype) -> None:
    on_gpu = make_case(kind, "cuda", fused=False)
    _assert_near(on_gpu.run(), make_case(kind).run(), TOLERANCE[dtype])


@pytest.mark.parametrize("larger_blocks", [False, True])
@pytest.mark.parametrize("kind", FUSED)
def test_fused_kernels_take_the_same_steps(
    kind: str, larger_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if larger_blocks:
        take_larger_blocks(monkeypatch)
    called = note_fused_calls(monkeypatch)
    found, expected = make_case(kind, "cuda"), make_case(kind)
    returned, wanted = found.steps(*found.inputs), expected.steps(*expected.inputs)
    assert called, kernels.unavailable(CUDA)
    _assert_near([returned], [wanted], TOLERANCE[torch.float32])
    _assert_near(found.results, expected.results, TOLERANCE[torch.float32])


@pytest.mark.parametrize("moved", ["grad_out", "weights", "saved"])
def test_a_way_back_on_two_devices_is_refused(moved: str) -> None:
    x, weights = torch.zeros(1, 1, 5, 3), [torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 4, 2)]
    biases = [torch.zeros(1, 1, 4), torch.zeros(1, 1, 2)]
    out, saved = torch.ops.tom.stacked_mlp_forward(x, weights, biases, "silu", True)
    given = {"grad_out": out, "x": x, "weights": weights, "saved": saved}
    given[moved] = map_tensors(lambda t: t.to(CUDA), given[moved])
    with pytest.raises(ValueError, match=rf"{moved}.* is Float on cuda:0; it must be Float on cpu"):
        torch.ops.tom.stacked_mlp_backward(*given.values(), "silu", True, True)


@pytest.mark.parametrize("kind", [*KINDS, "even dynamics"])
def test_graphs_take_the_same_steps(kind: str, dtype: torch.dtype) -> None:
    """Ten calls of ten steps each; the graph is recorded in the first."""
    plain, recorded = make_case(kind, "cuda"), make_case(kind, "cuda")
    steps = _graphed(recorded)
    for begin in range(0, 100, 10):
        # A copy: cuBLAS may choose another kernel for memory that is aligned otherwise.
        inputs = [x[begin : begin + 10].clone() for x in plain.inputs]
        _assert_near([steps(*inputs)], [plain.steps(*inputs)], GRAPH_TOLERANCE)
        _assert_near(recorded.state, plain.state, GRAPH_TOLERANCE)


def test_recording_leaves_no_trace() -> None:
    """A graph that replays its capture alone has taken as many steps as it was asked to."""
    case = make_case("dynamics", "cuda", count=10)
    steps, counter = _graphed(case), case.state[4]
    for calls in (1, 2, 3):
        steps(*case.inputs)
        assert counter.item() == 10 * calls


def test_graphs_of_several_shapes_live_side_by_side() -> None:
    plain, recorded = make_case("sac", "cuda", count=12), make_case("sac", "cuda", count=12)
    steps = _graphed(recorded)
    for begin, end in ((0, 5), (5, 7), (7, 12), (0, 2)):
        part = [x[begin:end].clone() for x in plain.inputs]
        _assert_near([steps(*part)], [plain.steps(*part)], GRAPH_TOLERANCE)
    _assert_near(recorded.state, plain.state, GRAPH_TOLERANCE)


def test_random_numbers_differ_from_replay_to_replay() -> None:
    """The noise is an input: a graph that drew it would repeat it, and so the entropy."""
    sac = _sac(learning_rate=1e-12)
    rows = torch.zeros(2, len(SEEDS), 8, LAYOUT.width, device=CUDA)
    entropies = [sac.update(rows)["train/entropy"] for _ in range(3)]
    assert all(bool((a != b).all()) for a, b in pairwise(entropies))


def test_pinned_copies_may_be_followed_by_a_change_of_the_source() -> None:
    source = torch.arange(1000.0)
    copies = []
    for _ in range(200):
        copies.append(to_device(source, CUDA))
        source += 1
    assert all(copy[0].item() == i for i, copy in enumerate(copies))


def _streams(purpose: str = "test") -> RandomStreams:
    return RandomStreams(SEEDS, purpose, CUDA)


CONFIG = override(
    Config(),
    {
        "updates_per_step": 4,
        "reward_transform": "log",
        **{f"{part}.hidden": (16, 16) for part in ("sac", "dynamics", "dual_q", "discriminator")},
        "sac.batch_size": 32,
        "dynamics.members": 3,
        "dynamics.batches_per_epoch": 5,
        "dual_q.steps": 60,
        "discriminator.steps": 5,
        "discriminator.current_rows": 100,
    },
)


def _sac(*, cuda_graphs: bool = True, learning_rate: float = 3e-4) -> SAC:
    ones = torch.ones(LAYOUT.action_size)
    config = dataclasses.replace(CONFIG.sac, learning_rate=learning_rate)
    return SAC(LAYOUT, -ones, ones, config, 0.99, _streams("sac"), cuda_graphs=cuda_graphs)


def _replays(device: torch.device = CUDA) -> Replays:
    torch.manual_seed(0)
    replays = Replays(LAYOUT, 300, SEEDS, device)
    for _ in range(400):
        replays.append(torch.randn(len(SEEDS), LAYOUT.width))
    return replays


def test_rows_on_the_gpu_are_the_hosts() -> None:
    host, mirrored = _replays(torch.device("cpu")), _replays()
    for _ in range(3):
        weights = torch.rand(len(SEEDS), len(host))
        for replays in (host, mirrored):
            replays.append(torch.ones(len(SEEDS), LAYOUT.width))
            replays.set_weights(weights)
        pairs = [
            (host.rows(), mirrored.rows()),
            *zip(host.sample(50), mirrored.sample(50), strict=True),
            *zip(host.sample_uniform(50), mirrored.sample_uniform(50), strict=True),
            (host.newest(20), mirrored.newest(20)),
        ]
        assert all(b.is_cuda and torch.equal(a, b.cpu()) for a, b in pairs)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_an_environment_steps_updates_do_not_wait(cuda_graphs: bool) -> None:
    """From the arrival of the rows on; what happens once, such as the recording, is done before."""
    replays, sac = _replays(), _sac(cuda_graphs=cuda_graphs)
    model = ModelBuffer(200, LAYOUT.width, _streams("model"))
    model.extend([torch.zeros(150, LAYOUT.width, device=CUDA)] * len(SEEDS))

    def step() -> dict[str, Tensor]:
        replays.append(torch.randn(len(SEEDS), LAYOUT.width))
        batches = policy_batches(replays, model, CONFIG, torch.zeros(len(SEEDS)))
        return sac.update(batches)

    step()
    with _no_waiting():
        for _ in range(3):
            found = step()
    assert all(torch.isfinite(value).all() for value in found.values())


def test_an_iterations_training_does_not_wait() -> None:
    replays = _replays()
    discriminator = Discriminator(LAYOUT.transition.stop, CONFIG.discriminator, _streams("c"))
    dual_q = DualQ(LAYOUT, DIVERGENCES["chi2"], CONFIG.dual_q, 0.99, _streams("q"))
    ensemble = DynamicsEnsemble(LAYOUT, CONFIG.dynamics, "sample", _streams("dynamics"))
    weights = torch.ones(len(SEEDS), len(replays), device=CUDA)
    states = torch.zeros(len(SEEDS), 1, LAYOUT.observation_size, device=CUDA)
    sac = _sac()

    def iteration() -> None:
        discriminator.fit(replays)
        rewards = discriminator.reward(replays.rows()[..., LAYOUT.transition])
        dual_q.fit(replays, rewards, lambda n: states.expand(-1, n, -1), sac.act)
        ensemble._standardise(replays)
        ensemble._train_epoch(*ensemble._minibatches(replays, weights))

    iteration()
    with _no_waiting():
        iteration()


def test_waiting_is_noticed() -> None:
    """The control of both tests above."""
    with _no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        torch.zeros(1, device=CUDA).item()
    with _no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        torch.zeros(1000).to(CUDA)


def _run(folder: Path, *arguments: str, steps: int = 600) -> Path:
    main([
        "--env", "hopper", "--preset", "debug", "--device", "cuda", "--seeds", "2",
        "--steps", str(steps), "--run-dir", str(folder), *arguments,
    ])  # fmt: skip
    return folder


@pytest.mark.parametrize("algorithm", ["tom", "mbpo", "pmac"])
def test_a_run_trains(algorithm: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", "--algorithm", algorithm)
    rows = metrics.read(folder / "metrics.csv")
    assert {row["step"] for row in rows} == {str(step) for step in range(100, 700, 100)}
    assert all(
        math.isfinite(float(v)) for row in rows if int(row["step"]) > 200 for v in row.values() if v
    )


def test_a_run_trains_without_graphs_and_in_single_steps(tmp_path: Path) -> None:
    _run(tmp_path / "launched", "--no-cuda-graphs", steps=400)
    off = [f"--{part}.no-native" for part in ("sac", "dynamics", "dual-q", "discriminator")]
    _run(tmp_path / "autograd", *off, steps=400)


def test_a_run_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _run(tmp_path / "run", steps=350)
    _run(folder)
    assert "resuming" in capsys.readouterr().out
    assert (folder / "checkpoints" / "step_00000600").is_dir()


def test_a_restored_run_goes_on_as_the_saved_one_would(tmp_path: Path) -> None:
    """Buffers, mirror, random streams, networks: its next updates are those of the other."""
    folder = _run(tmp_path / "run", steps=400)
    config = dataclasses.replace(
        defaults("hopper", "debug"), device="cuda", seeds=2, steps=400, run_dir=str(folder)
    )
    after: list[list[Tensor]] = []
    for _ in range(2):
        run, _, log = open_run(config, Console(quiet=True))
        with log:
            batches = policy_batches(
                run.replays, run.model_buffer, config, run.collector.lowest_reward
            )
            run.sac.update(batches)
        after.append([batches, run.replays.rows(), *_flat(run)])
        run.close()
    assert torch.equal(after[0][0], after[1][0]) and torch.equal(after[0][1], after[1][1])
    _assert_near(after[0][2:], after[1][2:], GRAPH_TOLERANCE)


def _flat(run: Experiment) -> list[Tensor]:
    return [run.sac.actor.flat, run.sac.critic.flat, run.sac.target.flat, run.dynamics.network.flat]
