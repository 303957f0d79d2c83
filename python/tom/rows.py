"""The layout of a transition: one row of float32, `[s | a | s' | r | terminated]`.

Everything that passes between the environment, the replay buffer, the learned models and the
policy is such a row, so that each part reads a slice and nobody copies columns around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowLayout:
    """Where the parts of a transition lie in its row.

    Args:
        observation_size: numbers in a state.
        action_size: numbers in an action.
    """

    observation_size: int
    action_size: int

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 * self.observation_size + self.action_size + 2

    @property
    def observation(self) -> slice:
        """s, the state acted in."""
        return slice(0, self.observation_size)

    @property
    def action(self) -> slice:
        """a, in the environment's own units."""
        return slice(self.observation_size, self.observation_size + self.action_size)

    @property
    def state_action(self) -> slice:
        """(s, a): the dynamics model's and the critics' input."""
        return slice(0, self.observation_size + self.action_size)

    @property
    def next_observation(self) -> slice:
        """s', the true next state, also where the episode ended and the environment was reset."""
        start = self.observation_size + self.action_size
        return slice(start, start + self.observation_size)

    @property
    def transition(self) -> slice:
        """(s, a, s'): the discriminator's input."""
        return slice(0, 2 * self.observation_size + self.action_size)

    @property
    def reward(self) -> int:
        """Column of the reward."""
        return self.width - 2

    @property
    def terminated(self) -> int:
        """Column of the termination flag, 0 or 1; a time limit does not set it."""
        return self.width - 1

    def join(
        self,
        observation: Tensor,
        action: Tensor,
        next_observation: Tensor,
        reward: Tensor,
        terminated: Tensor,
    ) -> Tensor:
        """Rows [..., W] from states [..., O], actions [..., A], rewards and flags [...].

        Raises:
            ValueError: a part that is no tensor of this shape.
        """
        batch = observation.shape[:-1] if isinstance(observation, Tensor) else ("...",)
        states, actions = (*batch, self.observation_size), (*batch, self.action_size)
        for name, part, shape in (
            ("observation", observation, states),
            ("action", action, actions),
            ("next_observation", next_observation, states),
            ("reward", reward, batch),
            ("terminated", terminated, batch),
        ):
            if not isinstance(part, Tensor) or part.shape != shape:
                given = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"{name}: given {given}, allowed is a tensor [{', '.join(map(str, shape))}]"
                )
        flags = terminated.to(observation.dtype)
        parts = [observation, action, next_observation, reward.unsqueeze(-1), flags.unsqueeze(-1)]
        return torch.cat(parts, dim=-1)
