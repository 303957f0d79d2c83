"""The folder of one run: its configuration, metrics, events, checkpoints and plots.

A folder belongs to one configuration and, while it is open, to one process. Opening it again with
the same configuration resumes the run; with another one it is refused and nothing is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tom.durable import replacing
from tom.settings import (
    ConfigError,
    Settings,
    SettingsT,
    among,
    from_dict,
    override,
    to_dict,
    validate,
    walk,
)
from tom.user_path import user_path

ALLOWED_RUN = "allowed is a run folder of tom.train or tom.offline"

# Folders locked by this process, as (device, inode), until it ends. The open descriptor keeps the
# inode from being used again. Opening a folder twice in one process is fine.
_locks: dict[tuple[int, int], int] = {}


class RunFolder:
    """Paths of a run; made by :meth:`open`.

    Attributes:
        path: the folder itself.
        saved: the configuration of the run that it held before it was opened; None if it held none.
    """

    def __init__(self, path: Path, config: Settings, saved: Settings | None) -> None:
        self.path = path
        self.saved = saved
        self._config = config

    @property
    def resuming(self) -> bool:
        """Whether the folder held this run before it was opened."""
        return self.saved is not None

    @classmethod
    def open(
        cls, config: Settings, parts: Sequence[str] = ("checkpoints", "plots", "tensorboard")
    ) -> RunFolder:
        """Create `config.run_dir`, or take up the run of the same configuration in it.

        A larger `steps` than the folder's continues the run for longer. Threads, the GPU's number
        and the folder's own name may differ. A run that is taken up keeps its saved configuration
        until :meth:`take_up` replaces it by the given one.

        Raises:
            ConfigError: another configuration, fewer steps, a folder of something else, a folder
                in use by another process, or one that cannot be written. Nothing has changed.
        """
        if not config.run_dir:
            raise ConfigError("run_dir: given '', allowed is the path of a folder")
        path = user_path(config.run_dir, f"run_dir: given {config.run_dir}")
        saved = saved_config(config.run_dir, type(config))
        if saved is not None:
            _compare(path, saved, config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            _lock(path)
            if saved is None:
                _write(path / "config.json", config)
            folder = cls(path, config, saved)
            for part in parts:
                (path / part).mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(config.run_dir, error) from error
        return folder

    def take_up(self) -> None:
        """Save the configuration that the folder was opened with: what it held could be used.

        Raises:
            ConfigError: it cannot be written.
        """
        if self.saved is None or self.saved == self._config:
            return
        try:
            _write(self.path / "config.json", self._config)
        except OSError as error:
            raise _unwritable(str(self.path), error) from error

    @property
    def metrics(self) -> Path:
        """The table of metrics."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard events, with one sub-folder per seed."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def plots(self) -> Path:
        """The folder of figures."""
        return self.path / "plots"


def _unwritable(path: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"run_dir: given {path}, which cannot be written ({error.strerror}), allowed is a folder "
        f"that can"
    )


def saved_config(run_dir: str, kind: type[SettingsT]) -> SettingsT | None:
    """The configuration of the run in a folder; None for a folder that is empty or not there.

    Raises:
        ConfigError: a folder of something else, or one that cannot be read.
    """
    path = user_path(run_dir, f"run_dir: given {run_dir}")
    file = path / "config.json"
    try:
        if file.exists():
            return read_config(file, kind)
        if path.exists() and not path.is_dir():
            raise ConfigError(f"run_dir: given {path}, which is a file, allowed is a folder")
        if path.exists() and any(path.iterdir()):
            raise ConfigError(
                f"run_dir: given {path}, which is not empty and holds no run, allowed is a new or "
                f"empty folder"
            )
    except OSError as error:
        raise ConfigError(
            f"run_dir: given {path}, which cannot be read ({error.strerror}), allowed is a folder "
            f"that can"
        ) from error
    return None


def find_folder(path: Path, given: str) -> Path:
    """Where the run is in a folder of `tom.train`, or of `tom.offline`, whose is in `sac`.

    Args:
        path: the folder.
        given: how messages begin, such as `policy: given runs/x`.

    Raises:
        ConfigError: it holds no run, or cannot be read.
    """
    try:
        for folder in (path / "sac", path):
            if (folder / "config.json").is_file():
                return folder
    except OSError as error:
        raise ConfigError(f"{given}, which cannot be read ({error}), {ALLOWED_RUN}") from error
    raise ConfigError(f"{given}, which holds no run, {ALLOWED_RUN}")


def read_config(file: Path, kind: type[SettingsT]) -> SettingsT:
    """The configuration saved in a run folder.

    Raises:
        ConfigError: it is damaged, or of another command or version.
        OSError: it cannot be read.
    """
    try:
        saved = from_dict(kind, json.loads(file.read_text()))
        validate(saved)
    except ConfigError as error:
        raise ConfigError(
            f"run_dir: given {file.parent}, whose config.json does not fit this version of tom "
            f"({error}), allowed is another folder"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"run_dir: given {file.parent}, whose config.json is damaged ({error}), allowed is "
            f"another folder"
        ) from error
    return saved


def _compare(path: Path, saved: Settings, given: Settings) -> None:
    ours, held = ({name: value for name, _, value in walk(each)} for each in (given, saved))
    for name, theirs in held.items():
        if ours[name] == theirs or among(name, given.free):
            continue
        # Random streams of the processor and of a GPU do not fit each other.
        if name == "device" and ours[name].partition(":")[0] == theirs.partition(":")[0]:
            continue
        if name == "steps" and ours[name] > theirs:
            continue
        allowed = "that or more" if name == "steps" else "the same"
        elsewhere = "another folder with --run-dir"
        if name == "seeds" and ours[name] > theirs and ours["seed"] == held["seed"]:
            more = f"--seed {ours['seed'] + theirs} --seeds {ours[name] - theirs}"
            elsewhere = f"the others in another folder ({more}), which tom.compare pools with these"
        raise ConfigError(
            f"{name}: given {_show(ours[name])}, but {path} holds a run with {_show(theirs)}; "
            f"allowed is {allowed}, or {elsewhere}"
        )


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _write(file: Path, config: Settings) -> None:
    """Replace `file` by the configuration as JSON."""
    saved = to_dict(override(config, {"run_dir": str(file.parent)}))
    with replacing(file) as out:
        out.write(json.dumps(saved, indent=2) + "\n")


def _lock(path: Path) -> None:
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key in _locks:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"run_dir: given {path}, in which another process is running, allowed is another folder"
        ) from None
    except OSError:
        os.close(descriptor)  # A file system without locks: go on without.
        return
    _locks[key] = descriptor
