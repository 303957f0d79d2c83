"""The replay buffers' rows on the learning device, beside those on the host.

The host's buffers remain the truth: they hold the weights, draw the slots and are what is saved.
The mirror only spares the copies of the rows that are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tom.batching import write_ring
from tom.replay import ReplayBuffer
from tom.transfer import to_device


class RowMirror:
    """One tensor [S, capacity, W] on the device; each read first takes over what is new.

    Args:
        buffers: one per seed, of one capacity and width and always with equally many rows.
        device: where the rows are mirrored to.
    """

    def __init__(self, buffers: Sequence[ReplayBuffer], device: torch.device) -> None:
        self._buffers = buffers
        shape = (len(buffers), buffers[0].capacity, buffers[0].width)
        self._rows = torch.empty(shape, device=device)
        self._taken = 0

    def rows(self) -> Tensor:
        """All rows in slot order, [S, N, W]; a view."""
        total, capacity = self._buffers[0].total_appended, self._buffers[0].capacity
        new = min(total - self._taken, capacity)
        if new > 0:
            rows = torch.stack([buffer.newest(new) for buffer in self._buffers])
            # The k-th row ever appended lies in slot k mod capacity.
            write_ring(self._rows, to_device(rows, self._rows.device), (total - new) % capacity)
            self._taken = total
        return self._rows[:, : min(total, capacity)]

    def forget(self) -> None:
        """Take over all rows again at the next read, because the buffers were replaced."""
        self._taken = 0
