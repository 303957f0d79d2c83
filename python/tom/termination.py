"""Termination rules that a user gives: a function, or its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tom.user_code import import_named

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
    found = import_named(module, given)
    rule = getattr(found, function, None)
    if callable(rule):
        return rule  # type: ignore[no-any-return]
    if rule is not None:
        raise ValueError(
            f"{given}, but {function} in the module {module} is of type {type(rule).__name__}; it "
            "must be a function that takes observations [n, O] to bool [n]."
        )
    functions = [name for name, value in vars(found).items() if callable(value)]
    close = difflib.get_close_matches(function, functions, n=1)
    remedy = f"did you mean {module}:{close[0]}?" if close else "it must be defined there."
    raise ValueError(f"{given}, but the module {module} has no function {function!r}; {remedy}")


def _never(observations: Any) -> Any:
    if isinstance(observations, torch.Tensor):
        return torch.zeros(observations.shape[:-1], dtype=torch.bool, device=observations.device)
    return np.zeros(np.shape(observations)[:-1], dtype=np.bool_)
