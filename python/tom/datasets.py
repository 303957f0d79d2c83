"""Transitions from elsewhere: D4RL-style HDF5 files, Minari datasets, and run folders.

All become rows `[s | a | s' | r | terminated]`, oldest first, beside the episodes' first states.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tom.rows import RowLayout
from tom.saved_run import find_run
from tom.settings import ConfigError
from tom.tasks import Task
from tom.user_path import user_path

Array = npt.NDArray[Any]

HDF5_PARTS = ("observations", "actions", "next_observations", "rewards", "terminals")


@dataclass(frozen=True)
class Dataset:
    """Transitions in their order in time.

    Attributes:
        rows: [N, W].
        initial_states: [E, O], the first state of every episode.
        returns: of the episodes that ended, where known.
    """

    rows: Tensor
    initial_states: Tensor
    returns: tuple[float, ...] = ()

    def __add__(self, later: Dataset) -> Dataset:
        """The rows of both, one after the other."""
        return Dataset(
            torch.cat([self.rows, later.rows]),
            torch.cat([self.initial_states, later.initial_states]),
            self.returns + later.returns,
        )

    @property
    def mean_return(self) -> float | None:
        """Of the episodes that ended; None if none is known."""
        return sum(self.returns) / len(self.returns) if self.returns else None

    def describe(self) -> str:
        """Its size and, if known, what an episode earns."""
        text = f"{len(self.rows):,} transitions"
        if self.mean_return is None:
            return text
        return f"{text} (mean return {self.mean_return:.0f} over {len(self.returns)} episodes)"

    def thinned(self, n: int) -> Dataset:
        """At most n of the rows, at even distances and in the same order."""
        if len(self.rows) <= n:
            return self
        index = torch.linspace(0, len(self.rows) - 1, n, dtype=torch.float64).round().long()
        return Dataset(self.rows[index], self.initial_states, self.returns)


def load_dataset(name: str, source: str, layout: RowLayout, task: Task | None = None) -> Dataset:
    """Read a dataset.

    Args:
        name: the setting that names it, for messages.
        source: an HDF5 file, a run folder, or else a Minari dataset id.
        layout: the task's layout.
        task: the task, which a run folder must be of; left out, it may be of any with that layout.

    Raises:
        ConfigError: it cannot be found or read, lacks a part, or is of another task.
    """
    given = f"{name}: given {source}"
    path = user_path(source, given, "an HDF5 file, a run folder or a Minari dataset")
    if path.is_dir():
        dataset = _read_run(path, given, task)
    elif path.is_file():
        dataset = _read_hdf5(path, layout, given)
    else:
        dataset = _read_minari(source, layout, given)
    width = dataset.rows.shape[1]
    if width != layout.width:
        raise ConfigError(
            f"{given}, whose transitions are rows of {width} numbers, allowed are the task's "
            f"{layout.width}"
        )
    if not len(dataset.rows):
        raise ConfigError(f"{given}, which holds no transition, allowed is one that does")
    finite = dataset.rows.isfinite().all(1)
    if not finite.all():
        raise ConfigError(
            f"{given}, whose transition {int(finite.long().argmin())} is not finite, allowed are "
            f"finite numbers"
        )
    return dataset


def _join(parts: dict[str, Array], first: Array, layout: RowLayout, given: str) -> Dataset:
    """Rows from arrays of n transitions; `first` [n] says which of them begin an episode."""
    n = len(parts["rewards"])
    sizes = {"observations": layout.observation_size, "actions": layout.action_size}
    sizes["next_observations"] = sizes["observations"]
    for part, array in parts.items():
        shape = (n, sizes[part]) if part in sizes else (n,)
        if array.shape != shape:
            raise ConfigError(
                f"{given}, whose {part} have the shape {list(array.shape)}, allowed is "
                f"{list(shape)} for this task"
            )
    tensors = [torch.as_tensor(np.asarray(parts[name], np.float32)) for name in HDF5_PARTS]
    return Dataset(layout.join(*tensors), tensors[0][torch.as_tensor(first, dtype=torch.bool)])


def _read_hdf5(path: Path, layout: RowLayout, given: str) -> Dataset:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(_missing(given, "h5py")) from error
    try:
        with h5py.File(path) as file:
            lacking = [part for part in HDF5_PARTS if part not in file]
            if lacking:
                raise ConfigError(
                    f"{given}, which has no dataset {lacking[0]!r}, allowed is a file with "
                    f"{', '.join(HDF5_PARTS)} and, if episodes have a time limit, timeouts"
                )
            # D4RL's rewards and flags are [n], others' are [n, 1].
            parts = {part: np.asarray(file[part]) for part in HDF5_PARTS}
            timeouts = np.asarray(file["timeouts"]).reshape(-1) if "timeouts" in file else None
    except OSError as error:
        raise ConfigError(
            f"{given}, which cannot be read as HDF5 ({error}), allowed is an HDF5 file"
        ) from error
    for part in ("rewards", "terminals"):
        parts[part] = parts[part].reshape(-1)
    n = len(parts["rewards"])
    over = np.zeros(n, bool)
    for part, flags in (("terminals", parts["terminals"]), ("timeouts", timeouts)):
        if flags is None:
            continue
        if len(flags) != n:
            raise ConfigError(
                f"{given}, whose {part} have the shape {[len(flags)]}, allowed is {[n]}"
            )
        over |= flags.astype(bool)
    first = np.ones(n, bool)
    first[1:] = over[: n - 1]
    return _join(parts, first, layout, given)


def _read_minari(id: str, layout: RowLayout, given: str) -> Dataset:
    try:
        import minari
    except ImportError as error:
        raise ConfigError(
            f"{given}, which is no file or run folder; " + _missing("for a Minari id", "minari")
        ) from error
    try:
        local = sorted(minari.list_local_datasets())
    except ValueError:  # An id that Minari cannot parse lies in its folder.
        local = []
    if id not in local:
        raise ConfigError(
            f"{given}, which is no file, no run folder and no Minari dataset on this machine "
            f"({', '.join(local) or 'there are none'}), allowed is one of these; `minari download "
            f"ID` fetches a dataset"
        )
    episodes = list(minari.load_dataset(id).iterate_episodes())
    if any(isinstance(e.observations, dict | tuple) for e in episodes):
        raise ConfigError(
            f"{given}, whose observations are not plain arrays, allowed are Box observations"
        )
    lengths = [len(e.rewards) for e in episodes]
    pieces = {
        "observations": [e.observations[:-1] for e in episodes],
        "actions": [e.actions for e in episodes],
        "next_observations": [e.observations[1:] for e in episodes],
        "rewards": [e.rewards for e in episodes],
        "terminals": [e.terminations for e in episodes],
    }
    parts = {name: np.concatenate(arrays) for name, arrays in pieces.items()}
    first = np.zeros(sum(lengths), bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    return _join(parts, first, layout, given)


def _read_run(path: Path, given: str, task: Task | None) -> Dataset:
    """The replay buffer in a run's newest checkpoint."""
    run = find_run(path, given, task)
    replay, begun = run.state["replays"], run.state["collector"]["initial_states"]
    rows, total = replay["rows"], int(replay["total_appended"])
    # Slots are a ring: once it is full, the oldest row lies where the next one will.
    rows = rows.roll(-(total % len(rows)), 0) if total > len(rows) else rows
    states = begun["states"]
    return Dataset(rows, states[: min(int(begun["appended"]), len(states))])


def _missing(given: str, package: str) -> str:
    return f"{given}, the package {package} is needed: pip install 'tom-rl[datasets]'"
