"""What a run reports: metrics to a table and to TensorBoard, progress to the screen.

Metric names follow Stable-Baselines3 (`eval/mean_reward`, `rollout/ep_rew_mean`, `time/fps`,
`train/...`), plus `model/...` and `tom/...`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tom.config import Config
from tom.metrics import MetricsTable
from tom.profile import Profile
from tom.progress import REFRESH_SECONDS, Progress
from tom.run_folder import RunFolder
from tom.training_error import writing

RETURN = "eval/mean_reward"

Values = float | Sequence[float] | np.ndarray | torch.Tensor
"""One number per seed `[S]`, or one for all seeds."""


class Logger:
    """Collects the metrics of a run and writes them; a context manager around the training loop.

        with Logger(folder, config, start_step) as log:
            with log.phase("dynamics"):
                ...
            log.record("model/holdout_nll", values)
            log.step(step)
            log.dump(step)

    One row per seed goes to `metrics.csv` and one TensorBoard sub-folder per seed. Resumed at
    `start_step`, rows of later steps are dropped from both, so that the table becomes what an
    uninterrupted run would have written; at `start_step=0` all rows are dropped.

    Args:
        folder: the run's folder.
        config: its configuration.
        start_step: environment steps already taken (those of the checkpoint).
        console: where progress goes; by default the standard output.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        start_step: int = 0,
        console: Console | None = None,
    ) -> None:
        self._seeds = range(config.seed, config.seed + config.seeds)
        self._start_step = self._step = start_step
        self._recorded: dict[str, Any] = {}
        self._returns: list[float] | None = None
        self._earlier = 0.0
        self._began = time.perf_counter()
        self._phases = _Phases()
        self._profile = Profile()
        self._exploration_steps = config.exploration_steps
        self._progress = Progress(
            console or Console(),
            config.steps,
            start_step,
            config.iteration_interval,
            config.exploration_steps,
        )
        self._next_refresh = 0.0
        self._table = MetricsTable(folder.metrics, start_step)
        self._writers = [_event_writer(folder, seed, start_step) for seed in self._seeds]

    def __enter__(self) -> Logger:
        self._began = time.perf_counter()
        if self._start_step >= self._exploration_steps:
            self._profile.start(self._start_step, self._elapsed(), self._phases.seconds())
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ExitStack() as closing:
            for writer in self._writers:
                closing.callback(writer.close)
            closing.callback(self._table.close)
            closing.callback(self._progress.stop)
            self._show()

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count the time spent inside under `name`; an inner phase's time is its own alone."""
        return _Phase(self._phases, name)

    def record(self, name: str, values: Values) -> None:
        """Keep a metric until the next :meth:`dump`; recorded again, the last values hold.

        Args:
            name: metric, such as `model/holdout_nll`.
            values: `[S]` one per seed, or one number for all seeds. A tensor on a GPU is read at
                the dump, so that recording does not wait for it.

        Raises:
            ValueError: neither one number nor one per seed.
        """
        if isinstance(values, torch.Tensor):
            values = values.detach()
            shape = tuple(values.shape)
            values = values.clone() if values.is_cuda else values.tolist()
        else:
            shape = np.shape(values)
            values = np.asarray(values).tolist()
        if shape not in ((), (1,), (len(self._seeds),)):
            raise ValueError(
                f"{name}: given values of shape {list(shape)}, allowed is one number or one for "
                f"each of {len(self._seeds)} seeds"
            )
        self._recorded[name] = values

    def record_all(self, metrics: Mapping[str, Values]) -> None:
        """:meth:`record` for each of several metrics."""
        for name, values in metrics.items():
            self.record(name, values)

    def step(self, step: int) -> None:
        """Note that `step` environment steps are done; cheap, to be called at each."""
        self._step = step
        if step == self._exploration_steps:
            self._profile.start(step, self._elapsed(), self._phases.seconds())
            self._progress.measure_from(step)
        if time.perf_counter() >= self._next_refresh:
            self._show()

    def dump(self, step: int) -> None:
        """Write what was recorded as the row of `step` for each seed, with the time metrics.

        Nothing is written if nothing was recorded since the last dump.

        Raises:
            TrainingError: the disk refuses.
        """
        self._step = step
        if not self._recorded:
            return
        elapsed = self._elapsed()
        session = elapsed - self._earlier
        self.record("time/fps", (step - self._start_step) / max(session, 1e-9))
        self.record("time/elapsed", elapsed)
        for name, share in self._shares().items():
            self.record(f"time/phase_share/{name}", share)
        metrics = {name: self._per_seed(values) for name, values in self._recorded.items()}
        self._recorded.clear()
        with writing("the metrics"):
            self._table.append(step, self._seeds, metrics)
            for i, writer in enumerate(self._writers):
                for name, values in metrics.items():
                    writer.add_scalar(name, values[i], step)
                writer.flush()
        evaluated = RETURN in metrics
        if evaluated:
            self._returns = [float(value) for value in metrics[RETURN]]
        self._show(force=evaluated)

    def profile(self) -> Table | None:
        """Where this process's time went since the exploration; None if no step came after it."""
        return self._profile.table(self._step, self._elapsed(), self._phases.seconds())

    def message(self, text: str) -> None:
        """Print a line, above the live line if there is one."""
        self._progress.print(text)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from: times, returns, and what was recorded but not dumped."""
        return {
            "elapsed": self._elapsed(),
            "phases": self._phases.seconds(),
            "returns": self._returns,
            "recorded": {name: self._per_seed(values) for name, values in self._recorded.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._earlier = state["elapsed"]
        self._phases.load(state["phases"])
        self._returns = state["returns"]
        self._recorded = dict(state["recorded"])

    def _per_seed(self, values: Any) -> list[float]:
        plain = values.tolist() if isinstance(values, torch.Tensor) else values
        row: list[float] = plain if isinstance(plain, list) else [plain]
        return row if len(row) == len(self._seeds) else row * len(self._seeds)

    def _elapsed(self) -> float:
        return self._earlier + time.perf_counter() - self._began

    def _shares(self) -> dict[str, float]:
        elapsed = max(self._elapsed(), 1e-9)
        return {name: seconds / elapsed for name, seconds in self._phases.seconds().items()}

    def _show(self, *, force: bool = False) -> None:
        self._progress.update(self._step, self._returns, self._shares(), force=force)
        self._next_refresh = time.perf_counter() + REFRESH_SECONDS


class _Phases:
    """Seconds per phase, each moment counted for the innermost open phase alone."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def seconds(self) -> dict[str, float]:
        self._settle()
        return dict(self._seconds)

    def load(self, seconds: dict[str, float]) -> None:
        self._seconds = dict(seconds)

    def push(self, name: str) -> None:
        self._settle()
        self._open.append(name)

    def pop(self) -> None:
        self._settle()
        self._open.pop()

    def _settle(self) -> None:
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
        self._since = now


class _Phase:
    """One `with log.phase(name)`; a class, because a generator costs three times as much."""

    def __init__(self, phases: _Phases, name: str) -> None:
        self._phases = phases
        self._name = name

    def __enter__(self) -> None:
        self._phases.push(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._phases.pop()


def _event_writer(folder: RunFolder, seed: int, start_step: int) -> Any:
    """The TensorBoard writer of one seed; events of an earlier attempt at later steps are void."""
    from torch.utils.tensorboard import SummaryWriter  # Slow to import, and only needed here.

    purge_step = (start_step + 1 if start_step else 0) if folder.resuming else None
    return SummaryWriter(str(folder.tensorboard / f"seed_{seed}"), purge_step=purge_step)
