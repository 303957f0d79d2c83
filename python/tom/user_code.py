"""A user's own code: its modules by name, and in one line what goes wrong in it."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def import_named(module: str, given: str) -> ModuleType:
    """Import a module that a setting names.

    Args:
        module: its dotted name.
        given: how messages begin, such as `env is 'points:Point-v0'`.

    Raises:
        ValueError: one sentence: it cannot be found, or raised an error when it was imported.
    """
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        if _not_found(module, error):
            remedy = "it must be installed, or lie in the current folder or on PYTHONPATH."
            if module.endswith(".py") or "/" in module:
                remedy = "give its dotted name, without .py."
            raise ValueError(f"{given}, but Python finds no module {module!r}; {remedy}") from error
        raise ValueError(
            f"{given}, but the module {module} raised {describe(error)} when it was imported; "
            f"`python -c 'import {module}'` shows where."
        ) from error


def named_function(name: str, given: str, wanted: str) -> Callable[..., Any]:
    """The function that a setting names.

    Args:
        name: `module:function`.
        given: how messages begin, such as `termination is 'points:arrived'`.
        wanted: what the function should be, such as `a function from observations to booleans`.

    Raises:
        ValueError: one sentence: there is no such function, or its module cannot be imported.
    """
    module, _, function = name.partition(":")
    found = import_named(module, given)
    value = getattr(found, function, None)
    if callable(value):
        return value  # type: ignore[no-any-return]
    if value is not None:
        raise ValueError(
            f"{given}, but {function} in the module {module} is of type {type(value).__name__}; it "
            f"must be {wanted}."
        )
    functions = [name for name, value in vars(found).items() if callable(value)]
    close = difflib.get_close_matches(function, functions, n=1)
    remedy = f"did you mean {module}:{close[0]}?" if close else "it must be defined there."
    raise ValueError(f"{given}, but the module {module} has no function {function!r}; {remedy}")


def describe(error: BaseException) -> str:
    """An error's name and, in brackets, its text on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__} ({text})" if text else type(error).__name__


def see_current_folder() -> None:
    """Let modules in the current folder be imported by a console script as by `python -m`.

    The folder comes last, so that nothing in it hides an installed package. Python's own switch
    against it (`-P`, PYTHONSAFEPATH) holds.
    """
    if "" not in sys.path and not sys.flags.safe_path:
        sys.path.append("")


def _not_found(module: str, error: BaseException) -> bool:
    """Whether the module itself, or a package above it, is missing: not one that it imports."""
    if not module or module.startswith("."):
        return True
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{module}.".startswith(f"{missing}.")
