"""The dual Q of (22), whose Bellman residual δ gives the importance weights (23).

min_Q (1 − γ) E_{s0, a~π}[Q(s0, a)] + E_D[f*(δ)],
δ = R(s, a, s') + γ V(s') − Q(s, a), V(s) = E_{a~π}[Q(s, a)].

The gradient flows through V(s') too, so there is no target network.

After a terminal row V(s') is the mean of V(s0), as if the next episode followed: 1 − γ means just
that already, a restart at every step. The occupancy of π then has mass 1, and so have the weights:
at the optimum a constant added to Q changes nothing, thus E_D[ξ*] = 1. With V(s') = 0 instead, the
cut, that constant says E_D[ξ* (1 − γ (1 − terminated))] = 1 − γ; short episodes have a mass far
below 1, the χ² weights of terminal rows are small, and the log-mean-exp form of KL, whose weights
always sum to N, has its optimum at infinity (tests/finite/test_termination.py).

The constant moves δ by 1 − γ times itself, so gradient steps learn it last; it is solved for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tom import kernels
from tom.batching import in_chunks
from tom.config import DualQConfig
from tom.divergences import Divergence
from tom.graphs import StepGraphs
from tom.names import Precision
from tom.native_steps import dual_q_steps
from tom.networks import Adam, StackedMLP
from tom.ops import occupancy_weights
from tom.replays import Replays
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams

Policy = Callable[[Tensor], Tensor]
"""Sampled actions [S, B, A] for observations [S, B, O]."""

STEPS_TOGETHER = 50
"""Steps whose minibatches are drawn at once."""

START_SAMPLES = 2000
"""Initial states in the estimate of E[V(s0)] behind the weights of the whole buffer."""

BISECTIONS = 40
"""Halvings of the interval for the constant of Q."""


class DualQ:
    """A stack of S ReLU networks; it persists from one iteration to the next.

    Args:
        layout: the row's layout.
        divergence: f.
        config: its settings.
        discount: γ.
        streams: random streams, one per seed.
        cuda_graphs: on a GPU, take the steps as CUDA graphs.
        fused_kernels: on a GPU, take them by the kernels of `tom.kernels`, where they run.
        precision: of the products between hidden layers.
    """

    def __init__(
        self,
        layout: RowLayout,
        divergence: Divergence,
        config: DualQConfig,
        discount: float,
        streams: RandomStreams,
        *,
        cuda_graphs: bool = True,
        fused_kernels: bool = True,
        precision: Precision = "fp32",
    ) -> None:
        self.layout, self.divergence = layout, divergence
        self.config, self.discount = config, discount
        sizes = (layout.observation_size + layout.action_size, *config.hidden, 1)
        self.network = StackedMLP(1, sizes, "relu", streams, precision=precision)
        self.optimizer = Adam(self.network, config.learning_rate)
        self._graphs = StepGraphs(self.optimizer.trained, streams.device, enabled=cuda_graphs)
        self._fused = fused_kernels and kernels.unavailable(streams.device) is None
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
            replays: the buffers.
            rewards: R for each of their rows, the discriminator's logits [S, N].
            initial_states: draws n initial states per seed, [S, n, O].
            policy: draws actions.

        Returns:
            `tom/dual_q_loss`: mean objective, without the L2 penalty, over the last tenth of the
            steps [S].
        """
        config = self.config
        window, losses = max(1, config.steps // 10), []
        for first in range(0, config.steps, STEPS_TOGETHER):
            steps = min(STEPS_TOGETHER, config.steps - first)
            batches = self._batches(steps, replays, rewards, initial_states, policy)
            if config.native:
                losses.append(self._graphs.take(self._native_steps, *batches))
            else:
                losses += [self._step(*batch) for batch in zip(*batches, strict=True)]
        return {"tom/dual_q_loss": torch.cat(losses)[-window:].mean(0)}

    def _batches(
        self,
        steps: int,
        replays: Replays,
        rewards: Tensor,
        initial_states: Callable[[int], Tensor],
        policy: Policy,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What some steps read: inputs [K, S, B + 2 B P, I], R and 1 − terminated [K, S, B].

        The inputs of a step are (s, a), then P actions in each s', then P in each s0. The policy is
        asked once for all steps: it does not change while the dual Q is trained.
        """
        layout, samples = self.layout, self.config.policy_samples
        shape = (steps, self.config.batch_size)
        index, rows = replays.sample_uniform(math.prod(shape))
        start = initial_states(math.prod(shape))
        states = torch.cat([rows[..., layout.next_observation], start], dim=1)
        states = states.repeat_interleave(samples, dim=1)
        sampled = torch.cat([states, in_chunks(policy, states)], dim=-1)
        following, starting = sampled.chunk(2, dim=1)
        parts = [
            part.unflatten(1, (steps, -1))
            for part in (rows[..., layout.state_action], following, starting)
        ]
        inputs = torch.cat(parts, dim=2).transpose(0, 1)
        rewards = rewards.gather(1, index).unflatten(1, shape).transpose(0, 1)
        go_on = (1 - rows[..., layout.terminated]).unflatten(1, shape).transpose(0, 1)
        return inputs, rewards, go_on

    def _native_steps(self, inputs: Tensor, rewards: Tensor, go_on: Tensor) -> Tensor:
        """The steps in one operator; each one's objective, [K, S]."""
        config, quadratic = self.config, self.config.conjugate == "quadratic"
        delta, start_value = dual_q_steps(
            inputs,
            rewards,
            go_on,
            network=self.optimizer.trained,
            hidden=config.hidden,
            samples=config.policy_samples,
            divergence=self.divergence.name,
            quadratic=quadratic,
            restart=config.after_termination == "restart",
            discount=self.discount,
            learning_rate=config.learning_rate,
            l2=config.l2,
            precision=self.network.precision,
            fused=self._fused,
        )
        dual_loss = self.divergence.dual_loss(delta, quadratic=quadratic)
        return (1 - self.discount) * start_value + dual_loss

    def _step(self, inputs: Tensor, rewards: Tensor, go_on: Tensor) -> Tensor:
        """A step as autograd takes it, which the native ones agree with; its objective [1, S]."""
        q, next_value, start_value = self._evaluate(inputs, rewards.shape[1])
        start_value = start_value.mean(1, keepdim=True)
        delta = rewards + self.discount * self._following(next_value, start_value, go_on) - q
        loss = (1 - self.discount) * start_value[:, 0] + self.divergence.dual_loss(
            delta, quadratic=self.config.conjugate == "quadratic"
        )
        decay = sum((w.square().sum() for w in self.network.weights), torch.zeros(()))
        self.optimizer.minimise(loss.sum() + self.config.l2 * decay)
        return loss.detach().unsqueeze(0)

    @torch.no_grad()
    def residuals(
        self,
        rows: Tensor,
        rewards: Tensor,
        initial_states: Callable[[int], Tensor],
        policy: Policy,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """δ of the buffer's rows after the constant of Q has been settled.

        Args:
            rows: all rows [S, N, W].
            rewards: R of each, [S, N].
            initial_states: draws n initial states per seed, [S, n, O].
            policy: draws actions.

        Returns:
            δ [S, N], and `tom/flow_balance` = E_D[ξ* (1 − γ c)] / (1 − γ) before the constant was
            settled [S], where c = 1 − terminated under the cut and 1 under the restart: 1 at the
            optimum of (22). (With the quadratic conjugate the ξ* in it may be negative.) It is left
            out for KL, whose weights have a mean of 1 wherever Q is.
        """
        start_value = self._start_value(initial_states, policy)
        delta = in_chunks(lambda r, x: self._residual(r, x, start_value, policy), rows, rewards)
        leak = 1 - self.discount * self._continues(rows[..., self.layout.terminated])
        if self.divergence.log_mean_exp or self.discount == 1:
            return delta, {}
        metrics = {"tom/flow_balance": self._inflow_ratio(delta, leak)}
        if self.config.settle_constant:
            constant = self._optimal_constant(delta, leak)
            self.network.biases[-1].add_(constant.view(-1, 1, 1))
            delta = delta - constant * leak
        return delta, metrics

    def _residual(
        self, rows: Tensor, rewards: Tensor, start_value: Tensor, policy: Policy
    ) -> Tensor:
        """δ of rows [S, B, W] with rewards R [S, B], [S, B]."""
        layout, samples = self.layout, self.config.policy_samples
        states = rows[..., layout.next_observation].repeat_interleave(samples, dim=1)
        sampled = torch.cat([states, policy(states)], dim=-1)
        inputs = torch.cat([rows[..., layout.state_action], sampled], dim=1)
        q, next_value, _ = self._evaluate(inputs, rows.shape[1])
        following = self._following(next_value, start_value, 1 - rows[..., layout.terminated])
        return rewards + self.discount * following - q

    def _start_value(self, initial_states: Callable[[int], Tensor], policy: Policy) -> Tensor:
        """E_{s0, a~π}[Q(s0, a)] from a sample, [S, 1]."""
        states = initial_states(START_SAMPLES)
        inputs = torch.cat([states, policy(states)], dim=-1)
        return self.network(inputs.unsqueeze(1))[:, 0, :, 0].mean(1, keepdim=True)

    def _following(self, next_value: Tensor, start_value: Tensor, go_on: Tensor) -> Tensor:
        """V(s') with what stands for it after termination, [S, B]."""
        if self.config.after_termination == "cut":
            return go_on * next_value
        return torch.where(go_on > 0, next_value, start_value)

    def _continues(self, terminated: Tensor) -> Tensor:
        """1 where the value of some state follows a row, else 0."""
        cut = self.config.after_termination == "cut"
        return 1 - terminated if cut else torch.ones_like(terminated)

    def _inflow_ratio(self, delta: Tensor, leak: Tensor) -> Tensor:
        """E_D[f*'(δ) leak] / (1 − γ) [S], which falls where a constant is added to Q.

        f* is the conjugate that the steps minimise: of that the constant is to be the optimum.
        """
        if self.config.conjugate == "quadratic" and self.divergence.quadratic_derivative:
            weights = self.divergence.quadratic_derivative(delta)
        else:
            weights, _, _ = occupancy_weights(delta, self.divergence.name)
        return (weights.double() * leak).mean(1) / (1 - self.discount)

    def _optimal_constant(self, delta: Tensor, leak: Tensor) -> Tensor:
        """The c [S, 1] that minimises (22) for Q + c, by bisection: then the inflow ratio is 1."""
        # At the ends all δ − c · leak are at most −4, where every weight is 0, or at least 4, where
        # every weight is well above 1.
        reach = (delta.abs().amax(1, keepdim=True) + 4) / (1 - self.discount)
        low, high = -reach, reach
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = self._inflow_ratio(delta - middle * leak, leak).unsqueeze(1) > 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    def _evaluate(self, inputs: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Q(s, a), V(s') and V(s0) [S, n] each in one pass; the last is empty without any s0."""
        q = self.network(inputs.unsqueeze(1))[:, 0, :, 0]
        values = q[:, n:].unflatten(1, (-1, self.config.policy_samples)).mean(2)
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
