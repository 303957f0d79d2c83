"""Settings of the whole process, made once by the command and not by importing the library."""

from __future__ import annotations

import ctypes
import os

import torch

DEFAULT_THREADS = 4
"""Networks this small gain nothing from more."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 28


def use_threads(requested: int) -> int:
    """Set the number of torch's threads and return it: as requested, or for 0 the default.

    The default is what OMP_NUM_THREADS says, as for every program on OpenMP, or else the processors
    that this process may use, at most `DEFAULT_THREADS`.

    torch, its matrix products and the fused kernels share one OpenMP pool of that size. The
    simulator has a pool of its own, of the same size at most; its threads sleep while the networks
    are trained, and torch's wait while the simulator steps, so that the two never compete.
    """
    threads = requested or _openmp_threads()
    threads = threads or min(DEFAULT_THREADS, len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    return threads


def _openmp_threads() -> int:
    """OMP_NUM_THREADS, of which the first number counts; 0 where it is not set or none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, where it is glibc.

    By default it returns the top of the heap to the system after each training step and has it
    zeroed again for the next, which takes 7 % of a dual Q step on two threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
