"""Load the native parts, after checking that they fit the installed torch and MuJoCo.

The extension is linked against one exact version of each; with another one the dynamic linker
would fail on an undefined symbol, or worse, not fail. The check therefore comes first.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import mujoco  # noqa: F401  (loads libmujoco, which tom._native links)
import torch

from tom import _build_info


def _check(package: str, built: str) -> None:
    installed = importlib.metadata.version(package).split("+")[0]
    if installed != built:
        raise ImportError(
            f"tom was built for {package} {built}, but {package} {installed} is installed; "
            f"run `pip install {package}=={built}`, or build tom again from its sources with "
            f"`pip install --no-build-isolation --no-deps .`"
        )


_check("torch", _build_info.TORCH_VERSION)
_check("mujoco", _build_info.MUJOCO_VERSION)

torch.ops.load_library(Path(__file__).with_name("libtom_ops.so"))

from tom import _native  # noqa: E402

__all__ = ["_native"]
