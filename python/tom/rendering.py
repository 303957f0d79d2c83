"""Whether MuJoCo can draw here, before it tries."""

from __future__ import annotations

import os
import sys
from typing import Any

import gymnasium
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
WITHOUT_DISPLAY = ("egl", "osmesa")  # values of MUJOCO_GL


def check_rendering(env: gymnasium.Env[Any, Any]) -> None:
    """Check that an environment's `render_mode` has what it needs, where that can be told.

    Without a display MuJoCo's window ends the process in an assertion, and its pictures are a
    FatalError about libraries.

    Raises:
        ValueError: one sentence on what is missing.
    """
    mode, shown = env.render_mode, any(map(os.environ.get, DISPLAYS))
    if mode is None or shown or not sys.platform.startswith("linux"):
        return
    if not isinstance(env.unwrapped, MujocoEnv):
        return
    given = f"render_mode: given {mode!r}, but {' and '.join(DISPLAYS)} are not set: no display"
    if mode == "human":
        raise ValueError(f"{given}, allowed is 'rgb_array' with MUJOCO_GL=egl in the environment")
    library = os.environ.get("MUJOCO_GL")
    if library not in WITHOUT_DISPLAY:
        now = f"not {library}" if library else "which is not set"
        raise ValueError(
            f"{given}, allowed is MUJOCO_GL={' or '.join(WITHOUT_DISPLAY)} in the environment, "
            f"{now}"
        )
