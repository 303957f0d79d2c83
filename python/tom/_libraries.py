"""Load the native parts, after checking that they fit torch, MuJoCo and the processor.

They are linked against one exact version of each library; with another one the dynamic linker would
fail on an undefined symbol, or worse, not fail. On a processor without the instructions that they
were compiled to, the first such instruction would end the process. The checks therefore come first.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import mujoco  # noqa: F401  (loads libmujoco, which tom._native links)

from tom._openmp import short_waits
from tom._processor import check_processor

with short_waits():
    import torch

try:
    from tom import _build_info
except ImportError as error:
    raise ImportError(
        "tom's native parts are missing, because this is a source folder that was not installed; "
        "run `pip install .` in it and start Python elsewhere"
    ) from error


def check_version(package: str, built: str) -> None:
    """Check that the installed `package` is the version that tom was built for.

    Raises:
        ImportError: it is not; the message says which command mends it.
    """
    installed = importlib.metadata.version(package).split("+")[0]
    if installed != built:
        raise ImportError(
            f"tom was built for {package} {built}, but {package} {installed} is installed; "
            f"run `pip install {package}=={built}`, or build tom again from its sources with "
            f"`pip install --no-build-isolation --no-deps .`"
        )


check_version("torch", _build_info.TORCH_VERSION)
check_version("mujoco", _build_info.MUJOCO_VERSION)
check_processor(_build_info.INSTRUCTION_SETS)

from tom import _native  # noqa: E402

# The operators lie beside the extension, which an editable install keeps apart from this file.
torch.ops.load_library(Path(_native.__file__).with_name("libtom_ops.so"))

__all__ = ["_native", "check_version"]
