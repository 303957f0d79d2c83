"""Checks of what callers pass to a vector environment; each error says what is allowed."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode


def time_limit_of(max_episode_steps: int | None, default: int | None) -> int:
    """Return the steps after which an episode is truncated, -1 for never; None is the default."""
    limit = default if max_episode_steps is None else max_episode_steps
    if limit is None:
        return -1
    limit = _integer("max_episode_steps", limit, 2**63 - 1)
    if limit != -1 and limit < 1:
        raise ValueError(
            f"max_episode_steps is {limit}, but it must be at least 1, or -1 for no limit."
        )
    return limit


def counts_of(num_envs: int, num_threads: int | None) -> tuple[int, int]:
    """Return both; None becomes one thread per usable processor, at most one per environment."""
    num_envs = _integer("num_envs", num_envs)
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}, but it must be at least 1.")
    if num_threads is None:
        return num_envs, min(num_envs, len(os.sched_getaffinity(0)))
    num_threads = _integer("num_threads", num_threads)
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}, but it must be at least 1.")
    return num_envs, num_threads


def _integer(name: str, value: Any, most: int = 2**31 - 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but it must be an integer.") from None
    if number > most:
        raise ValueError(f"{name} is {number}, but it must be at most {most}.")
    return number


def autoreset_mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the mode of this name or value."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(repr(m.value) for m in AutoresetMode)
        raise ValueError(f"autoreset_mode is {mode!r}, but it must be one of {allowed}.") from None


def seeds_of(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Return one seed per sub-environment, as Gymnasium spreads them: seed, seed + 1, ..."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, np.ndarray) and seed.ndim == 1:
        seed = seed.tolist()
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if len(seed) != num_envs:
            raise ValueError(
                f"seed has {len(seed)} entries, but it must be an integer, None, or one entry for "
                f"each of the {num_envs} sub-environments."
            )
        return [None if one is None else _seed(one) for one in seed]
    first = _seed(seed)
    return [first + i for i in range(num_envs)]


def _seed(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"seed is {value!r}, but it must be an integer of at least 0, or None.")
    return number


def reset_mask_of(options: dict[str, Any] | None, num_envs: int) -> npt.NDArray[np.bool_]:
    """Return which sub-environments to reset [N]: `options["reset_mask"]`, by default all."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options is {options!r}, but it must be a dict or None.")
    if options is None or "reset_mask" not in options:
        return np.ones(num_envs, dtype=np.bool_)
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"options['reset_mask'] is {kind}, but it must be a NumPy bool array.")
    if mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f"options['reset_mask'] has shape {mask.shape} and {int(mask.sum())} true entries, but "
            f"it must have shape ({num_envs},) and at least one true entry."
        )
    return mask.copy()


def actions_of(actions: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return the actions [N, A] as a contiguous array of float32 or float64."""
    if not isinstance(actions, np.ndarray):
        actions = np.asarray(actions)
    kind = actions.dtype.type
    if kind is not np.float32 and kind is not np.float64:
        raise ValueError(
            f"actions have the type {actions.dtype}, but they must be float32 or float64."
        )
    if actions.shape != shape:
        raise ValueError(
            f"actions have the shape {actions.shape}, but it must be {shape}: one row for each "
            "sub-environment."
        )
    return np.ascontiguousarray(actions, dtype=kind)


def observations_of(observations: Any, size: int) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    """Return observations [..., O] as contiguous rows [n, O], and the shape of the leading axes."""
    given = np.asarray(observations)
    if given.dtype not in (np.float32, np.float64) or given.shape[-1:] != (size,):
        raise ValueError(
            f"observations are {given.dtype} of shape {given.shape}, but they must be float32 "
            f"or float64 of shape (..., {size})."
        )
    return np.ascontiguousarray(given.reshape(-1, size)), given.shape[:-1]
