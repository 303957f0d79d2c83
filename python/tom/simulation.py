"""The simulations behind a BatchEnv: physics, random first states, and where the episodes stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tom._libraries import _native
from tom.array_state import checked_arrays, save_arrays
from tom.start_states import StartStates
from tom.task_arguments import TaskArguments

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_RESULTS = (
    "observations",
    "final_observations",
    "rewards",
    "terminations",
    "truncations",
    "troubles",
    "info",
)


class Simulation:
    """The native simulator and the generators that draw its first states, as one.

    Attributes:
        native: the simulator.
        observations, final_observations: `[N, O]`, where each simulation is, and where its last
            step led. These and the other results are live: the next call overwrites them.
        rewards, terminations, truncations, troubles: `[N]`, of the last step.
        info: `[N, columns]`, what `InfoLayout` unpacks.
        all_started: whether every simulation has begun an episode.
        episode_over: `[N]`, those whose episode has ended and that `step` will restart.
        any_over: whether there are any.
    """

    observations: Array
    final_observations: Array
    rewards: Array
    terminations: Mask
    truncations: Mask
    troubles: npt.NDArray[np.uint8]
    info: Array

    def __init__(self, task: TaskArguments, num_envs: int, num_threads: int, limit: int) -> None:
        """Take a limit of -1 for episodes without end."""
        try:
            self.native = _native.Simulator(
                task=task.name,
                xml_path=task.xml_path,
                arguments=task.rest,
                num_envs=num_envs,
                num_threads=num_threads,
                frame_skip=task.frame_skip,
                max_episode_steps=max(limit, 0),
            )
        except MemoryError:
            raise MemoryError(
                f"num_envs is {num_envs}, but so many simulations do not fit into memory."
            ) from None
        for name in _RESULTS:
            setattr(self, name, getattr(self.native, name))
        self.starts = StartStates(
            task.name,
            num_envs,
            scale=task.rest.get("reset_noise_scale", 0.0),
            positions=self.native.initial_positions,
            num_velocities=self.native.nv,
        )
        self._started = np.zeros(num_envs, dtype=np.bool_)
        self.all_started = False
        self.episode_over = np.zeros(num_envs, dtype=np.bool_)
        self.any_over = False

    def begin(self, mask: Mask, seeds: Sequence[int | None] | None = None) -> None:
        """Begin new episodes in `mask` [N], with fresh generators where there is a seed.

        Raises:
            RuntimeError: MuJoCo could not start a simulation; all of `mask` need another start.
        """
        if seeds is not None:
            self.starts.seed(seeds, mask)
        self.starts.draw(mask)
        failed = self.native.reset(mask, self.starts.rows)
        if failed or not self.all_started:
            self._started[mask] = not failed
            self.all_started = bool(self._started.all())
        if self.any_over:
            self._set_episode_over(self.episode_over & ~mask)
        if failed:
            messages = (f"{i}: {self.native.error(i)}" for i in np.flatnonzero(mask).tolist())
            raise RuntimeError(
                f"MuJoCo cannot start an episode in simulation {'; '.join(messages)}"
            )

    def step(self, actions: npt.NDArray[Any], buffer: Any) -> tuple[int, int]:
        """Step every simulation, or restart it where its episode is over.

        Returns:
            How many had trouble, and how many episodes ended. What ended is for the caller to
            begin, or to leave to the next step with `restart_later`.

        Raises:
            ValueError: rows do not fit the buffer; nothing was stepped.
        """
        if self.any_over:
            if buffer is not None:  # before the random streams move on
                self.native.check_buffer(buffer)
            self.starts.draw(self.episode_over)
        counts: tuple[int, int] = self.native.step(
            actions, self.episode_over, self.starts.rows, buffer
        )
        return counts

    def restart_later(self) -> None:
        """Let the next step restart the episodes that ended in the last one, and no others."""
        self._set_episode_over(self.terminations | self.truncations)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything that the future depends on, as tensors with leading axis N."""
        return save_arrays(self._arrays())

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a saved state, or raise `ValueError` and change nothing."""
        arrays = self._arrays()
        given = checked_arrays(arrays, state)
        self.starts.decode(given["generators"])  # raises before it changes anything
        for name, array in arrays.items():
            array[...] = given[name]
        self.all_started = bool(self._started.all())
        self._set_episode_over(self.episode_over)

    def close(self) -> None:
        """Free the native simulator and its threads; the results stay."""
        for name in _RESULTS:  # copies, as the live ones keep the simulator in memory
            setattr(self, name, getattr(self, name).copy())
        del self.native

    def _set_episode_over(self, over: Mask) -> None:
        self.episode_over = over
        self.any_over = bool(over.any())

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "physics": self.native.physics,
            "memory": self.native.memory,
            "elapsed": self.native.elapsed,
            "observations": self.observations,
            "final_observations": self.final_observations,
            "started": self._started,
            "episode_over": self.episode_over,
            "generators": self.starts.encode(),
        }
