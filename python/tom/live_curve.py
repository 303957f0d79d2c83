"""The learning curve of a run that goes on, drawn again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from tom.plots import plot_returns
from tom.user_code import describe

SECONDS = 60.0
"""Between two drawings, each of which takes about one."""


class LiveCurve:
    """Keeps `plots/returns.png` of a run folder about a minute behind the evaluations.

    Args:
        run: the run's folder.
        say: called with one line of text if it cannot.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._next = 0.0

    def update(self) -> None:
        """Draw, unless that was just done; to be called after each evaluation.

        What goes wrong is said, and ends the drawing but not the run.
        """
        if time.perf_counter() < self._next:
            return
        try:
            plot_returns(self._run)
            self._next = time.perf_counter() + SECONDS
        except Exception as error:
            self._next = math.inf
            self._say(f"the learning curve cannot be drawn until the end: {describe(error)}")
