"""Recorded steps do what the steps themselves do; a graph is imitated where there is no GPU.

tests/test_cuda.py repeats the comparison with CUDA's own graphs.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tom.discriminator
import tom.dual_q
import tom.dynamics
import tom.sac
from helpers import CPU, filled_replays, linear_world
from step_cases import KINDS, make_case
from tom.config import DiscriminatorConfig
from tom.discriminator import Discriminator
from tom.graphs import StepGraphs, Steps
from tom.streams import RandomStreams
from tom.train import main


class FakeRecorder:
    """A graph on the CPU: its capture computes nothing, its replay runs the steps again.

    Args:
        state: what the steps change.
        log: what is done is added here.
    """

    def __init__(self, state: Sequence[Tensor], log: list[str]) -> None:
        self.state, self.log = state, log

    def warm_up(self, run: Callable[[], Tensor]) -> None:
        self.log.append("warm up")
        run()

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        self.log.append("capture")
        before = [tensor.clone() for tensor in self.state]
        output = run()
        output.fill_(torch.nan)
        for tensor, value in zip(self.state, before, strict=True):
            tensor.copy_(value)

        def replay() -> None:
            self.log.append("replay")
            output.copy_(run())

        return replay, output


def _fake(steps: Steps, state: Sequence[Tensor], log: list[str]) -> Steps:
    graphs = StepGraphs(state, CPU, make_recorder=lambda: FakeRecorder(state, log))
    return functools.partial(graphs.take, steps)


def _inputs(kind: str, call: int) -> tuple[Tensor, ...]:
    """Other numbers at each call, laid out as the callers do: the steps are not the first axis."""
    torch.manual_seed(call)
    inputs = make_case(kind, count=3).inputs
    return tuple(torch.rand_like(x).transpose(0, 1).contiguous().transpose(0, 1) for x in inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_equal_the_steps_bit_for_bit(kind: str) -> None:
    plain, recorded, log = make_case(kind), make_case(kind), []
    steps = _fake(recorded.steps, recorded.state, log)
    for call in range(4):
        inputs = _inputs(kind, call)
        assert torch.equal(steps(*inputs), plain.steps(*inputs))
        for found, expected in zip(recorded.state, plain.state, strict=True):
            assert torch.equal(found, expected)
    assert log == ["warm up", "capture", "replay", "replay", "replay", "replay"]


def _counter() -> tuple[Tensor, Steps, list[str]]:
    """Adds its input's sum to a number, and returns the number times the input."""
    total, log = torch.zeros(()), []

    def steps(x: Tensor) -> Tensor:
        return total.add_(x.sum()) * x

    return total, _fake(steps, [total], log), log


def test_each_set_of_shapes_is_recorded_once() -> None:
    total, steps, log = _counter()
    for n in (2, 3, 2, 3):
        assert torch.equal(steps(torch.ones(n)), total * torch.ones(n))
    assert total == 10
    assert log.count("capture") == 2 and log.count("replay") == 4
    steps(torch.ones(2, dtype=torch.float64))
    assert log.count("capture") == 3


def test_a_result_outlives_the_next_call_and_inputs_stay_as_they_are() -> None:
    _, steps, _ = _counter()
    x = torch.ones(2)
    first = steps(x)
    steps(5 * x)
    assert first.tolist() == [2, 2] and x.tolist() == [1, 1]


def test_a_state_set_between_two_calls_is_used() -> None:
    total, steps, _ = _counter()
    steps(torch.ones(2))
    total.fill_(100)
    assert steps(torch.ones(2)).tolist() == [102, 102]


@pytest.mark.parametrize("failing", ["warm_up", "capture"])
def test_steps_that_cannot_be_recorded_change_nothing(failing: str) -> None:
    total = torch.ones(())

    def steps(x: Tensor) -> Tensor:
        return total.add_(x.sum())

    class Failing(FakeRecorder):
        pass

    def fail(self: FakeRecorder, run: Callable[[], Tensor]) -> Any:
        if failing == "warm_up":
            run()  # the failure may come after a part of the work
        raise RuntimeError("out of memory")

    setattr(Failing, failing, fail)
    graphs = StepGraphs([total], CPU, make_recorder=lambda: Failing([total], []))
    words = "out of memory" if failing == "warm_up" else "--no-cuda-graphs"
    with pytest.raises(RuntimeError, match=words):
        graphs.take(steps, torch.ones(2))
    assert total == 1


def test_there_are_no_graphs_on_the_processor_nor_where_they_are_switched_off() -> None:
    def refuse() -> FakeRecorder:
        raise AssertionError("recorded")

    x = torch.ones(2)
    for graphs in (StepGraphs([], CPU), StepGraphs([], CPU, enabled=False, make_recorder=refuse)):
        assert graphs.take(lambda y: y, x) is x
    assert StepGraphs([], torch.device("cuda"))._make_recorder is not None
    assert StepGraphs([], torch.device("cuda"), enabled=False)._make_recorder is None


def test_a_part_and_its_graphs_are_freed_with_their_last_user() -> None:
    """By counting references: the garbage collector may come long after."""
    streams = RandomStreams([0], "test", CPU)
    part = Discriminator(5, DiscriminatorConfig(hidden=(8,), steps=2), streams)
    part.fit(filled_replays(linear_world(1, 1000)))
    gone = weakref.ref(part)
    del part
    assert gone() is None


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Makes every part record its steps on the CPU; what each part did, and with which setting."""
    logs: dict[str, list[str]] = {}

    def fake(
        name: str, state: Sequence[Tensor], device: torch.device, *, enabled: bool
    ) -> StepGraphs:
        log = logs[name] = [f"enabled {enabled}"]
        return StepGraphs(state, device, make_recorder=lambda: FakeRecorder(state, log))

    for part in (tom.sac, tom.dynamics, tom.dual_q, tom.discriminator):
        monkeypatch.setattr(part, "StepGraphs", functools.partial(fake, part.__name__))
    return logs


def _train(folder: Path, *arguments: str) -> dict[str, Tensor]:
    main([
        "--env", "hopper", "--preset", "debug", "--threads", "1", "--steps", "400",
        "--dual-q.steps", "70", "--run-dir", str(folder), *arguments,
    ])  # fmt: skip
    return load_file(folder / "checkpoints/step_00000400/seed_0.safetensors")


def test_a_run_on_graphs_ends_as_one_without(
    tmp_path: Path, faked: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = _train(tmp_path / "recorded", "--no-cuda-graphs")
    assert [log[0] for log in faked.values()] == ["enabled False"] * 4
    # 70 steps of the dual Q are a chunk of 50 and one of 20.
    captures = {name.removeprefix("tom."): log.count("capture") for name, log in faked.items()}
    assert captures == {"sac": 1, "dynamics": 1, "dual_q": 2, "discriminator": 1}
    monkeypatch.undo()
    plain = _train(tmp_path / "plain")
    assert recorded.keys() == plain.keys()
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)
