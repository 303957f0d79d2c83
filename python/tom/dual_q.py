"""The dual Q of (22), whose Bellman residual δ gives the importance weights (23).

min_Q (1 − γ) E_{s0, a~π}[Q(s0, a)] + E_D[f*(δ)],
δ = R(s, a, s') + γ (1 − terminated) V(s') − Q(s, a), V(s) = E_{a~π}[Q(s, a)].

The gradient flows through V(s') too, so there is no target network.

At the optimum a constant added to Q changes nothing, so E_D[ξ* (1 − γ (1 − terminated))] = 1 − γ,
and E_D[ξ*] = 1 where no episode terminates. Where some do, d_π has less mass than 1 under this flow
and little of it is left for terminal rows: the χ² weights of those are small, and the log-mean-exp
form of KL, whose weights always sum to N, has its optimum at infinity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tom.config import DualQConfig
from tom.divergences import Divergence
from tom.networks import Adam, StackedMLP
from tom.replays import Replays
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams

Policy = Callable[[Tensor], Tensor]
"""Sampled actions [S, B, A] for observations [S, B, O]."""


class DualQ:
    """A stack of S ReLU networks; it persists from one iteration to the next.

    Args:
        layout: the row's layout.
        divergence: f.
        config: its settings.
        discount: γ.
        streams: random streams, one per seed.
    """

    def __init__(
        self,
        layout: RowLayout,
        divergence: Divergence,
        config: DualQConfig,
        discount: float,
        streams: RandomStreams,
    ) -> None:
        self.layout, self.divergence = layout, divergence
        self.config, self.discount = config, discount
        sizes = (layout.observation_size + layout.action_size, *config.hidden, 1)
        self.network = StackedMLP(1, sizes, "relu", streams)
        self.optimizer = Adam(self.network, config.learning_rate)
        self._streams = streams

    def fit(
        self,
        replays: Replays,
        rewards: Tensor,
        initial_states: Callable[[int], Tensor],
        policy: Policy,
    ) -> dict[str, Tensor]:
        """Minimise (22) on uniform minibatches of the buffer.

        Args:
            replays: the buffers; `rewards` is R for each of their rows, [S, N].
            rewards: the discriminator's logits.
            initial_states: draws n initial states per seed, [S, n, O].
            policy: draws actions.

        Returns:
            `tom/dual_q_loss`: mean objective, without the L2 penalty, over the last tenth of the
            steps [S].
        """
        config = self.config
        window, losses = max(1, config.steps // 10), []
        for step in range(config.steps):
            index, batch = replays.sample_uniform(config.batch_size)
            start = initial_states(config.batch_size)
            q, next_value, start_value = self._evaluate(batch, start, policy)
            delta = self._delta(batch, rewards.gather(1, index), q, next_value)
            loss = (1 - self.discount) * start_value.mean(1) + self.divergence.dual_loss(
                delta, quadratic=config.conjugate == "quadratic"
            )
            decay = sum((w.square().sum() for w in self.network.weights), torch.zeros(()))
            self.optimizer.minimise(loss.sum() + config.l2 * decay)
            if step >= config.steps - window:
                losses.append(loss.detach())
        return {"tom/dual_q_loss": torch.stack(losses).mean(0)}

    @torch.no_grad()
    def residual(self, rows: Tensor, rewards: Tensor, policy: Policy) -> Tensor:
        """δ of rows [S, B, W] with rewards R [S, B], [S, B]."""
        q, next_value, _ = self._evaluate(rows, None, policy)
        return self._delta(rows, rewards, q, next_value)

    def _delta(self, rows: Tensor, rewards: Tensor, q: Tensor, next_value: Tensor) -> Tensor:
        go_on = 1 - rows[..., self.layout.terminated]
        return rewards + self.discount * go_on * next_value - q

    def _evaluate(
        self, rows: Tensor, start: Tensor | None, policy: Policy
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Q(s, a), V(s') and V(s0) in one pass of the network, each [S, B]."""
        layout, samples, n = self.layout, self.config.policy_samples, rows.shape[1]
        states = rows[..., layout.next_observation]
        if start is not None:
            states = torch.cat([states, start], dim=1)
        states = states.repeat_interleave(samples, dim=1)
        sampled = torch.cat([states, policy(states)], dim=-1)
        inputs = torch.cat([rows[..., layout.state_action], sampled], dim=1)
        q = self.network(inputs.unsqueeze(1))[:, 0, :, 0]
        values = q[:, n:].unflatten(1, (-1, samples)).mean(2)
        return q[:, :n], values[:, :n], values[:, n:]

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._streams.load_state_dict(state["streams"])
