"""Termination rules that a user gives: a function, or its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tom.user_code import named_function

# observations [n, O] -> bool [n]
TerminationRule = Callable[[Any], Any]


def termination_rule(termination: TerminationRule | str | None) -> TerminationRule | None:
    """Return the function meant by `none`, `module:function`, a function, or None.

    Raises:
        ValueError: there is no such function, or its module cannot be imported.
    """
    if termination is None or callable(termination):
        return termination
    if termination == "none":
        return _never
    given = f"termination is {termination!r}"
    module, _, function = termination.partition(":")
    if not (module and function):
        raise ValueError(
            f"{given}, but it must be 'none' or 'module:function', the name of a function that can "
            "be imported and takes observations [n, O] to bool [n]."
        )
    wanted = "a function that takes observations [n, O] to bool [n]"
    return named_function(termination, given, wanted)


def _never(observations: Any) -> Any:
    if isinstance(observations, torch.Tensor):
        return torch.zeros(observations.shape[:-1], dtype=torch.bool, device=observations.device)
    return np.zeros(np.shape(observations)[:-1], dtype=np.bool_)
