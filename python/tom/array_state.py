"""Saving and restoring a set of named arrays as tensors, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch

Arrays = Mapping[str, npt.NDArray[Any]]


def save_arrays(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Return copies of the arrays as tensors."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def load_arrays(arrays: Arrays, state: Mapping[str, torch.Tensor]) -> None:
    """Overwrite the arrays in place by what `save_arrays` returned.

    Raises:
        ValueError: a name, shape or type differs; no array was changed.
    """
    if state.keys() != arrays.keys():
        raise ValueError(
            f"the state has the entries {sorted(state)}, but it must have {sorted(arrays)}."
        )
    given = {name: state[name].numpy(force=True) for name in arrays}
    for name, array in arrays.items():
        if given[name].shape != array.shape or given[name].dtype != array.dtype:
            raise ValueError(
                f"the state's {name} is {given[name].dtype} of shape {given[name].shape}, but it "
                f"must be {array.dtype} of shape {array.shape}."
            )
    for name, array in arrays.items():
        array[...] = given[name]
