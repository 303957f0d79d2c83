"""Training steps on a GPU as a few kernels each, which Triton compiles at their first use.

Composed of torch's operations a training step is some hundred kernels, most of which take less time
than a GPU needs to begin one. Triton comes with torch's builds for CUDA; what it has compiled it
keeps on disk. Without it, and for networks of another shape than these kernels are written for, the
operators take the same steps in torch's operations.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import Tensor

from tom import _libraries  # noqa: F401  (it has the operators' schemas)


def unavailable(device: torch.device) -> str | None:
    """Why `device` cannot run these kernels, or None if it can."""
    if device.type != "cuda":
        return "they are for GPUs"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return "Triton finds no C compiler, with which it builds what launches them"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they are for GPUs of compute capability 8.0 and newer"
    return None


def register(key: str = "CUDA") -> torch.library.Library:
    """Let the operators find these kernels, as long as what is returned lives.

    Args:
        key: for tensors of which backend.
    """
    library = torch.library.Library("tom", "IMPL")
    library.impl("sac_updates_fused", _sac_updates, key)
    library.impl("dynamics_steps_fused", _dynamics_steps, key)
    library.impl("dual_q_steps_fused", _dual_q_steps, key)
    return library


def _sac_updates(*arguments: object) -> Tensor:
    from tom.kernels.sac_updates import sac_updates  # Triton takes a while to import

    return sac_updates(*arguments)  # type: ignore[arg-type]


def _dynamics_steps(*arguments: object) -> Tensor:
    from tom.kernels.dynamics_steps import dynamics_steps

    return dynamics_steps(*arguments)  # type: ignore[arg-type]


def _dual_q_steps(*arguments: object) -> tuple[Tensor, Tensor]:
    from tom.kernels.dual_q_steps import dual_q_steps

    return dual_q_steps(*arguments)  # type: ignore[arg-type]


_registered = register()
