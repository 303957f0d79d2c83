"""Settings of the whole process."""

from __future__ import annotations

import os

import pytest
import torch

from tom import cli
from tom.process import DEFAULT_THREADS, keep_freed_memory, use_threads


def test_threads_are_those_requested() -> None:
    assert use_threads(3) == 3
    assert torch.get_num_threads() == 3


def test_by_default_as_many_threads_as_processors_but_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    assert use_threads(0) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert use_threads(0) == DEFAULT_THREADS


def test_keeping_freed_memory_leaves_the_process_working() -> None:
    keep_freed_memory()
    assert torch.ones(1000, 1000).sum() == 1e6


@pytest.mark.parametrize("part", ["sac", "dynamics", "dual-q", "discriminator"])
def test_each_fast_path_can_be_switched_off(part: str) -> None:
    config = cli.parse(["--env", "hopper", f"--{part}.no-native"])
    assert not getattr(config, part.replace("-", "_")).native
    assert config.sac.native or part == "sac"
