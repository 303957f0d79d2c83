"""`metrics.csv`: one row per step and seed, one column per metric, appended as a run goes on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tom.durable import replacing

KEYS = ("step", "seed")


class MetricsTable:
    """The table of a run, open for appending.

    Rows after `start_step` are dropped when it is opened (all rows at 0), and so is a last line
    that a crash cut short: what remains is what a run interrupted at `start_step` had written.
    """

    def __init__(self, path: Path, start_step: int) -> None:
        self._path = path
        rows = [row for row in read(path) if start_step and int(row["step"]) <= start_step]
        # A metric of the dropped rows alone comes back when it is recorded again.
        self._columns = list(KEYS) + [
            name for name in (rows[0] if rows else {}) if name not in KEYS and _any(rows, name)
        ]
        self._rewrite(rows)

    def append(
        self, step: int, seeds: Sequence[int], metrics: Mapping[str, Sequence[float]]
    ) -> None:
        """Write one row per seed; `metrics` has `[S]` values under each name."""
        new = [name for name in metrics if name not in self._columns]
        if new:
            self.close()
            rows = read(self._path)
            self._columns += new
            self._rewrite(rows)
        for i, seed in enumerate(seeds):
            values = {name: repr(values[i]) for name, values in metrics.items()}
            self._writer.writerow({"step": step, "seed": seed, **values})
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rewrite(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Replace the file in one step by the header and `rows`, and open it for appending."""
        with replacing(self._path) as out:
            writer = csv.DictWriter(out, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self._file = self._path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self._columns, restval="")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text, column → value; a last line without its end is left out.

    Raises:
        ValueError: a line that no run has written; the message names it.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    rows, reader = [], csv.DictReader(whole.splitlines())
    for row in reader:
        if not all((row.get(key) or "").isdecimal() for key in KEYS):
            raise ValueError(
                f"{path} is damaged: line {reader.line_num} has no step and seed; remove that line"
            )
        rows.append(row)
    return rows


def _any(rows: Sequence[Mapping[str, str]], name: str) -> bool:
    return any(row[name] for row in rows)
