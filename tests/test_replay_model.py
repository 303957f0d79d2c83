"""Random sequences of calls: the buffer and a small NumPy model agree after every step."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tom.replay import ReplayBuffer

WIDTH = 3


class Model:
    """The same contract in NumPy: a list of rows and weights, of which slot k % capacity is k's."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.total = capacity, 0
        self.rows = np.zeros((capacity, WIDTH), np.float32)
        self.weights = np.zeros(capacity)

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def append(self, rows: np.ndarray, weights: np.ndarray) -> int:
        first = self.total % self.capacity
        for row, weight in zip(rows, weights, strict=True):
            self.rows[self.total % self.capacity] = row
            self.weights[self.total % self.capacity] = weight
            self.total += 1
        return first


# Multiples of 1/8: all sums are exact, so the totals can be compared for equality.
WEIGHTS = st.integers(0, 80).map(lambda k: k / 8)


class BufferAndModel(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 70), seed=st.integers(0, 2**63 - 1))
    def create(self, capacity: int, seed: int) -> None:
        self.buffer = ReplayBuffer(capacity, WIDTH, seed)
        self.model = Model(capacity)

    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, self.model.capacity))
        rows = self.model.total + np.arange(n * WIDTH, dtype=np.float32).reshape(n, WIDTH)
        weights = np.array(data.draw(st.lists(WEIGHTS, min_size=n, max_size=n)))
        assert self.buffer.append(rows, weights) == self.model.append(rows, weights)

    @rule(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
    def set_weights(self, data: st.DataObject, dtype: type) -> None:
        n = len(self.model)
        w = np.array(data.draw(st.lists(WEIGHTS, min_size=n, max_size=n)), dtype)
        self.buffer.set_weights(w)
        self.model.weights[:n] = w

    @precondition(lambda self: len(self.model) > 0)
    @rule(data=st.data())
    def update_weights(self, data: st.DataObject) -> None:
        slots = st.integers(0, len(self.model) - 1)
        pairs = data.draw(st.lists(st.tuples(slots, WEIGHTS), max_size=20))
        idx = np.array([slot for slot, _ in pairs], np.int64)
        self.buffer.update_weights(idx, np.array([w for _, w in pairs], np.float64))
        for slot, w in pairs:
            self.model.weights[slot] = w

    @rule()
    def save_and_load(self) -> None:
        other = ReplayBuffer(self.model.capacity, WIDTH)
        other.load_state_dict(self.buffer.state_dict())
        if self.buffer.total_weight > 0:
            assert torch.equal(other.draw(30), self.buffer.draw(30))
        self.buffer = other

    @precondition(lambda self: self.buffer.total_weight > 0)
    @rule(n=st.integers(0, 300), stratified=st.booleans())
    def draw(self, n: int, stratified: bool) -> None:
        idx, rows = self.buffer.sample(n, stratified)
        assert (self.model.weights[idx.numpy()] > 0).all()
        assert np.array_equal(rows.numpy(), self.model.rows[idx.numpy()])
        if stratified:  # draw i lies in the i-th part of the cumulative weights
            ends = np.cumsum(self.model.weights)
            parts = np.arange(n + 1) / max(n, 1) * ends[-1]
            assert (ends[idx.numpy()] >= parts[:-1]).all()
            assert (ends[idx.numpy()] - self.model.weights[idx.numpy()] <= parts[1:]).all()

    @invariant()
    def they_agree(self) -> None:
        buffer, model = self.buffer, self.model
        n = len(model)
        assert len(buffer) == n
        assert buffer.total_appended == model.total
        assert np.array_equal(buffer.rows.numpy(), model.rows[:n])
        assert np.array_equal(buffer.weights.numpy(), model.weights[:n])
        assert buffer.total_weight == model.weights.sum()
        newest = np.arange(model.total - n, model.total) % model.capacity
        assert np.array_equal(buffer.newest(n).numpy(), model.rows[newest])
        assert np.array_equal(np.argsort(buffer.ages.numpy()), newest[::-1])


BufferAndModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
test_the_buffer_and_the_model_agree = BufferAndModel.TestCase
