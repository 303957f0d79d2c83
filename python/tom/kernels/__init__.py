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
import subprocess
from collections.abc import Callable

import torch

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


def advice(device: torch.device, wanted: bool) -> str | None:
    """What to tell the user of a run on `device` that wanted these kernels, or None."""
    reason = unavailable(device) if wanted and device.type == "cuda" else None
    return reason and f"training steps are composed of torch's operations, more slowly: {reason}"


def register(key: str = "CUDA") -> torch.library.Library:
    """Let the operators find these kernels, as long as what is returned lives.

    Args:
        key: for tensors of which backend.
    """
    library = torch.library.Library("tom", "IMPL")
    for name in ("sac_updates", "dynamics_steps", "dual_q_steps"):
        library.impl(f"{name}_fused", _launcher(name), key)
    return library


def _launcher(name: str) -> Callable[..., object]:
    """The function of this name in the module of this name, which is imported when it is called."""

    def launch(*arguments: object) -> object:
        try:
            module = importlib.import_module(f"tom.kernels.{name}")  # Triton takes a while
            return getattr(module, name)(*arguments)
        except Exception as error:
            compiling = (ImportError, OSError, subprocess.SubprocessError)
            if isinstance(error, compiling) or type(error).__module__.startswith("triton"):
                raise RuntimeError(
                    "Triton could not compile or launch the fused kernels; train without them by "
                    "--no-fused-kernels"
                ) from error
            raise

    return launch


_registered = register()
