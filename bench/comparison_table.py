"""A table of all comparisons at the end of a benchmark run."""

from __future__ import annotations

from statistics import median

import pytest
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Pairs = dict[str, tuple[float, float]]
"""Seconds of ours and of a peer's, timed in turns, by the peer's name."""

ROWS = pytest.StashKey[dict[str, Pairs]]()


def add_row(config: pytest.Config, work: str, pairs: Pairs) -> None:
    """Remember what `work` took us and each peer, if there is one."""
    if pairs:
        config.stash.setdefault(ROWS, {})[work] = pairs


def print_table(config: pytest.Config) -> None:
    """All rows, one column per library; a ratio is of times that were measured in turns."""
    rows = config.stash.get(ROWS, {})
    if not rows:
        return
    # Baselines of one library share a column: its best, which is the hardest to beat.
    libraries = {name.split()[0]: None for pairs in rows.values() for name in pairs}
    table = Table(
        title="Microseconds, and how many times as long as tom", padding=(0, 1), box=SIMPLE
    )
    table.add_column("work", no_wrap=True)
    for column in ("tom", *libraries):
        table.add_column(column, justify="right", no_wrap=True)
    for work, pairs in rows.items():
        ours = median([ours for ours, _ in pairs.values()])
        cells = [f"{1e6 * ours:,.1f}"]
        for library in libraries:
            of = [pair for name, pair in pairs.items() if name.split()[0] == library]
            best = min(of, key=lambda pair: pair[1] / pair[0], default=None)
            cells.append("" if best is None else f"{1e6 * best[1]:,.0f} ({best[1] / best[0]:.1f})")
        table.add_row(work, *cells)
    Console(width=max(120, Console().width)).print(table)
