"""torch.compile as a baseline, where there is a compiler."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch


def compiled(function: Callable[..., Any], mode: str | None, *arguments: Any) -> tuple[Any, float]:
    """`function` compiled, and the seconds that its first three calls took.

    Skips the test where torch.compile finds no C++ compiler.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler; there is no g++, and CXX names none.")
    torch.compiler.reset()
    fast = torch.compile(function, mode=mode)
    start = time.perf_counter()
    for _ in range(3):
        fast(*arguments)
    return fast, time.perf_counter() - start
