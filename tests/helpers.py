"""Small worlds for the tests of the learning parts, and what the tests of commands share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tom.collector import Collector
from tom.replays import Replays
from tom.rows import RowLayout
from tom.streams import RandomStreams

CPU = torch.device("cpu")
LAYOUT = RowLayout(observation_size=2, action_size=1)


def streams(*seeds: int, purpose: str = "test") -> RandomStreams:
    """Streams of the given seeds on the processor."""
    return RandomStreams(seeds, purpose, CPU)


def filled_replays(rows: Tensor, capacity: int | None = None) -> Replays:
    """Buffers holding rows [S, N, W], seed by seed."""
    replays = Replays(LAYOUT, capacity or rows.shape[1], list(range(len(rows))), CPU)
    for buffer, part in zip(replays.buffers, rows, strict=True):
        buffer.append(part.contiguous())
    return replays


def linear_world(seeds: int, n: int, noise: float = 0.1, push: float = 0.0) -> Tensor:
    """Rows [S, n, W] of s' = s + 0.3 a + noise, r = s₀ − a; s ~ N(0, 1), a ~ N(push, 1)."""
    s, a = torch.randn(seeds, n, 2), torch.randn(seeds, n, 1) + push
    following = s + 0.3 * a + noise * torch.randn(seeds, n, 2)
    return LAYOUT.join(s, a, following, s[..., 0] - a[..., 0], torch.zeros(seeds, n))


def memoryless_world(seeds: int, n: int, push: float = 0.0) -> Tensor:
    """Rows [S, n, W] of a world whose every state is a fresh N(0, 1), with a ~ N(push, 1), r = 0.

    All policies visit the same states in it, so the density ratio of two policies' transitions is
    that of their actions.
    """
    s, a = torch.randn(seeds, n, 2), torch.randn(seeds, n, 1) + push
    return LAYOUT.join(s, a, torch.randn(seeds, n, 2), torch.zeros(seeds, n), torch.zeros(seeds, n))


def two_policies(seeds: int, older: int, newer: int, push: float) -> Tensor:
    """Rows of a policy with a ~ N(0, 1), then of one with a ~ N(push, 1), in that world."""
    return torch.cat([memoryless_world(seeds, older), memoryless_world(seeds, newer, push)], dim=1)


def assert_refused(
    command: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    words: Sequence[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command ends with one sentence that has all these words, and has not made the folder."""
    with pytest.raises(SystemExit) as ending:
        command(arguments)
    assert ending.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(word in error for word in words), error
    assert not folder.exists()


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let Ctrl-C come in a training's environment step of that number."""
    take, taken = Collector.step, 0

    def interrupted(self: Collector, actions: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        if taken == step:
            signal.raise_signal(signal.SIGINT)
        return take(self, actions)

    monkeypatch.setattr(Collector, "step", interrupted)
