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
    warm_each: bool = False,
    prepare: Callable[[int], object] | None = None,
) -> list[float]:
    """Median seconds of each call, made in turns (A B A B …) so that all meet the same conditions.

    Args:
        calls: what to time.
        rounds: timed calls of each, after a tenth as many untimed ones.
        seconds: stop after this time, though not before ten timed calls of each.
        warm_each: precede every timed call by an untimed one of its own, so that none pays for
            what the others left in the caches.
        prepare: called untimed before each turn with the position of the call in ``calls``.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for round_ in range(rounds + rounds // 10):
        for i, (call, record) in enumerate(zip(calls, times, strict=True)):
            if prepare:
                prepare(i)
            if warm_each:
                call()
            start = time.perf_counter()
            call()
            if round_ >= rounds // 10:
                record.append(time.perf_counter() - start)
        if len(times[-1]) >= 10 and time.perf_counter() > end:
            break
    return [median(record) for record in times]
