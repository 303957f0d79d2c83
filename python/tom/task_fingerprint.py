"""A few bytes that tell whether a saved state is of the same task, with the same arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from gymnasium.vector import AutoresetMode

from tom.task_arguments import TaskArguments

ENTRY = "fingerprint"
_BYTES = 16


def fingerprint_of(task: TaskArguments, limit: int, mode: AutoresetMode) -> torch.Tensor:
    """Hash all that a state depends on, uint8 `[16]`; the model file by what it contains."""
    arguments = {name: value for name, value in task.rest.items() if name != "blas_fuses"}
    said = (task.name, task.frame_skip, limit, mode.value, sorted(arguments.items()))
    digest = hashlib.blake2b(repr(said).encode(), digest_size=_BYTES)
    digest.update(Path(task.xml_path).read_bytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def check_fingerprint(state: Mapping[str, torch.Tensor], own: torch.Tensor) -> None:
    """Compare the state's entry with its `own`, both `[N, 16]`.

    Raises:
        ValueError: the state is of something else, or has no such entry.
    """
    given = state.get(ENTRY)
    fits = isinstance(given, torch.Tensor) and given.shape == own.shape and not given.is_meta
    if not fits or not torch.equal(state[ENTRY].cpu(), own):
        raise ValueError(
            "the state is of another task, model, time limit, autoreset mode or arguments; load it "
            "into a BatchEnv that was made with those of the one that saved it."
        )
