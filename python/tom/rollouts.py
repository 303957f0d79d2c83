"""Short rollouts of the policy in the learned model, from start states drawn by weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tom.batching import in_chunks
from tom.config import Config
from tom.dual_q import Policy
from tom.dynamics import DynamicsEnsemble
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams
from tom.termination import TerminationRule


def rows_kept(config: Config, length: int) -> int:
    """Capacity of the model buffer in which rows of rollouts this long live as configured."""
    iterations = -(-config.rollout.retain_steps // config.iteration_interval)
    return config.rollout.starts * length * iterations


class ModelRollouts:
    """Rolls the policy out in the model.

    Args:
        layout: the row's layout.
        dynamics: the model.
        terminated: the termination rule, applied to predicted next states.
        streams: random streams, one per seed.
    """

    def __init__(
        self,
        layout: RowLayout,
        dynamics: DynamicsEnsemble,
        terminated: TerminationRule,
        streams: RandomStreams,
    ) -> None:
        self.layout, self.dynamics, self.terminated = layout, dynamics, terminated
        self._streams = streams

    @torch.no_grad()
    def run(self, starts: Tensor, policy: Policy, length: int) -> list[Tensor]:
        """Rows of all steps, one tensor [n_s, W] per seed.

        A trajectory ends where the rule says so; each seed thus gets between n and n · length rows.

        Args:
            starts: start states [S, n, O], in random order: contiguous blocks of them go through
                one elite member each.
            policy: draws actions.
            length: model steps from each start.
        """
        states, alive = starts, torch.ones(starts.shape[:2], dtype=torch.bool, device=starts.device)
        rows: list[list[Tensor]] = [[] for _ in starts]
        for _ in range(length):
            step = in_chunks(lambda s: self._step(s, policy), states)
            for kept, seed_rows, seed_alive in zip(rows, step, alive, strict=True):
                kept.append(seed_rows[seed_alive])
            states = step[..., self.layout.next_observation]
            alive = alive & (step[..., self.layout.terminated] == 0)
        return [torch.cat(parts) for parts in rows]

    def _step(self, states: Tensor, policy: Policy) -> Tensor:
        """One model step for every state: [S, B, O] → rows [S, B, W]."""
        actions = policy(states)
        inputs = torch.cat([states, actions], dim=-1)
        elites = self.dynamics.elites
        blocks = elites.shape[1]
        # A fresh assignment of blocks to members at every call.
        order = torch.argsort(self._streams.uniform(blocks), dim=1)
        members = elites.gather(1, order)
        batch = states.shape[1]
        padded = F.pad(inputs, (0, 0, 0, -batch % blocks)).unflatten(1, (blocks, -1))
        mean, std = self.dynamics.predict(padded, members)
        sample = mean + std * self._streams.normal(*mean.shape[1:])
        sample = sample.flatten(1, 2)[:, :batch]
        next_states = states + sample[..., :-1]
        terminated = self.terminated(next_states.flatten(0, 1)).view(states.shape[:2])
        return self.layout.join(states, actions, next_states, sample[..., -1], terminated)

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {"streams": self._streams.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._streams.load_state_dict(state["streams"])
