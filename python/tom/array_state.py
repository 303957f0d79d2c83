"""A set of named arrays as tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch

Arrays = Mapping[str, npt.NDArray[Any]]


def save_arrays(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Return copies of the arrays as tensors."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def checked_arrays(arrays: Arrays, state: Mapping[str, torch.Tensor]) -> Arrays:
    """Return what `save_arrays` returned for `arrays` as arrays again.

    Raises:
        ValueError: a name, shape or type differs.
    """
    if state.keys() != arrays.keys():
        raise ValueError(
            f"the state has the entries {sorted(state)}, but it must have {sorted(arrays)}."
        )
    for name, array in arrays.items():
        own, given = torch.from_numpy(array), state[name]
        if not isinstance(given, torch.Tensor):
            raise ValueError(
                f"the state's {name} is a {type(given).__name__}, but it must be a torch.Tensor."
            )
        if given.shape != own.shape or given.dtype != own.dtype or given.is_meta:
            raise ValueError(
                f"the state's {name} is {_describe(given)}, but it must be {_describe(own)}."
            )
    return {name: state[name].numpy(force=True) for name in arrays}


def _describe(tensor: torch.Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} of shape {list(tensor.shape)}" + (" on meta" if tensor.is_meta else "")
