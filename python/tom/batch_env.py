"""BatchEnv: Gymnasium's MuJoCo tasks, many at once, equal to Gymnasium bit for bit."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from tom import task_arguments, task_fingerprint
from tom.one_caller import OneCaller
from tom.replay import ReplayBuffer
from tom.simulation import Simulation
from tom.simulator_trouble import describe
from tom.vector_arguments import (
    actions_of,
    autoreset_mode_of,
    counts_of,
    observations_of,
    reset_mask_of,
    seeds_of,
    time_limit_of,
)
from tom.vector_info import InfoLayout, final_infos

Array = npt.NDArray[np.float64]


class BatchEnv(VectorEnv[Array, npt.NDArray[np.float32], npt.NDArray[Any]]):
    """Gymnasium's MuJoCo v5 tasks on MuJoCo's own batch and thread pool.

    For the same seeds and actions it returns what `gymnasium.vector.SyncVectorEnv` over
    `gymnasium.make(id)` returns, bit for bit, for every number of threads: observations
    `[N, O]` (float64), rewards `[N]` (float64), terminations and truncations `[N]` and infos.

    A simulation that becomes unstable (NaN or huge numbers), or is given NaN as action, goes on as
    in Gymnasium, where MuJoCo resets its state, and a `RuntimeWarning` names it. One that makes
    MuJoCo raise an error ends its episode: `terminated`, reward 0, the observation it had. The
    others are not affected.

    One thread at a time may call; a second caller is refused with `RuntimeError`. So is a forked
    process, which has none of the threads: let each process make its own.
    """

    can_save_state = True

    def __init__(
        self,
        id: str,
        num_envs: int,
        num_threads: int | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **gymnasium_kwargs: Any,
    ) -> None:
        """Make `num_envs` simulations of the task `id`.

        Args:
            id: one of the ids in `tom.task_arguments.supported_ids()`, such as "Hopper-v5".
            num_envs: number of sub-environments N.
            num_threads: threads, the caller's included; None: one per usable processor, at
                most N.
            autoreset_mode: as in Gymnasium.
            max_episode_steps: the time limit; None: Gymnasium's for the id; -1: none.
            **gymnasium_kwargs: constructor arguments of Gymnasium's task, rendering excepted. A
                number counts as a Python float, also one of NumPy's; infos that repeat it are
                float64.

        Raises:
            ValueError: an argument is not supported; the message says what is.
            TypeError: a number of something is not an integer.
        """
        self._one_caller = OneCaller()
        super().__init__()
        task = task_arguments.resolve(id, gymnasium_kwargs)
        limit = time_limit_of(max_episode_steps, task.spec.max_episode_steps)
        num_envs, num_threads = counts_of(num_envs, num_threads)
        mode = autoreset_mode_of(autoreset_mode)
        self._simulation = Simulation(task, num_envs, num_threads, limit)
        native = self._simulation.native
        self._infos = InfoLayout(native.info_fields)
        self._one_caller.is_open = True

        self.num_envs = num_envs
        self.num_threads = native.num_threads
        self.autoreset_mode = mode
        fingerprint = task_fingerprint.fingerprint_of(task, limit, self.autoreset_mode)
        self._fingerprint = fingerprint.repeat(num_envs, 1)
        self.spec = copy.deepcopy(task.spec)
        self.spec.kwargs.update(gymnasium_kwargs)
        self.spec.max_episode_steps = None if limit == -1 else limit
        self.metadata = {
            "render_modes": [],
            "render_fps": int(np.round(1.0 / native.dt)),
            "autoreset_mode": self.autoreset_mode,
        }
        low, high = native.control_range.astype(np.float32).T
        self.single_action_space = Box(low=low, high=high, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._action_shape = (num_envs, low.size)
        size = self._observation_size = self._simulation.observations.shape[1]
        self.single_observation_space = Box(-np.inf, np.inf, (size,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    # ------------------------------------------------------------------ stepping

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes in all sub-environments, or in those of `options["reset_mask"]`.

        Args:
            seed: an integer s seeds sub-environment i with s + i; a list gives each its own; None
                lets the random streams run on.
            options: `reset_mask`, a boolean array `[N]`; anything else is ignored, as by
                Gymnasium's MuJoCo tasks.

        Returns:
            Observations `[N, O]`, and the infos of the sub-environments that were reset.
        """
        with self._one_caller:
            seeds = seeds_of(seed, self.num_envs)
            mask = reset_mask_of(options, self.num_envs)
            simulation = self._simulation
            simulation.begin(mask, seeds)
            simulation.final_observations[mask] = simulation.observations[mask]
            infos = self._infos.unpack(simulation.info, only=None if mask.all() else mask)
            return simulation.observations.copy(), infos

    def step(
        self, actions: npt.NDArray[np.float32], *, into: ReplayBuffer | None = None
    ) -> tuple[Array, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step every sub-environment by its row of `actions`.

        Args:
            actions: `[N, A]`, float32 or float64; control costs are computed in this precision,
                as by Gymnasium.
            into: a buffer to which the transitions are appended as float32 rows
                `[s | a | s' | r | terminated]` of width 2 O + A + 2, in the order of the
                sub-environments, with weight 1. The workers write them where they lie. s' is the
                true next state, before any reset; a sub-environment that is only reset
                (`NEXT_STEP`) makes no transition and no row.

        Returns:
            Observations `[N, O]`, rewards `[N]`, terminations `[N]`, truncations `[N]`, infos.

        Raises:
            ValueError: the actions have another shape or type, or the buffer another width;
                nothing was stepped.
            gymnasium.error.ResetNeeded: an episode must be started with `reset` first.
        """
        with self._one_caller:
            actions = actions_of(actions, self._action_shape)
            self._require_started()
            if into is not None and not isinstance(into, ReplayBuffer):
                raise TypeError(f"into is a {type(into).__name__}, but it must be a ReplayBuffer.")
            simulation = self._simulation
            restarted = simulation.episode_over if simulation.any_over else None
            troubled, ended = simulation.step(actions, None if into is None else into._buffer)

            messages: Iterable[str] = ()
            if troubled:
                messages = list(describe(simulation.troubles, simulation.native.error))
            rewards = simulation.rewards.copy()
            terminations = simulation.terminations.copy()
            truncations = simulation.truncations.copy()
            if ended and self.autoreset_mode is AutoresetMode.SAME_STEP:
                over = terminations | truncations
                last = self._infos.unpack(simulation.info, actions.dtype, only=over)
                infos = final_infos(simulation.final_observations, last, over)
                simulation.begin(over)
                infos |= self._infos.unpack(simulation.info, actions.dtype, begun=over)
            else:
                infos = self._infos.unpack(simulation.info, actions.dtype, begun=restarted)
                if ended or restarted is not None:
                    simulation.restart_later()
            observations = simulation.observations.copy()
            for message in messages:  # last, as a warning may be made an error
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            return observations, rewards, terminations, truncations, infos

    @property
    def observations(self) -> Array:
        """Where every sub-environment now is: `[N, O]`, a copy."""
        return self._simulation.observations.copy()

    @property
    def final_observations(self) -> Array:
        """Where the last step led, before any reset: `[N, O]`, a copy.

        In the rows whose episode ended this is the episode's true last observation, whatever the
        autoreset mode; in rows that were only reset it is the first observation.
        """
        return self._simulation.final_observations.copy()

    def terminated(self, observations: Any) -> Any:
        """Evaluate the task's termination rule on observations, such as a model's predictions.

        It is the rule of real steps. An observation shows a little less than the simulator sees:
        the positions left out of it, and for Hopper velocities beyond ±10, which it clips.

        Args:
            observations: `[..., O]`, float32 or float64, an array or a tensor.

        Returns:
            bool `[...]`, an array or a tensor as given.

        Raises:
            ValueError: the observations have another shape or type.
        """
        self._one_caller.require_open()
        if isinstance(observations, torch.Tensor):
            flags = self.terminated(observations.detach().cpu().numpy())
            return torch.from_numpy(flags).to(observations.device)
        rows, shape = observations_of(observations, self._observation_size)
        return self._simulation.native.terminated(rows).reshape(shape)

    # ------------------------------------------------------------------ saving

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything that the future depends on, as tensors with leading axis N."""
        with self._one_caller:
            entry = {task_fingerprint.ENTRY: self._fingerprint.clone()}
            return self._simulation.state_dict() | entry

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a saved state; what follows is then what followed it.

        Raises:
            ValueError: the state is of another task, number of environments or arguments; nothing
                was changed.
        """
        with self._one_caller:
            task_fingerprint.check_fingerprint(state, self._fingerprint)
            rest = {name: x for name, x in state.items() if name != task_fingerprint.ENTRY}
            self._simulation.load_state_dict(rest)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: threads and simulations cannot be."""
        raise TypeError(
            "a BatchEnv cannot be copied or pickled; make another one and load_state_dict() what "
            "this one's state_dict() returns."
        )

    # ------------------------------------------------------------------ Gymnasium's remaining API

    @property
    def np_random(self) -> Any:
        """The random generators of the sub-environments, a tuple."""
        return tuple(self._simulation.starts.generator(i)[0] for i in range(self.num_envs))

    @np_random.setter
    def np_random(self, value: Any) -> None:
        raise AttributeError("each sub-environment has its own generator; seed them with reset().")

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the sub-environments' generators, a tuple; -1 where unknown."""
        return tuple(self._simulation.starts.generator(i)[1] for i in range(self.num_envs))

    def __enter__(self) -> Self:
        """Return the environment; leaving the `with` block closes it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the environment."""
        self.close()

    def close_extras(self, **kwargs: Any) -> None:
        """Free the simulations and their threads."""
        if not self._one_caller.is_open or self._one_caller.is_forked:
            return  # the constructor failed, or they are another process's
        with self._one_caller:
            self._one_caller.is_open = False
            self._simulation.close()

    def _require_started(self) -> None:
        simulation = self._simulation
        if not simulation.all_started:
            raise ResetNeeded("call reset() before the first step().")
        if simulation.any_over and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                "the episodes of sub-environments "
                f"{np.flatnonzero(simulation.episode_over).tolist()} are over; with "
                "AutoresetMode.DISABLED, call reset(options={'reset_mask': terminated | "
                "truncated}) first."
            )
