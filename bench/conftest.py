"""What the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from comparison_table import print_table
from tom.process import keep_freed_memory


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each number of torch's threads in turn, with memory kept as a training run keeps it."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    keep_freed_memory()
    yield request.param
    torch.set_num_threads(before)


def pytest_terminal_summary(config: pytest.Config) -> None:
    """After everything else, where a long run leaves it in sight."""
    print_table(config)
