"""How all benchmarks compare: in turns within one run, by medians."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median


def alternate(
    *calls: Callable[[], object],
    rounds: int = 100,
    seconds: float = math.inf,
    before_each: Callable[[], object] | None = None,
    in_a_row: int = 1,
) -> list[float]:
    """Median seconds of each call, made in turns (A B A B …) so that all meet the same conditions.

    Args:
        calls: what to time.
        rounds: timed calls of each, after a tenth as many untimed ones.
        seconds: stop after this time, though not before ten timed calls of each.
        before_each: called untimed before every timed call.
        in_a_row: timed calls of each turn, after a quarter as many untimed ones: many find in the
            caches what they would in a loop of their own, not what the others left.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    turns = math.ceil(rounds / in_a_row)
    for turn in range(turns + turns // 10):
        for call, record in zip(calls, times, strict=True):
            for i in range(-(in_a_row // 4), in_a_row):
                if before_each is not None:
                    before_each()
                start = time.perf_counter()
                call()
                if turn >= turns // 10 and i >= 0:
                    record.append(time.perf_counter() - start)
        if len(times[-1]) >= 10 and time.perf_counter() > end:
            break
    return [median(record) for record in times]
