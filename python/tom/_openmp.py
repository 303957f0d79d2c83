"""How long torch's waiting threads spin. To be imported before torch, whose OpenMP reads it once.

A thread of GNU's OpenMP that waits for others spins some 300 000 times before it sleeps, for
milliseconds, in which it takes the processor from the very thread it waits for wherever another
program runs too: two runs side by side on two cores then each take up to sixty times as long. With
10 000 turns nothing is lost where the processors are free, as the pauses between our loops are
shorter than that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPINS = "10000"
_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@contextmanager
def short_waits() -> Iterator[None]:
    """Within it an OpenMP that is loaded for the first time waits shortly, unless the user chose.

    The environment is as before afterwards, so that programs that are started do as they like.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _SETTINGS):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]
