"""What other commands read from a run folder of `tom.train`: its newest replay and its actor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tom import checkpoint
from tom.checkpoint import CheckpointError
from tom.config import Config
from tom.rows import RowLayout
from tom.run_folder import ALLOWED_RUN, find_folder, read_config
from tom.sac import SAC
from tom.settings import ConfigError
from tom.state import State, stack_seeds
from tom.streams import RandomStreams
from tom.tasks import Task, find_task


@dataclass(frozen=True)
class SavedRun:
    """One seed of a run at its newest checkpoint."""

    config: Config
    seed: int
    step: int
    state: State


def find_run(path: Path, given: str, task: Task | None = None, seed: int | None = None) -> SavedRun:
    """The run in a folder of `tom.train`, or that in the sub-folder `sac` of one of `tom.offline`.

    Args:
        path: the folder.
        given: how messages begin, such as `policy: given runs/x`.
        task: the task that it must be of; left out, any.
        seed: which of its seeds; left out, the first.

    Raises:
        ConfigError: no such run or seed, a run of another task, or one without a checkpoint that
            fits its settings.
    """
    path, allowed = find_folder(path, given), ALLOWED_RUN
    try:
        config = read_config(path / "config.json", Config)
        found = checkpoint.load(path / "checkpoints")
    except (ConfigError, CheckpointError, OSError) as error:
        raise ConfigError(f"{given}, which cannot be read ({error}), {allowed}") from error
    if task is not None and not task.same_as(find_task(config.env, config.env_args)):
        theirs = " ".join([config.env, *config.env_args])
        raise ConfigError(f"{given}, a run of {theirs}, {allowed} for the task of --env")
    last = config.seed + config.seeds - 1
    known = not isinstance(seed, bool) and hasattr(seed, "__index__")
    if seed is not None and not (known and config.seed <= seed <= last):
        raise ConfigError(f"seed: given {seed!r}, allowed are {config.seed} to {last} in {path}")
    if found is None:
        raise ConfigError(f"{given}, which has no checkpoint yet, {allowed} with one")
    step, files = found
    number = config.seed if seed is None else int(seed)
    if f"seed_{number}" not in files:
        raise ConfigError(
            f"{given}, whose checkpoint does not fit config.json (it has no seed {number}), "
            f"{allowed} whose settings are those it was made with"
        )
    return SavedRun(config, number, step, files[f"seed_{number}"])


def load_policy(
    run: SavedRun, given: str, layout: RowLayout, low: Tensor, high: Tensor, streams: RandomStreams
) -> SAC:
    """The policy of a run; its critics are untrained.

    Args:
        run: the run.
        given: how messages begin.
        layout: the layout of its task's rows.
        low: the actions' lower bounds [A].
        high: their upper bounds [A].
        streams: one random stream.

    Raises:
        ConfigError: the task has other sizes than when the run was made.
    """
    config = run.config
    sac = SAC(layout, low, high, config.sac, config.discount, streams, precision=config.precision)
    actor = stack_seeds([run.state["sac"]["actor"]])
    theirs, ours = actor["parameters"].shape, sac.actor.state_dict()["parameters"].shape
    if theirs != ours:
        raise ConfigError(
            f"{given}, whose actor for {config.env} has {theirs[1]} parameters, allowed is one of "
            f"this task, with {ours[1]}"
        )
    sac.actor.load_state_dict(actor)
    return sac
