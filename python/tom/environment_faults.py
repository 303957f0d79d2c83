"""What is wrong with a user's environment over which Gymnasium has stumbled, in one sentence."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np

PARTS = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}


def find_fault(env: gymnasium.Env[Any, Any]) -> str | None:
    """Try an environment that has raised an error and is not used any more.

    Gymnasium unpacks and stacks what an environment returns without looking, at several places; to
    look at it here costs nothing as long as nothing is wrong.

    Returns:
        What `reset` or `step` returned and what is allowed; None where the error has another cause,
        whose traceback says more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which Gymnasium has given already
        try:
            return _fault_of_result(env.unwrapped) or _fault_of_observation(env)
        except Exception:  # of the user's own code
            return None


def _fault_of_result(env: gymnasium.Env[Any, Any]) -> str | None:
    for name, parts in PARTS.items():
        result: Any = _call(env, name)
        count = len(result) if isinstance(result, tuple) else 1
        if count != len(parts):
            values = "1 value" if count == 1 else f"{count} values"
            return f"{name} returned {values}, allowed are {len(parts)}: {', '.join(parts)}"
    return None


def _fault_of_observation(env: gymnasium.Env[Any, Any]) -> str | None:
    assert env.observation_space.shape is not None  # it is a Box
    allowed = list(env.observation_space.shape)
    for name in PARTS:
        shape = list(np.shape(_call(env, name)[0]))
        if shape != allowed:
            return (
                f"{name} returned an observation of shape {shape}, allowed is {allowed}, as its "
                f"observation_space says"
            )
    return None


def _call(env: gymnasium.Env[Any, Any], name: str) -> Any:
    return env.reset() if name == "reset" else env.step(env.action_space.sample())
