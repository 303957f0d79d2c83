"""Where the time of a run goes: seconds per 1000 environment steps, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table


class Profile:
    """Compares two moments of a run; the first is the end of the exploration, or of a resume."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._elapsed = 0.0
        self._phases: dict[str, float] = {}

    def start(self, step: int, elapsed: float, phases: Mapping[str, float]) -> None:
        """Count from here.

        Args:
            step: environment steps taken.
            elapsed: seconds so far.
            phases: seconds per phase so far.
        """
        self._step, self._elapsed, self._phases = step, elapsed, dict(phases)

    def table(self, step: int, elapsed: float, phases: Mapping[str, float]) -> Table | None:
        """The phases in falling order, then what belongs to none; None before any step."""
        if self._step is None or step <= self._step:
            return None
        thousands = (step - self._step) / 1000
        total = elapsed - self._elapsed
        taken = {name: seconds - self._phases.get(name, 0.0) for name, seconds in phases.items()}
        taken = dict(sorted(taken.items(), key=lambda item: -item[1]))
        taken["rest (loop, logging)"] = total - sum(taken.values())
        table = Table(title=f"steps {self._step:,} to {step:,}")
        table.add_column("phase")
        table.add_column("s per 1000 steps", justify="right")
        table.add_column("share", justify="right")
        for name, seconds in taken.items():
            table.add_row(name, f"{seconds / thousands:.2f}", f"{seconds / total:.1%}")
        table.add_section()
        table.add_row("all", f"{total / thousands:.2f}", "100.0%")
        return table
