"""The model buffer: rows that the policy met in the learned model, oldest overwritten first."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.batching import take, write_ring
from tom.state import State
from tom.streams import RandomStreams


class ModelBuffer:
    """One ring of rows per seed, on the learning device.

    Args:
        capacity: rows kept per seed.
        width: numbers in a row.
        streams: random streams, one per seed.
    """

    def __init__(self, capacity: int, width: int, streams: RandomStreams) -> None:
        seeds = len(streams.generators)
        self.capacity = capacity
        self._streams = streams
        self._rows = torch.zeros(seeds, capacity, width, device=streams.device)
        self._appended = [0] * seeds

    def __len__(self) -> int:
        """Rows that every seed has at least."""
        return min(min(n, self.capacity) for n in self._appended)

    def extend(self, rows: list[Tensor]) -> None:
        """Add each seed's rows, S tensors [n_s, W] with n_s ≤ capacity."""
        for s, new in enumerate(rows):
            write_ring(self._rows[s], new, self._appended[s] % self.capacity)
            self._appended[s] += len(new)

    def resize(self, capacity: int) -> None:
        """Keep `capacity` rows per seed from now on: of those there are, the newest."""
        if capacity == self.capacity:
            return
        rows = self._rows.new_zeros(len(self._rows), capacity, self._rows.shape[-1])
        for s, appended in enumerate(self._appended):
            kept = min(appended, self.capacity, capacity)
            slots = torch.arange(appended - kept, appended, device=rows.device) % self.capacity
            torch.index_select(self._rows[s], 0, slots, out=rows[s, :kept])
            self._appended[s] = kept
        self._rows, self.capacity = rows, capacity

    def sample(self, n: int) -> Tensor:
        """Uniform draws, [S, n, W]."""
        filled = [min(count, self.capacity) for count in self._appended]
        return take(self._rows, self._streams.integers(filled, n))

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "rows": self._rows.clone(),
            "appended": torch.tensor(self._appended),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._rows = state["rows"].to(self._rows.device, copy=True)
        self.capacity = self._rows.shape[1]
        self._appended = state["appended"].tolist()
        self._streams.load_state_dict(state["streams"])
