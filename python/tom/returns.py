"""The evaluation returns that run folders hold, and those of several seeds on common steps."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tom import metrics
from tom.figures import FloatArray
from tom.run_folder import ALLOWED_RUN, find_folder
from tom.settings import ConfigError
from tom.tasks import Task, find_task

Curve = Mapping[int, float]
"""Step → mean return of the evaluation's episodes."""


@dataclass(frozen=True)
class RunReturns:
    """The evaluations of one run.

    Attributes:
        path: its folder.
        config: its `config.json`. It is not checked, so that runs of other versions can be read.
        rows: the rows of `metrics.csv`, column → text.
        curves: seed → step → mean return; at least one seed with one step.
    """

    path: Path
    config: Mapping[str, Any]
    rows: list[dict[str, str]]
    curves: Mapping[int, Curve]

    @property
    def env(self) -> str:
        """The task."""
        return str(self.config["env"])

    @property
    def task(self) -> Task:
        """The task with its arguments."""
        return find_task(self.env, self.config.get("env_args", ()))

    @property
    def task_text(self) -> str:
        """The task with its arguments, for messages."""
        return " ".join([self.env, *self.config.get("env_args", ())])

    @property
    def algorithm(self) -> str:
        """The algorithm."""
        return str(self.config["algorithm"])


def read_returns(path: Path, given: str) -> RunReturns:
    """The evaluations of a run of `tom.train`, or of that in the sub-folder `sac` of `tom.offline`.

    Args:
        path: the folder.
        given: how messages begin, such as `runs: given runs/x`.

    Raises:
        ConfigError: no such run, one that cannot be read, or one without an evaluation.
    """
    path, allowed = find_folder(path, given), ALLOWED_RUN
    try:
        config = json.loads((path / "config.json").read_text())
        if not all(isinstance(config[name], str) for name in ("env", "algorithm")):
            raise ValueError("config.json names no task or algorithm")
        rows = metrics.read(path / "metrics.csv")
        curves = evaluations(rows)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(f"{given}, which cannot be read ({error}), {allowed}") from error
    if not curves:
        raise ConfigError(f"{given}, which has no evaluation yet, {allowed} with one")
    return RunReturns(path, config, rows, curves)


def evaluations(rows: Collection[Mapping[str, str]]) -> dict[int, dict[int, float]]:
    """Seed → step → mean return, of the rows of a `metrics.csv` that have an evaluation.

    Raises:
        KeyError, TypeError, ValueError: a row is damaged.
    """
    curves: dict[int, dict[int, float]] = {}
    for row in rows:
        if value := row.get("eval/mean_reward"):
            curves.setdefault(int(row["seed"]), {})[int(row["step"])] = float(value)
    return curves


def on_common_steps(curves: Collection[Curve]) -> tuple[FloatArray, FloatArray]:
    """The steps `[T]` that all curves have, and their values there, `[S, T]`.

    With no common step both are empty, `[0]` and `[0, 0]`.
    """
    common = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not common:
        return np.empty(0), np.empty((0, 0))
    return np.array(common, float), np.array([[curve[t] for t in common] for curve in curves])
