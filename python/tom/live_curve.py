"""The learning curve of a run that goes on, drawn again and again."""

from __future__ import annotations

import time
from pathlib import Path

from tom.plots import plot_returns
from tom.training_error import writing

SECONDS = 60.0
"""Between two drawings, each of which takes about one."""


class LiveCurve:
    """Keeps `plots/returns.png` of a run folder about a minute behind the evaluations.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._next = 0.0

    def update(self) -> None:
        """Draw, unless that was just done; to be called after each evaluation.

        Raises:
            TrainingError: the disk refuses.
        """
        if time.perf_counter() >= self._next:
            self.draw()

    def draw(self) -> Path:
        """Draw now; the figure's file.

        Raises:
            TrainingError: the disk refuses.
        """
        with writing("the figures"):
            path = plot_returns(self._run)
        self._next = time.perf_counter() + SECONDS
        return path
