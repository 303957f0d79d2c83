"""Which rows of the replay buffers the dynamics model never learns from."""

from __future__ import annotations

from torch import Tensor

GOLDEN_RATIO = 0.6180339887498949


def held_out_slots(append_numbers: Tensor, share: float, most: int) -> Tensor:
    """Slots of the held-out rows, int64 [H].

    A row's lot is the fractional part of its append number times the golden ratio, which spreads
    any stretch of numbers evenly over [0, 1). Held out are the rows whose lot lies below a limit
    that only falls while the buffer grows: a row may join the training but never leave it, so no
    held-out row has been trained on. (A buffer too small for its share holds out one row.)

    Args:
        append_numbers: how many rows were appended before each, int64 [N], N > 0.
        share: of the rows that are held out.
        most: rows held out, about, however many there are.
    """
    n = len(append_numbers)
    lots = (append_numbers.double() * GOLDEN_RATIO).frac()
    held = (lots < min(share, most / n)).nonzero()[:, 0]
    return held if len(held) else lots.argmin().unsqueeze(0)
