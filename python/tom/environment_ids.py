"""Gymnasium ids as a user gives them: found, or refused with what they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import gymnasium
from gymnasium.envs import registration
from gymnasium.envs.registration import EnvSpec

from tom.user_code import import_named

SUGGESTIONS = 2
"""Names that a message proposes at most."""


def without_module(id: str) -> str:
    """The id under which Gymnasium knows `id` or `module:id`."""
    return id.partition(":")[2] or id


def environment_spec(id: str, short_names: Collection[str] = ()) -> EnvSpec:
    """Gymnasium's entry for an id; of `module:id` the module, which registers it, comes first.

    Args:
        id: the id.
        short_names: other names that the caller takes, for messages.

    Raises:
        ValueError: the module cannot be imported, or the id is not registered.
    """
    given = f"env is {id!r}"
    module, colon, plain = id.partition(":")
    if colon:
        import_named(module, given)
    else:
        plain = id
    try:
        return gymnasium.spec(plain)
    except gymnasium.error.Error as error:
        if colon:
            close = [f"{module}:{name}" for name in _similar(plain, ())]
            remedy = f"did you mean {' or '.join(close)}?" if close else "register it there."
            reason = f"importing {module} registers no environment {plain!r}; {remedy}"
        else:
            reason = _allowed(plain, short_names)
        raise ValueError(f"{given}, but {reason}") from error


def _allowed(id: str, short_names: Collection[str]) -> str:
    """What an unknown id should have been."""
    close = _similar(id, short_names)
    if close:
        kinds = "a short name or " if short_names else ""
        return f"it must be {kinds}a registered Gymnasium id; did you mean {' or '.join(close)}?"
    names = f"{', '.join(short_names)}, " if short_names else ""
    return (
        f"it must be {names}a registered Gymnasium id, or module:id with the module that "
        "registers it."
    )


def _similar(id: str, short_names: Collection[str]) -> list[str]:
    """The names most like `id`, whatever their case, that can be used."""
    names = {name.lower(): name for name in (*gymnasium.registry, *short_names)}
    close = difflib.get_close_matches(id.lower(), names, n=10, cutoff=0.7)
    found: list[str] = []
    for name in (names[lower] for lower in close):
        if len(found) < SUGGESTIONS and (name in short_names or _can_be_made(name)):
            found.append(name)
    return found


def _can_be_made(id: str) -> bool:
    """Whether it is the newest version, no mere pointer to another package, and has its packages.

    Gymnasium registers MuJoCo's v2 and v3 as functions that say where these have gone.
    """
    spec = gymnasium.registry[id]
    entry = spec.entry_point
    if spec.version != registration.find_highest_version(spec.namespace, spec.name):
        return False
    if not isinstance(entry, str):
        return entry is not None and entry.__module__ != "gymnasium.envs"
    try:
        registration.load_env_creator(entry)
    except Exception:
        return False
    return True
