"""The seeds' replay buffers, read and written together.

Each seed has a buffer of its own; all have the same number of rows, because every seed takes every
environment step. What is read has the seed as its first axis and lies on the learning device: on a
GPU the rows do too, and of what is drawn only the slots travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tom.batching import take
from tom.replay import ReplayBuffer
from tom.row_mirror import RowMirror
from tom.rows import RowLayout
from tom.state import State
from tom.transfer import to_device


class Replays:
    """One :class:`ReplayBuffer` per seed.

    Args:
        layout: the row's layout.
        capacity: rows per seed.
        seeds: the runs' seeds.
        device: where rows are read to.
        mirror: keep a copy of all rows there; by default on every device but the CPU. What is read
            is the same either way.
    """

    def __init__(
        self,
        layout: RowLayout,
        capacity: int,
        seeds: Sequence[int],
        device: torch.device,
        *,
        mirror: bool | None = None,
    ) -> None:
        self.layout, self.device = layout, device
        self.buffers = [ReplayBuffer(capacity, layout.width, seed=seed) for seed in seeds]
        mirrored = device.type != "cpu" if mirror is None else mirror
        self._mirror = RowMirror(self.buffers, device) if mirrored else None

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.buffers)

    def __len__(self) -> int:
        """N, rows in each seed's buffer."""
        return len(self.buffers[0])

    @property
    def total_appended(self) -> int:
        """Rows ever appended to each seed's buffer."""
        return self.buffers[0].total_appended

    def append(self, rows: Tensor) -> None:
        """Add one row per seed, [S, W]."""
        for buffer, row in zip(self.buffers, rows, strict=True):
            buffer.append(row.unsqueeze(0))

    def set_weights(self, weights: Tensor) -> None:
        """Replace the weights of all rows, [S, N]."""
        for buffer, values in zip(self.buffers, weights.cpu(), strict=True):
            buffer.set_weights(values)

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Slots int64 [S, n] drawn in proportion to the weights, and their rows [S, n, W]."""
        if self._mirror is not None:
            return self._take([buffer.draw(n) for buffer in self.buffers])
        return self._collect(n, lambda buffer, out: buffer.sample(n, out=out))

    def sample_uniform(self, n: int) -> tuple[Tensor, Tensor]:
        """Slots int64 [S, n] drawn uniformly whatever the weights, and their rows [S, n, W]."""
        if self._mirror is not None:
            return self._take([buffer.draw_uniform(n) for buffer in self.buffers])
        return self._collect(n, lambda buffer, out: buffer.sample_uniform(n, out=out))

    def newest(self, n: int) -> Tensor:
        """The newest n rows, oldest first, [S, n, W]."""
        if self._mirror is not None:
            return self._take([buffer.newest_indices(n) for buffer in self.buffers])[1]
        return torch.stack([buffer.newest(n) for buffer in self.buffers]).to(self.device)

    def rows(self) -> Tensor:
        """All rows in slot order, [S, N, W]; a view without a copy if mirrored or of one seed."""
        if self._mirror is not None:
            return self._mirror.rows()
        views = [buffer.rows for buffer in self.buffers]
        rows = views[0].unsqueeze(0) if len(views) == 1 else torch.stack(views)
        return rows.to(self.device)

    def ages(self) -> Tensor:
        """Age of every row in environment steps, 0 for the newest, int64 [S, N]."""
        return to_device(torch.stack([buffer.ages for buffer in self.buffers]), self.device)

    def standardisation(self, columns: slice) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of some columns over all rows, each [S, 1, C].

        A constant column gets a standard deviation of 1, so that it stays finite.
        """
        std, mean = torch.std_mean(self.rows()[..., columns], dim=1, keepdim=True, correction=0)
        return mean, torch.where(std > 1e-6, std, 1.0)

    def _collect(
        self, n: int, read: Callable[[ReplayBuffer, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        rows = torch.empty(self.seeds, n, self.layout.width)
        slots = [read(buffer, part)[0] for buffer, part in zip(self.buffers, rows, strict=True)]
        return torch.stack(slots).to(self.device), rows.to(self.device)

    def _take(self, slots: list[Tensor]) -> tuple[Tensor, Tensor]:
        assert self._mirror is not None
        index = to_device(torch.stack(slots), self.device)
        return index, take(self._mirror.rows(), index)

    def state_dict(self) -> State:
        """The buffers' states, stacked along the seed."""
        states = [buffer.state_dict() for buffer in self.buffers]
        return {name: torch.stack([s[name] for s in states]) for name in states[0]}

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        for i, buffer in enumerate(self.buffers):
            buffer.load_state_dict({name: value[i] for name, value in state.items()})
        if self._mirror is not None:
            self._mirror.forget()
