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
) -> list[float]:
    """Median seconds of each call, made in turns (A B A B …) so that all meet the same conditions.

    Args:
        calls: what to time.
        rounds: timed calls of each, after a tenth as many untimed ones.
        seconds: stop after this time, though not before ten timed calls of each.
        before_each: called untimed before every timed call.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for round_ in range(rounds + rounds // 10):
        for call, record in zip(calls, times, strict=True):
            if before_each is not None:
                before_each()
            start = time.perf_counter()
            call()
            if round_ >= rounds // 10:
                record.append(time.perf_counter() - start)
        if len(times[-1]) >= 10 and time.perf_counter() > end:
            break
    return [median(record) for record in times]
