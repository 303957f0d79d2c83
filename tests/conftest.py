"""Shared by all tests: one thread, which is the fastest for networks this small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tom.streams import RandomStreams

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def streams(*seeds: int, purpose: str = "test") -> RandomStreams:
    """Streams of the given seeds on the processor."""
    return RandomStreams(seeds, purpose, CPU)
