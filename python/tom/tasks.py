"""The tasks with short names, and the presets: which settings each replaces.

Observation flags are those of MBPO's shorter observations (27 numbers for Ant, 45 for Humanoid).
Target entropies, lengths of runs and update counts are MBPO's per-task values, except the
pendulum's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tom.config import Config, override
from tom.env_args import read_env_args
from tom.environment_ids import without_module

Preset = Literal["default", "paper", "debug"]


@dataclass(frozen=True)
class Task:
    """A Gymnasium id or `module:id`, constructor arguments, and settings that replace defaults."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def same_as(self, other: Task) -> bool:
        """Whether it is the same environment, under whatever name.

        The module of `module:id` says only where the id is registered.
        """
        ours, theirs = without_module(self.id), without_module(other.id)
        return (ours, dict(self.kwargs)) == (theirs, dict(other.kwargs))


TASKS: Mapping[str, Task] = {
    "hopper": Task("Hopper-v5", settings={"steps": 125_000, "sac.target_entropy": -1.0}),
    "walker2d": Task("Walker2d-v5", settings={"steps": 300_000, "sac.target_entropy": -3.0}),
    "halfcheetah": Task(
        "HalfCheetah-v5",
        settings={"steps": 400_000, "sac.target_entropy": -3.0, "updates_per_step": 40},
    ),
    "ant": Task(
        "Ant-v5",
        kwargs={"include_cfrc_ext_in_observation": False},
        settings={"steps": 300_000, "sac.target_entropy": -4.0},
    ),
    "humanoid": Task(
        "Humanoid-v5",
        kwargs={
            "include_cinert_in_observation": False,
            "include_cvel_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        },
        settings={
            "steps": 300_000,
            "sac.target_entropy": -2.0,
            "dynamics.hidden": (400, 400, 400, 400),
        },
    ),
    "inverted_pendulum": Task(
        "InvertedPendulum-v5",
        settings={
            "steps": 6_000,
            "sac.target_entropy": -0.05,
            # Four numbers of state: small networks and a short exploration are enough, and three
            # seeds then take minutes on two cores.
            "exploration_steps": 1_000,
            "updates_per_step": 10,
            "discriminator.hidden": (64, 64),
            "dual_q.hidden": (64, 64),
            "dynamics.hidden": (64, 64, 64),
            "sac.hidden": (64, 64),
            "sac.learning_rate": 1e-3,
        },
    ),
}


def find_task(name: str, args: Sequence[str] = ()) -> Task:
    """The task of a short name, or a plain one for any other Gymnasium id or `module:id`.

    Args:
        name: the setting `env`.
        args: the setting `env_args`, which join or replace the task's own.

    Raises:
        ConfigError: an argument that is not NAME=VALUE.
    """
    task = TASKS.get(name, Task(name))
    return replace(task, kwargs={**task.kwargs, **read_env_args(args)})


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "default": {},
    # Where the defaults of `Config` are not the paper's table, (21) or (22); its docstrings say
    # why. What the paper does not mention stays as it is by default.
    "paper": {
        "discriminator.replay_label": 0.0,
        "dual_q.after_termination": "cut",
        "dual_q.settle_constant": False,
        "dynamics.learning_rate": 3e-4,
        "weights.uniform_share": 0.0,
    },
    # A whole run in well under a minute on two cores: it shows that everything works, not that
    # anything is learned.
    "debug": {
        "steps": 600,
        "exploration_steps": 200,
        "iteration_interval": 100,
        "updates_per_step": 2,
        "checkpoint_interval": 200,
        "discriminator.hidden": (32, 32),
        "discriminator.steps": 20,
        "discriminator.batch_size": 64,
        "discriminator.current_rows": 100,
        "dual_q.hidden": (32, 32),
        "dual_q.steps": 50,
        "dual_q.batch_size": 64,
        "dynamics.members": 3,
        "dynamics.elites": 2,
        "dynamics.hidden": (32, 32),
        "dynamics.batch_size": 64,
        "dynamics.epochs": 3,
        "dynamics.batches_per_epoch": 20,
        "rollout.starts": 1000,
        "rollout.retain_steps": 200,
        "sac.hidden": (32, 32),
        "sac.batch_size": 64,
        "evaluation.interval": 200,
        "evaluation.episodes": 2,
    },
}


def defaults(env: str, preset: Preset = "default") -> Config:
    """The settings of a task before the command line: `Config`'s, the task's, the preset's."""
    settings = {**find_task(env).settings, **PRESETS[preset]}
    return override(Config(env=env), settings)
