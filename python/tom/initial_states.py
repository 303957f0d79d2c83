"""The first state of every episode: the sample of the initial-state distribution in (22)."""

from __future__ import annotations

import torch
from torch import Tensor

from tom.batching import take
from tom.state import State
from tom.streams import RandomStreams
from tom.transfer import to_device

CAPACITY = 10_000
"""Episodes remembered per seed in a training run."""


class InitialStates:
    """One ring of initial states per seed; `counts` says how many each has been given.

    Args:
        observation_size: O.
        streams: random streams, one per seed.
        capacity: episodes remembered per seed; older ones are overwritten.
    """

    def __init__(
        self, observation_size: int, streams: RandomStreams, capacity: int = CAPACITY
    ) -> None:
        seeds = len(streams.generators)
        self._streams, self.capacity = streams, capacity
        self._states = torch.zeros(seeds, capacity, observation_size, device=streams.device)
        self.counts = [0] * seeds

    def append(self, seed_index: int, observation: Tensor) -> None:
        """Remember the first state [O] of an episode of one seed."""
        slot = self.counts[seed_index] % self.capacity
        self._states[seed_index, slot] = to_device(observation, self._states.device)
        self.counts[seed_index] += 1

    def sample(self, n: int) -> Tensor:
        """Uniform draws with replacement, [S, n, O]."""
        counts = [min(count, self.capacity) for count in self.counts]
        index = self._streams.integers(counts, n)
        return take(self._states, index)

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "states": self._states.clone(),
            "appended": torch.tensor(self.counts),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._states.copy_(state["states"])
        self.counts = state["appended"].tolist()
        self._streams.load_state_dict(state["streams"])
