"""Where episodes begin: the reset noise of Gymnasium's tasks, from NumPy's own generators.

Resets are rare, so they are drawn here, call for call as Gymnasium draws them; the same seed
then gives the same first state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from tom.generator_state import GENERATOR_BYTES, decode_generator, encode_generator

Array = npt.NDArray[np.float64]
# (generator, Gymnasium's `reset_noise_scale`, the model's positions [nq], row [nq + nv] to fill)
ResetNoise = Callable[[np.random.Generator, float, Array, Array], None]


def _uniform(rng: np.random.Generator, scale: float, positions: Array, row: Array) -> None:
    row[:] = rng.uniform(low=-scale, high=scale, size=row.size)
    row[: positions.size] += positions


def _normal_velocity(rng: np.random.Generator, scale: float, positions: Array, row: Array) -> None:
    qpos, qvel = row[: positions.size], row[positions.size :]
    qpos[:] = rng.uniform(low=-scale, high=scale, size=qpos.size)
    qpos += positions
    rng.standard_normal(out=qvel)
    qvel *= scale
    qvel += 0.0  # as Gymnasium adds the model's velocities, zeros: −0.0 becomes 0.0


def _reacher(rng: np.random.Generator, scale: float, positions: Array, row: Array) -> None:
    qpos, qvel = row[: positions.size], row[positions.size :]
    qpos[:] = rng.uniform(low=-0.1, high=0.1, size=qpos.size) + positions
    while np.linalg.norm(goal := rng.uniform(low=-0.2, high=0.2, size=2)) >= 0.2:
        pass
    qpos[-2:] = goal
    qvel[:] = rng.uniform(low=-0.005, high=0.005, size=qvel.size)
    qvel[-2:] = 0


def _pusher(rng: np.random.Generator, scale: float, positions: Array, row: Array) -> None:
    qpos, qvel = row[: positions.size], row[positions.size :]
    while True:
        x = rng.uniform(low=-0.3, high=0, size=1)
        y = rng.uniform(low=-0.2, high=0.2, size=1)
        if np.linalg.norm(cylinder := np.concatenate((x, y))) > 0.17:
            break
    qpos[:-4], qpos[-4:-2], qpos[-2:] = positions[:-4], cylinder, 0
    qvel[:] = rng.uniform(low=-0.005, high=0.005, size=qvel.size)
    qvel[-4:] = 0


# Tasks that are not listed draw positions and velocities uniformly.
_RESET_NOISE: dict[str, ResetNoise] = {
    "Ant": _normal_velocity,
    "HalfCheetah": _normal_velocity,
    "InvertedDoublePendulum": _normal_velocity,
    "Pusher": _pusher,
    "Reacher": _reacher,
}


class StartStates:
    """First states of episodes, and the generator of each sub-environment that draws them."""

    def __init__(
        self, task: str, num_envs: int, *, scale: float, positions: Array, num_velocities: int
    ) -> None:
        """Take the task's name, its noise scale, the model's positions `[nq]` and nv."""
        self._noise = _RESET_NOISE.get(task, _uniform)
        self._scale = scale
        self._positions = positions
        # None: not used yet; seeded from the operating system when first used, as in Gymnasium
        self._generators: list[tuple[np.random.Generator, int] | None] = [None] * num_envs
        self.rows: Array = np.zeros((num_envs, positions.size + num_velocities))

    def seed(self, seeds: Sequence[int | None], mask: npt.NDArray[np.bool_]) -> None:
        """Restart the generators in `mask` [N] from their seeds; a seed of None changes nothing."""
        fresh = [None if seed is None else seeding.np_random(seed) for seed in seeds]
        for i in np.flatnonzero(mask):
            self._generators[i] = fresh[i] or self._generators[i]

    def generator(self, i: int) -> tuple[np.random.Generator, int]:
        """Return the generator of sub-environment i and its seed."""
        pair = self._generators[i]
        if pair is None:
            pair = self._generators[i] = seeding.np_random()
        return pair

    def draw(self, mask: npt.NDArray[np.bool_]) -> None:
        """Draw new first states in the rows of `mask` [N]."""
        for i in np.flatnonzero(mask):
            rng, _ = self.generator(int(i))
            self._noise(rng, self._scale, self._positions, self.rows[i])

    def encode(self) -> npt.NDArray[np.uint8]:
        """Return the states of all generators, `[N, GENERATOR_BYTES]`; zeros: not used yet."""
        encoded = np.zeros((len(self._generators), GENERATOR_BYTES), np.uint8)
        for row, pair in zip(encoded, self._generators, strict=True):
            if pair is not None:
                row[:] = encode_generator(*pair)
        return encoded

    def decode(self, encoded: npt.NDArray[np.uint8]) -> None:
        """Restore what `encode` returned, or raise `ValueError` and change nothing."""
        self._generators = [decode_generator(row) if row.any() else None for row in encoded]
