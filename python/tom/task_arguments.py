"""The constructor arguments of Gymnasium's MuJoCo tasks, checked against Gymnasium's own classes.

Names and defaults are read from the installed Gymnasium, so they cannot disagree with it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import expand_model_path

from tom._libraries import _native

_RENDERING = {"self", "default_camera_config", "kwargs"}


def supported_ids() -> list[str]:
    """Return the Gymnasium ids that the batched simulator runs."""
    return [f"{name}-v5" for name in _native.task_names()]


@dataclass(frozen=True)
class TaskArguments:
    """A task as the simulator takes it."""

    name: str
    spec: Any  # gymnasium.envs.registration.EnvSpec
    xml_path: str
    frame_skip: int
    rest: dict[str, Any]  # every other argument, defaults filled in


def resolve(env_id: str, given: dict[str, Any]) -> TaskArguments:
    """Fill `given` up with Gymnasium's defaults.

    Raises:
        ValueError: the id or an argument is not supported; the message lists what is.
        OSError: `xml_file` does not exist.
    """
    if env_id not in supported_ids():
        close = difflib.get_close_matches(env_id, supported_ids(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"env is {env_id!r}, but the batched simulator runs only "
            f"{', '.join(supported_ids())}{hint}."
        )
    spec = gymnasium.spec(env_id)
    module, _, class_name = str(spec.entry_point).partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), class_name).__init__)
    allowed = {k: p.default for k, p in signature.parameters.items() if k not in _RENDERING}
    for name in given:
        if name not in allowed:
            raise ValueError(
                f"{name} is not an argument of {env_id} that the batched simulator supports; "
                f"those are {', '.join(allowed)}."
            )
    arguments = {name: _plain(name, value) for name, value in {**allowed, **given}.items()}
    xml_path = expand_model_path(str(arguments.pop("xml_file")))
    frame_skip = arguments.pop("frame_skip")
    skip = frame_skip if isinstance(frame_skip, float) and frame_skip.is_integer() else 0.0
    if not 1 <= skip < 2**31:
        raise ValueError(
            f"frame_skip is {frame_skip}, but it must be an integer from 1 to {2**31 - 1}."
        )
    noise = arguments.get("reset_noise_scale", 0.0)
    if not isinstance(noise, float) or not 0 <= noise < math.inf:
        raise ValueError(
            f"reset_noise_scale is {noise!r}, but it must be a finite number of at least 0."
        )
    arguments["blas_fuses"] = _blas_fuses()
    return TaskArguments(
        name=env_id.removesuffix("-v5"),
        spec=spec,
        xml_path=xml_path,
        frame_skip=int(skip),
        rest=arguments,
    )


@functools.cache
def _blas_fuses() -> bool:
    """Whether NumPy's dot product of short vectors rounds once per multiply-add, not twice."""
    rng = np.random.default_rng(0)
    for x in rng.standard_normal((64, 3)):
        twice = np.float64(0)
        for value in x:
            twice += value * value
        if twice != x.dot(x):
            return True
    return False


def _plain(name: str, value: Any) -> bool | float | str | tuple[float, float]:
    if isinstance(value, (bool, str)):
        return value
    try:
        if isinstance(value, (tuple, list)):
            low, high = (float(bound) for bound in value)
            if not (math.isnan(low) or math.isnan(high)):
                return low, high
        elif not math.isnan(number := float(value)):
            return number
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"{name} is {value!r}, but it must be a number, True or False, a name, or a pair of "
        "numbers (lower, upper), without NaN."
    )
