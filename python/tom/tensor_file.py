"""Writing a safetensors file as any other file is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors that share no memory.

    By itself the library keeps a file to its owner, whatever the umask: nobody else could use a
    run's checkpoint whose other files they read.

    Raises:
        OSError: it cannot be written.
    """
    file.touch()
    mode = file.stat().st_mode  # what any new file here has, or this one had
    try:
        save_file(dict(tensors), file, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:  # which is how it says that the disk is full
        raise OSError(f"{file} cannot be written ({error})") from error
    if file.stat().st_mode != mode:
        file.chmod(mode)
