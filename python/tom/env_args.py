"""Arguments of a task on the command line: `contact_cost_weight=0 healthy_z_range=(0.3,1)`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from tom.settings import ConfigError

RESERVED = frozenset({"id", "num_envs", "num_threads", "autoreset_mode", "termination"})
"""What the vector environment that runs the task is given beside them."""


def read_env_args(given: Sequence[str]) -> dict[str, Any]:
    """Name → value, which is a Python literal or else the text itself.

    Raises:
        ConfigError: a word that is not NAME=VALUE, or a name given twice.
    """
    found: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ConfigError(
                f"env_args: given {word!r}, allowed are NAME=VALUE, such as contact_cost_weight=0, "
                f"with each name once"
            )
        if name in RESERVED:
            raise ConfigError(f"env_args: given {word!r}, allowed are arguments of the task alone")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
