"""What the benchmarks of networks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tom.process import keep_freed_memory


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each number of torch's threads in turn, with memory kept as a training run keeps it."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    keep_freed_memory()
    yield request.param
    torch.set_num_threads(before)
