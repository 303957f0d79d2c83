"""The one line that shows a run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tom.console import say

REFRESH_SECONDS = 0.25
PLAIN_SECONDS = 10.0
SPEED_SECONDS = 60.0


class Progress:
    """Step, return, speed, time left and share of time per phase, on one line.

    Args:
        console: where to write; a live line needs a terminal, else plain lines are printed.
        total: environment steps per seed at the end of the run.
        start_step: environment steps at the beginning.
        period: steps after which the pattern of fast and slow steps repeats (one iteration); the
            speed is averaged over at least two of them.
        begin: the step from which they do. Those before are much faster and say nothing about the
            time left.
    """

    def __init__(
        self, console: Console, total: int, start_step: int, period: int, begin: int = 0
    ) -> None:
        self.console = console
        self._total = total
        self._period, self._begin = period, begin
        self._samples = deque([(time.perf_counter(), start_step)])
        # A colour setting can make rich believe in a terminal; a live line needs a real one.
        live = console.is_interactive and console.file.isatty()
        self._live = Live(console=console, auto_refresh=False) if live else None
        self._printed = time.perf_counter()

    def start(self) -> None:
        """Begin the live line."""
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        """Leave the live line as it is and give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def measure_from(self, step: int) -> None:
        """Forget the speed of the steps before this one."""
        self._samples = deque([(time.perf_counter(), step)])

    def update(
        self,
        step: int,
        returns: Sequence[float] | None,
        phases: Mapping[str, float],
        *,
        force: bool = False,
    ) -> None:
        """Show the state at `step`; on plain output only if `force`, or every ten seconds.

        Args:
            step: environment steps taken per seed.
            returns: `[S]` mean return of each seed's last evaluation; None before the first.
            phases: name → share of the time so far.
            force: print a plain line now.
        """
        now = time.perf_counter()
        self._sample(now, step)
        parts = self._parts(step, returns, phases)
        if self._live is not None:
            # The last columns stay free: a line as wide as the terminal would wrap.
            line = _fit(parts, self.console.width - 1)
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif force or now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self.print("  ".join(parts))

    def print(self, line: str) -> None:
        """Print one plain line, above the live line if there is one."""
        say(self.console, line)

    @property
    def steps_per_second(self) -> float:
        """Recent speed, per seed; nan before anything is known."""
        (then, before), (now, step) = self._samples[0], self._samples[-1]
        return (step - before) / (now - then) if step > before and now > then else math.nan

    def _sample(self, now: float, step: int) -> None:
        samples = self._samples
        samples.append((now, step))
        # Drop what is older than the window, as long as two periods remain.
        while now - samples[1][0] > SPEED_SECONDS and step - samples[1][1] >= 2 * self._period:
            samples.popleft()

    def _parts(
        self, step: int, returns: Sequence[float] | None, phases: Mapping[str, float]
    ) -> list[str]:
        speed = self.steps_per_second
        left = (self._total - step) / speed
        parts = [f"step {_group(step)}/{_group(self._total)}", f"return {_mean_spread(returns)}"]
        if math.isfinite(speed):
            digits = 2 if speed < 10 else 1 if speed < 100 else 0
            parts.append(f"{speed:.{digits}f} steps/s")
            if step > self._begin:
                parts.append(f"{_clock(left)} left")
        largest = sorted(phases.items(), key=lambda item: -item[1])[:4]
        return parts + [f"{name} {share:.0%}" for name, share in largest if share >= 0.01]


def _fit(parts: Sequence[str], width: int) -> str:
    """The parts that fit into `width` columns, the first ones first."""
    line = parts[0]
    for part in parts[1:]:
        if cell_len(f"{line}  {part}") > width:
            break
        line += f"  {part}"
    return line


def _group(number: int) -> str:
    """12345 → 12,345."""
    return f"{number:,}"


def _mean_spread(values: Sequence[float] | None) -> str:
    """The mean over seeds, with their standard deviation (divisor S) if there are several."""
    if not values:
        return "-"
    mean = fmean(values)
    digits = 0 if abs(mean) >= 100 else 1
    spread = math.sqrt(fmean((value - mean) ** 2 for value in values))
    mean = round(mean, digits) + 0.0  # which turns −0 into 0
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def _clock(seconds: float) -> str:
    """Seconds as m:ss, h:mm:ss or 2d 3h."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
