"""Training steps on a GPU as a few kernels each, which Triton compiles at their first use.

Composed of torch's operations a training step is some hundred kernels, most of which take less time
than a GPU needs to begin one. Triton comes with torch's builds for CUDA; what it has compiled it
keeps on disk. Without it, and for networks of another shape than these kernels are written for, the
operators take the same steps in torch's operations.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import subprocess
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tom import _libraries  # noqa: F401  (it has the operators' schemas)
from tom.training_error import TrainingError


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why `device` cannot run these kernels, or None if it can, which is tried."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "they are for NVIDIA's GPUs"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they are for GPUs of compute capability 8.0 and newer"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        importlib.import_module("tom.kernels.probe").probe(device)
    except Exception as error:  # a missing compiler, Python's headers, an old driver, and so on
        return f"Triton cannot compile or launch a kernel here ({_first_line(error)})"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def advice(device: torch.device, precision: str, wanted: bool) -> str | None:
    """What to tell the user of a run that would have had these kernels, or None."""
    if not wanted or precision == "bf16" or device.type != "cuda":
        return None
    reason = unavailable(device)
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
    """The function of this name in the module of this name, which is imported when it is called.

    Kernels are compiled between launches: where one cannot be, what the others before it did is
    undone.
    """
    succeeded = set[object]()  # with tensors of which shapes

    def launch(*arguments: object) -> object:
        key = tuple(map(_signature, arguments))
        before = [] if key in succeeded else [(t, t.clone()) for t in _tensors(arguments)]
        try:
            module = importlib.import_module(f"tom.kernels.{name}")  # Triton takes a while
            result = getattr(module, name)(*arguments)
        except Exception as error:
            for tensor, value in before:
                tensor.copy_(value)
            if _is_tritons(error):
                raise TrainingError(
                    "Triton cannot compile or launch the fused kernels "
                    f"({_first_line(error)}); train without them by --no-fused-kernels"
                ) from error
            raise
        succeeded.add(key)
        return result

    return launch


def _signature(argument: object) -> object:
    if isinstance(argument, Tensor):
        return argument.shape, argument.dtype, argument.device
    return tuple(map(_signature, argument)) if isinstance(argument, list) else argument


def _tensors(arguments: Sequence[object]) -> list[Tensor]:
    flat = [x for a in arguments for x in (a if isinstance(a, list) else [a])]
    return [x for x in flat if isinstance(x, Tensor)]


def _is_tritons(error: Exception) -> bool:
    compiling = isinstance(error, ImportError | OSError | subprocess.SubprocessError)
    return compiling or type(error).__module__.startswith("triton") or "Triton" in str(error)


_registered = register()
