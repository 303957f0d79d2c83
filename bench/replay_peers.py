"""What the replay buffer is compared with: torch; cpprb and torchrl where they are installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TorchSums:
    """Float64 sums by cumsum, searched by searchsorted; rows gathered by indexing."""

    def __init__(self, weights: Tensor, rows: Tensor) -> None:
        self.rows = rows
        self.set(weights)

    def set(self, weights: Tensor) -> None:
        self.prefix = weights.cumsum(0, dtype=torch.float64)

    def set_in_place(self, weights: Tensor) -> None:
        torch.cumsum(weights, 0, dtype=torch.float64, out=self.prefix)

    def draw(self, k: int) -> Tensor:
        u = torch.rand(k, dtype=torch.float64) * self.prefix[-1]
        return torch.searchsorted(self.prefix, u, right=True)

    def sample(self, k: int) -> Tensor:
        return self.rows[self.draw(k)]


class Cpprb:
    """cpprb's prioritized buffer, which draws and gathers in one call."""

    def __init__(self, cpprb: Any, n: int, width: int) -> None:
        self.everything = np.arange(n)
        self.buffer = cpprb.PrioritizedReplayBuffer(n, {"row": {"shape": width}}, alpha=1.0)
        rng = np.random.default_rng(0)
        for part in np.array_split(self.everything, max(1, n // 10_000)):
            rows = rng.random((len(part), width), dtype=np.float32)
            self.buffer.add(row=rows, priorities=rng.random(len(part), dtype=np.float32))

    def set(self, weights: Tensor) -> None:
        self.buffer.update_priorities(self.everything, weights.numpy())

    def update(self, idx: Tensor, weights: Tensor) -> None:
        self.buffer.update_priorities(idx.numpy(), weights.numpy())

    def sample(self, k: int) -> Any:
        return self.buffer.sample(k, beta=0.4)


class TorchrlTree:
    """torchrl's float32 segment tree, driven as its PrioritizedSampler drives it."""

    def __init__(self, tree: Any, weights: Tensor) -> None:
        self.everything, self.tree = torch.arange(len(weights)), tree(len(weights))
        self.set(weights)

    def set(self, weights: Tensor) -> None:
        self.tree[self.everything] = weights

    def update(self, idx: Tensor, weights: Tensor) -> None:
        self.tree[idx] = weights

    def draw(self, k: int) -> Tensor:
        mass = torch.rand(k) * self.tree.query(0, len(self.everything))
        index: Tensor = self.tree.scan_lower_bound(mass)
        return index


def cpprb_buffer(n: int, width: int) -> Cpprb | None:
    """A buffer of n random rows and weights, or None where cpprb is not installed."""
    try:
        import cpprb
    except ImportError:
        return None
    return Cpprb(cpprb, n, width)


def torchrl_tree(weights: Tensor) -> TorchrlTree | None:
    """A tree with these weights, or None where torchrl or a C++ compiler is missing."""
    tree = _torchrl_tree_type()
    return None if tree is None else TorchrlTree(tree, weights)


@cache
def _torchrl_tree_type() -> Any | None:
    # torchrl's own binary loads beside one version of torch only, but its wheel has the sources.
    # Compiling takes a minute; torch keeps the result for the next time.
    package = importlib.util.find_spec("torchrl")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if package is None or package.origin is None or compiler is None:
        return None
    above = Path(package.origin).parents[1]
    if not (above / "torchrl/csrc/segment_tree.h").exists():
        return None
    from torch.utils.cpp_extension import load_inline

    source = """
        #include <torchrl/csrc/segment_tree.h>
        PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
          torchrl::DefineSumSegmentTree<float>("", m);
        }
    """
    versions = f"{version('torchrl')}_{torch.__version__}"
    module = load_inline(
        re.sub(r"\W", "_", f"torchrl_tree_{versions}"),
        source,
        extra_include_paths=[str(above)],
        extra_cflags=["-O3", "-DNDEBUG"],
    )
    return module.SumSegmentTree
