"""A replay buffer that draws rows in proportion to their weights, exactly and without locks.

The work is done in C++ (``cpp/replay``); its header states what each method guarantees when other
threads call the buffer at the same time. It takes tensors and arrays as they are, and makes the
tensors that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.graph import increment_version

from tom._libraries import _native

Array = torch.Tensor | npt.NDArray[np.generic]

_native.learn_tensor_type(torch.Tensor)

_STATE_VERSION = 1
_COUNTERS = ("version", "capacity", "width", "total_appended", "seed", "calls")


class ReplayBuffer:
    """The newest ``capacity`` rows of float32 ``[width]``, each with a weight w ≥ 0.

    :meth:`draw` picks row i with probability w_i / Σw. Weights are kept and summed in float64 and
    uniforms have 53 bits, so the probabilities are exact to rounding, and a row of weight 0 is
    never drawn. A weight below 2.2e-308, the smallest normal float64, counts as 0.

    The buffer serves two uses: replacing all weights and then drawing many rows
    (:meth:`set_weights`, Transition Occupancy Matching), and changing a few weights between small
    draws (:meth:`update_weights`, prioritized experience replay).

    Any number of threads may call any method at the same time, except :meth:`load_state_dict`. No
    call takes a lock, or holds the GIL longer than it takes to check its arguments. A row is
    addressed by its slot, 0 to ``len(self) - 1``; once the buffer is full, each new row takes the
    slot of the oldest one.

    Draws come from Philox2x64-10 with the counter (draw, call) under the key ``seed``: the k-th
    call that draws returns the same rows whatever thread makes it, and after saving and loading.

    Args:
        capacity: the number of rows to keep, at least 1.
        width: the number of float32 values in a row, at least 1.
        seed: the key of the random stream, 0 ≤ seed < 2^63.

    Raises:
        TypeError: if an argument is not an int.
        ValueError: if an argument is out of its range.
        MemoryError: if so many rows do not fit into memory.
    """

    def __init__(self, capacity: int, width: int, seed: int = 0) -> None:
        capacity = _integer("capacity", capacity, 1, 2**40)
        width = _integer("width", width, 1, 2**20)
        seed = _integer("seed", seed, 0, 2**63 - 1)
        if capacity * width > 2**44:
            raise ValueError(
                f"capacity {capacity} times width {width} is more than 2^44; make one smaller"
            )
        try:
            self._buffer = _native.ReplayBuffer(capacity, width, seed)
        except MemoryError:
            raise MemoryError(
                f"capacity {capacity} times width {width} takes {capacity * width / 2**28:,.1f} "
                f"GiB, which this machine does not have; make one smaller"
            ) from None

    @property
    def capacity(self) -> int:
        """The number of rows that the buffer keeps."""
        return self._buffer.capacity

    @property
    def width(self) -> int:
        """The number of values in a row, W."""
        return self._buffer.width

    @property
    def seed(self) -> int:
        """The key of the random stream."""
        return self._buffer.seed

    @property
    def total_appended(self) -> int:
        """The number of rows ever appended."""
        return self._buffer.total_appended

    def __len__(self) -> int:
        """The number of rows in the buffer."""
        return len(self._buffer)

    def __repr__(self) -> str:
        return (
            f"ReplayBuffer(capacity={self.capacity}, width={self.width}, seed={self.seed}) "
            f"with {len(self)} rows"
        )

    def append(self, rows: Array, weight: Array | float | None = None) -> int:
        """Append rows and return the slot of the first; the others follow it, modulo ``capacity``.

        The rows of one call are neighbours whatever other threads append.

        Args:
            rows: float32 ``[n, W]``, contiguous, n ≤ ``capacity``.
            weight: ``[n]`` float32 or float64, or one number for all. The default, 1, is the
                mean of optimal importance weights.

        Raises:
            TypeError: if an argument is not an array or has another dtype.
            ValueError: if a shape does not fit, or a weight is negative or not finite. Nothing has
                been appended then.
        """
        return self._buffer.append(rows, weight)

    def set_weights(self, w: Array, *, allow_newer: bool = False) -> None:
        """Replace all weights at once, in O(len). Concurrent draws see all old or all new ones.

        Args:
            w: ``[len]`` float32 or float64, in slot order.
            allow_newer: let ``w`` be shorter than the buffer. The rows in the slots beyond, which
                other threads appended since ``w`` was computed, keep the weights they have.

        Raises:
            TypeError: if ``w`` is not an array of float32 or float64.
            ValueError: if the length does not fit, or a weight is negative or not finite; the
                message names the first such index, and no weight has changed.
        """
        self._buffer.set_weights(w, allow_newer)

    def update_weights(self, idx: Array, w: Array | float) -> None:
        """Change the weights of some rows, in O(n log len); where a slot repeats, the last counts.

        Args:
            idx: int64 ``[n]`` slots.
            w: ``[n]`` float32 or float64, or one number for all.

        Raises:
            TypeError: if an argument is not an array or has another dtype.
            IndexError: if a slot holds no row.
            ValueError: if a shape does not fit, or a weight is negative or not finite. No weight
                has changed after any of these.
        """
        self._buffer.update_weights(idx, w)

    @property
    def weights(self) -> torch.Tensor:
        """The weights, float64 ``[len]`` in slot order; a copy."""
        return torch.from_numpy(self._buffer.weights())

    def weights_at(self, idx: Array) -> torch.Tensor:
        """The weights of some rows, float64 ``[n]``, in O(n).

        Args:
            idx: int64 ``[n]``, slots that hold a row.

        Raises:
            IndexError: if a slot holds no row.
        """
        return torch.from_numpy(self._buffer.weights_at(idx))

    @property
    def total_weight(self) -> float:
        """Σw."""
        return self._buffer.total_weight

    @property
    def effective_sample_size(self) -> float:
        """(Σw)² / Σw², between 1 and ``len(self)``; 0.0 if no row has a positive weight."""
        return self._buffer.effective_sample_size()

    def draw(self, n: int, stratified: bool = False) -> torch.Tensor:
        """Draw slots, P(i) = w_i / Σw, independently and with replacement: int64 ``[n]``.

        Args:
            n: how many.
            stratified: draw i from the i-th of n equal parts of Σw instead. Each row's expected
                count is still n w_i / Σw, with less variance; the slots come in the parts' order.

        Raises:
            RuntimeError: if the buffer is empty or all weights are 0.
        """
        return self._buffer.draw(n, stratified)

    def draw_uniform(self, n: int) -> torch.Tensor:
        """Draw slots uniformly whatever their weights, with replacement: int64 ``[n]``.

        Raises:
            RuntimeError: if the buffer is empty.
        """
        return self._buffer.draw_uniform(n)

    def gather(self, idx: Array, out: Array | None = None) -> torch.Tensor:
        """The rows in these slots, float32 ``[n, W]``. No row is ever half old and half new.

        Args:
            idx: int64 ``[n]`` slots.
            out: float32 ``[n, W]`` to write into, and to return.

        Raises:
            IndexError: if a slot holds no row.
            TypeError: if an argument is not an array or has another dtype.
            ValueError: if a shape does not fit.
        """
        if out is None:
            return self._buffer.gather(idx)
        return _written(self._buffer.gather(idx, out))

    def sample(
        self, n: int, stratified: bool = False, out: Array | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`draw` and :meth:`gather` at once: slots int64 ``[n]``, rows float32 ``[n, W]``."""
        if out is None:
            return self._buffer.sample(n, stratified)
        idx, rows = self._buffer.sample(n, stratified, out)
        return idx, _written(rows)

    def sample_uniform(self, n: int, out: Array | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`draw_uniform` and :meth:`gather`: slots int64 ``[n]``, rows float32 ``[n, W]``."""
        if out is None:
            return self._buffer.sample_uniform(n)
        idx, rows = self._buffer.sample_uniform(n, out)
        return idx, _written(rows)

    @property
    def rows(self) -> torch.Tensor:
        """All rows in slot order, float32 ``[len, W]``: a view of the buffer's memory, not a copy.

        It keeps the memory alive. Treat it as read-only. A row that another thread overwrites at
        this moment may be seen half old and half new here; :meth:`gather` never shows that.
        """
        return torch.from_numpy(self._buffer.rows())

    def newest_indices(self, n: int) -> torch.Tensor:
        """The slots of the newest n rows, oldest first: int64 ``[n]``.

        Raises:
            ValueError: if the buffer holds fewer than n rows.
        """
        return self._buffer.newest_indices(n)

    def newest(self, n: int) -> torch.Tensor:
        """A copy of the newest n rows, oldest first: float32 ``[n, W]``.

        A row that is replaced during the call may appear as the one that replaced it.

        Raises:
            ValueError: if the buffer holds fewer than n rows.
        """
        return self._buffer.gather(self._buffer.newest_indices(n))

    @property
    def ages(self) -> torch.Tensor:
        """How many rows were appended after each one: int64 ``[len]`` in slot order, 0 = newest."""
        total = self.total_appended
        size = min(total, self.capacity)
        return (total - 1 - torch.arange(size)) % size if size else torch.arange(0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that later calls depend on, the position of the random stream included.

        Plain tensors: ``rows`` float32 ``[len, W]``, ``weights`` float64 ``[len]``, and int64
        scalars. Call it while no other thread writes, else rows and weights may be of different
        moments.
        """
        counters = (
            _STATE_VERSION,
            self.capacity,
            self.width,
            self.total_appended,
            self.seed,
            self._buffer.calls,
        )
        state = {k: torch.tensor(v) for k, v in zip(_COUNTERS, counters, strict=True)}
        return {"rows": self.rows.clone(), "weights": self.weights, **state}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a buffer of its own, with the state that this one has now."""
        own = {name: value for name, value in vars(self).items() if name != "_buffer"}
        arguments = (type(self), self.capacity, self.width, self.seed, self.state_dict())
        return _restored, arguments, own

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Become the buffer that ``state`` was taken from; its later draws are the same.

        No other thread may use the buffer during this call.

        Raises:
            KeyError: if entries are missing or unknown.
            TypeError: if it is not a dict, or an entry has another dtype.
            ValueError: if the state is of a buffer of another capacity or width, or does not fit
                together. The buffer is unchanged after any of these.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"the state is a {type(state).__name__}; it must be a dict")
        expected = {"rows", "weights", *_COUNTERS}
        if set(state) != expected:
            raise KeyError(
                f"the state has entries {sorted(map(str, state))}; a replay buffer's has "
                f"{sorted(expected)}"
            )
        c = {k: _counter(k, state[k]) for k in _COUNTERS}
        for name, own in (
            ("version", _STATE_VERSION),
            ("capacity", self.capacity),
            ("width", self.width),
        ):
            if c[name] != own:
                raise ValueError(f"the state has {name} {c[name]}; this buffer has {name} {own}")
        self._buffer.restore(
            state["rows"],
            state["weights"],
            c["total_appended"],
            c["seed"],
            c["calls"],
        )


def _integer(name: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; it must be an int")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be between {low} and {high}")
    return int(value)


def _written(out: Array) -> torch.Tensor:
    """The caller's ``out`` as a tensor.

    Autograd is told that it was written, so that it refuses to use the new values for old.
    """
    if not isinstance(out, torch.Tensor):
        return torch.from_numpy(out)
    increment_version(out)
    return out


def _counter(name: str, value: torch.Tensor) -> int:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.int64 or value.ndim != 0:
        raise TypeError(f"{name} is {value!r}; it must be an int64 scalar tensor")
    # More than 2^60 calls or rows are no count of either, and would overflow where they are tags.
    most = 2**63 - 1 if name == "seed" else 2**60
    return _integer(name, int(value), 0, most)


def _restored(
    kind: type[ReplayBuffer], capacity: int, width: int, seed: int, state: dict[str, torch.Tensor]
) -> ReplayBuffer:
    buffer = kind.__new__(kind)
    ReplayBuffer.__init__(buffer, capacity, width, seed)
    buffer.load_state_dict(state)
    return buffer
