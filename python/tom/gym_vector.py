"""One way to make a vector environment: BatchEnv where it can, Gymnasium's own otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Self

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array

from tom import task_arguments
from tom.batch_env import BatchEnv
from tom.environment_faults import find_fault
from tom.environment_ids import environment_spec, without_module
from tom.termination import TerminationRule, termination_rule
from tom.training_error import TrainingError
from tom.user_code import describe

Array = npt.NDArray[Any]


def make_vector_env(
    id: str,
    num_envs: int,
    num_threads: int | None = None,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    termination: TerminationRule | str | None = None,
    **gymnasium_kwargs: Any,
) -> BatchEnv | GymVectorEnv:
    """Return a `BatchEnv` for the ids that it runs, else a `GymVectorEnv`.

    Args:
        id: a Gymnasium id whose observation and action spaces are boxes, or `module:id` to import
            first the module that registers it.
        num_envs: number of sub-environments N.
        num_threads: threads of a `BatchEnv`; Gymnasium's environments run one after another.
        autoreset_mode: as in Gymnasium.
        max_episode_steps: the time limit; None: Gymnasium's for the id; -1: none.
        termination: the rule behind `terminated` for ids that `BatchEnv` does not run: "none", a
            function from observations `[n, O]` to bool `[n]`, or its name "module:function".
        **gymnasium_kwargs: constructor arguments of the environment.

    Raises:
        ValueError: the id is unknown, its module cannot be imported, its environment cannot be
            made, its spaces are not boxes, or an argument is refused.
    """
    if _simulated(environment_spec(id)):
        if termination is not None:
            raise ValueError(
                f"termination is {termination!r}, but {id} has its own termination rule; leave "
                "it out."
            )
        return BatchEnv(
            without_module(id),
            num_envs,
            num_threads,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            **gymnasium_kwargs,
        )
    return GymVectorEnv(
        id,
        num_envs,
        autoreset_mode=autoreset_mode,
        max_episode_steps=max_episode_steps,
        termination=termination,
        **gymnasium_kwargs,
    )


class GymVectorEnv(VectorEnv[Array, Array, Array]):
    """Any Gymnasium environment with box spaces, behind the interface of `BatchEnv`.

    Observations and actions are flattened to `[N, O]` and `[N, A]`.
    """

    can_save_state = False

    def __init__(
        self,
        id: str,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        termination: TerminationRule | str | None = None,
        **gymnasium_kwargs: Any,
    ) -> None:
        """Make the environments; see `make_vector_env` for the arguments and errors."""
        super().__init__()
        self._rule = termination_rule(termination)
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, but it must be at least 1.")
        if max_episode_steps is not None:
            gymnasium_kwargs["max_episode_steps"] = max_episode_steps
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._id = id
        self._envs = _make(id, num_envs, self.autoreset_mode, gymnasium_kwargs)
        self.num_envs = num_envs
        self.spec = self._envs.spec
        self.metadata = self._envs.metadata
        self.render_mode = self._envs.render_mode
        self._action_shape = (num_envs, *self._envs.single_action_space.shape)
        self._action_type = self._envs.single_action_space.dtype
        self.single_observation_space = _flat(self._envs.single_observation_space)
        self.single_action_space = _flat(self._envs.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observations = self._flatten(
            create_empty_array(self._envs.single_observation_space, num_envs)
        )
        self.final_observations = self.observations.copy()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Start new episodes; as in Gymnasium.

        Raises:
            TrainingError: an environment does not return what it has to.
        """
        options = None if options is None else dict(options)  # Gymnasium removes its reset_mask
        with self._explaining():
            observations, infos = self._envs.reset(seed=seed, options=options)
        self.observations = self._flatten(observations)
        self.final_observations = self.observations.copy()
        return self.observations.copy(), infos

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step every sub-environment by its row of `actions` `[N, A]`.

        Raises:
            ValueError: the actions have another shape; nothing was stepped.
            TrainingError: an environment does not return what it has to.
        """
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"actions have the shape {actions.shape}, but it must be {self.action_space.shape}:"
                " one row for each sub-environment."
            )
        shaped = actions.reshape(self._action_shape).astype(self._action_type, copy=False)
        with self._explaining():
            observations, rewards, terminations, truncations, infos = self._envs.step(shaped)
            self.observations = self._flatten(observations)
            self.final_observations = self.observations.copy()
            if "final_obs" in infos:
                for i in np.flatnonzero(infos["_final_obs"]):
                    last = np.reshape(infos["final_obs"][i], self.final_observations[i].shape)
                    self.final_observations[i] = infos["final_obs"][i] = last
        return self.observations.copy(), rewards, terminations, truncations, infos

    def terminated(self, observations: Any) -> Any:
        """Evaluate the given termination rule on observations `[..., O]`.

        Raises:
            ValueError: no rule was given, or its result has another shape.
        """
        if self._rule is None:
            raise ValueError(
                f"the termination rule of {self._id} is unknown, and model rollouts need it: give "
                "--termination none if episodes end only at the time limit, or --termination "
                "module:function with a function that takes observations [n, O] to bool [n]."
            )
        flags = self._rule(observations)
        if tuple(flags.shape) != tuple(observations.shape[:-1]):
            raise ValueError(
                f"the termination rule returned the shape {tuple(flags.shape)} for observations of "
                f"shape {tuple(observations.shape)}, but it must return one bool per observation."
            )
        return flags

    def state_dict(self) -> NoReturn:
        """Refuse: Gymnasium has no interface to save an environment in the middle of an episode."""
        raise NotImplementedError(
            f"{self._id} cannot be saved, because only the simulator's own tasks "
            f"({', '.join(task_arguments.supported_ids())}) can; begin new episodes on resume."
        )

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> NoReturn:
        """Refuse, as `state_dict` does."""
        self.state_dict()

    @property
    def np_random(self) -> Any:
        """The random generators of the sub-environments."""
        return self._envs.np_random

    @np_random.setter
    def np_random(self, value: Any) -> None:
        self._envs.np_random = value

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the sub-environments' generators."""
        return self._envs.np_random_seed

    def render(self) -> Any:
        """Return the frames of all sub-environments."""
        return self._envs.render()

    def __enter__(self) -> Self:
        """Return the environment; leaving the `with` block closes it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the environments."""
        self.close()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        if hasattr(self, "_envs"):  # not when the constructor failed
            self._envs.close(**kwargs)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if fault := find_fault(self._envs.envs[0]):
                raise TrainingError(f"env {self._id}: {fault}") from error
            raise

    def _flatten(self, observations: Any) -> Array:
        return np.array(observations).reshape(self.num_envs, -1)


def _simulated(spec: Any) -> bool:
    """Whether `BatchEnv` runs it: an id of Gymnasium's, not registered anew as something else."""
    own = str(spec.entry_point).startswith("gymnasium.envs.mujoco.")
    changed = spec.kwargs or spec.additional_wrappers
    return own and not changed and spec.id in task_arguments.supported_ids()


def _make(id: str, num_envs: int, mode: AutoresetMode, kwargs: dict[str, Any]) -> Any:
    spec = environment_spec(id)
    vector_kwargs = {"autoreset_mode": mode}
    try:
        envs = gymnasium.make_vec(
            spec.id, num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **kwargs
        )
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ValueError(
            f"env is {id!r}, which needs a package that is missing: {error}"
        ) from error
    except Exception as error:  # of the user's own code
        raise ValueError(f"env is {id!r}, which cannot be made: {_failure(id, error)}") from error
    for kind in ("observation", "action"):
        space = getattr(envs, f"single_{kind}_space")
        if not isinstance(space, Box):
            envs.close()
            raise ValueError(
                f"env is {id!r}, whose {kind} space is {type(space).__name__}, but only Box spaces "
                "are allowed."
            )
    return envs


def _failure(id: str, error: Exception) -> str:
    """What went wrong in making an environment, and what to do."""
    if not isinstance(error, TypeError):
        return f"{describe(error)}; gymnasium.make({id!r}) shows where."
    cause = error.__cause__ or error  # Gymnasium's own text is the cause's with details
    if "missing" in str(cause):
        return (
            f"{describe(cause)}; give every argument a default, or a value in the kwargs of "
            "gymnasium.register."
        )
    return f"{describe(cause)}; gymnasium.make({id!r}) shows where."


def _flat(space: Box) -> Box:
    return Box(space.low.reshape(-1), space.high.reshape(-1), dtype=space.dtype.type)


TomVectorEnv = BatchEnv | GymVectorEnv
"""What :func:`make_vector_env` returns."""


def box(space: gymnasium.Space[Any]) -> Box:
    """The space of one sub-environment, which is always a Box here."""
    assert isinstance(space, Box)
    return space
