"""Soft actor-critic (Haarnoja et al., 2018) for a stack of seeds, on rows from any source.

Actions are a squashed Gaussian in [−1, 1], mapped linearly to the environment's bounds; entropy is
that of the normalised action, so the target entropy does not depend on the action's units.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tom import kernels
from tom.config import SACConfig
from tom.graphs import StepGraphs
from tom.names import Precision
from tom.native_steps import sac_updates
from tom.networks import Adam, StackedMLP
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class SAC:
    """Actor, twin critics and temperature of S seeds.

    Args:
        layout: the row's layout.
        action_low, action_high: the environment's bounds [A], finite.
        config: its settings.
        discount: γ.
        streams: random streams, one per seed.
        cuda_graphs: on a GPU, make the updates as one CUDA graph.
        fused_kernels: on a GPU, make them by the kernels of `tom.kernels`, where they run.
        precision: of the products between hidden layers.
    """

    def __init__(
        self,
        layout: RowLayout,
        action_low: Tensor,
        action_high: Tensor,
        config: SACConfig,
        discount: float,
        streams: RandomStreams,
        *,
        cuda_graphs: bool = True,
        fused_kernels: bool = True,
        precision: Precision = "fp32",
    ) -> None:
        self.layout, self.config, self.discount = layout, config, discount
        self._streams = streams
        device = streams.device
        self._scale = ((action_high - action_low) / 2).to(device)
        self._center = ((action_high + action_low) / 2).to(device)
        size, actions = layout.observation_size, layout.action_size

        def stack(members: int, inputs: int, outputs: int) -> StackedMLP:
            sizes = (inputs, *config.hidden, outputs)
            return StackedMLP(members, sizes, "relu", streams, precision=precision)

        self.actor = stack(1, size, 2 * actions)
        self.critic = stack(2, size + actions, 1)
        self.target = stack(2, size + actions, 1)
        self.target.flat.copy_(self.critic.flat)
        self.target_entropy = (
            -actions / 2 if config.target_entropy is None else config.target_entropy
        )
        # The temperature is a stack of networks without layers, so that it trains like the others.
        initial = math.log(config.initial_temperature)
        self.temperature = StackedMLP(1, (1,), "relu", streams, extra={"log_alpha": ((), initial)})
        self._actor_adam = Adam(self.actor, config.learning_rate)
        self._critic_adam = Adam(self.critic, config.learning_rate)
        self._temperature_adam = Adam(self.temperature, config.learning_rate)
        adams = (self._actor_adam, self._critic_adam, self._temperature_adam)
        state = [tensor for adam in adams for tensor in adam.trained]
        self._graphs = StepGraphs([*state, self.target.flat], device, enabled=cuda_graphs)
        self._fused = fused_kernels and kernels.unavailable(device) is None

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        """Actions [S, B, A] drawn for observations [S, B, O], in the environment's units."""
        mean, log_std = self._distribution(observations)
        return self._squash(mean + log_std.exp() * self._streams.normal(*mean.shape[1:]))

    @torch.no_grad()
    def act_deterministically(self, observations: Tensor) -> Tensor:
        """The squashed mean action, [S, B, A], for observations [S, B, O]."""
        return self._squash(self._distribution(observations)[0])

    def update(self, batches: Tensor) -> dict[str, Tensor]:
        """One gradient step of critics, actor and temperature on each batch of [G, S, B, W].

        Returns:
            `train/critic_loss`, `train/actor_loss`, `train/ent_coef`, `train/entropy` of the last
            step, each [S].
        """
        updates, _, batch, _ = batches.shape
        noise = self._streams.normal(updates, 2 * batch, self.layout.action_size).transpose(0, 1)
        if self.config.native:
            metrics = self._graphs.take(self._native_updates, batches, noise)
        else:
            for rows, drawn in zip(batches, noise, strict=True):
                metrics = torch.stack(self._update(rows, drawn))
        names = ("critic_loss", "actor_loss", "ent_coef", "entropy")
        return {f"train/{name}": value for name, value in zip(names, metrics, strict=True)}

    def imitate(self, observations: Tensor, unsquashed: Tensor) -> None:
        """One step of the actor up the likelihood of actions [S, B, A] before their tanh."""
        mean, log_std = self._distribution(observations)
        surprise = 0.5 * ((unsquashed - mean) / log_std.exp()).square() + log_std
        self._actor_adam.minimise(surprise.sum(2).mean(1).sum())

    def _native_updates(self, batches: Tensor, noise: Tensor) -> Tensor:
        """All steps in one operator; the last one's metrics [4, S]."""
        return sac_updates(
            batches,
            noise,
            actor=self._actor_adam.trained,
            critic=self._critic_adam.trained,
            temperature=self._temperature_adam.trained,
            target=self.target.flat,
            scale=self._scale,
            center=self._center,
            hidden=self.config.hidden,
            discount=self.discount,
            tau=self.config.tau,
            target_entropy=self.target_entropy,
            learning_rate=self.config.learning_rate,
            log_std_bounds=(LOG_STD_MIN, LOG_STD_MAX),
            precision=self.actor.precision,
            fused=self._fused,
        )

    def _update(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """The step as autograd takes it: what `_native_updates` has to agree with."""
        layout, alpha = self.layout, self._alpha().detach()
        # One actor pass serves s (for the actor's own loss) and s' (for the critics' target).
        observations, next_observations = (
            rows[..., layout.observation],
            rows[..., layout.next_observation],
        )
        both = torch.cat([observations, next_observations], dim=1)
        actions, log_prob = self._sample(both, noise)
        batch = rows.shape[1]
        next_actions, next_log_prob = actions[:, batch:].detach(), log_prob[:, batch:].detach()

        with torch.no_grad():
            following = torch.cat([next_observations, next_actions], dim=-1).unsqueeze(1)
            next_value = self.target(following)[..., 0].amin(1) - alpha * next_log_prob
            go_on = 1 - rows[..., layout.terminated]
            target = rows[..., layout.reward] + self.discount * go_on * next_value
        q = self.critic(rows[..., layout.state_action].unsqueeze(1))[..., 0]
        critic_loss = F.mse_loss(q, target.unsqueeze(1).expand_as(q), reduction="none")
        critic_loss = critic_loss.mean(2).sum(1)
        self._critic_adam.minimise(critic_loss.sum())

        actions, log_prob = actions[:, :batch], log_prob[:, :batch]
        value = self.critic(torch.cat([observations, actions], dim=-1).unsqueeze(1))[..., 0].amin(1)
        actor_loss = (alpha * log_prob - value).mean(1)
        self._actor_adam.minimise(actor_loss.sum())

        entropy = -log_prob.detach().mean(1)
        self._temperature_adam.minimise(
            (self.temperature.extra["log_alpha"][:, 0] * (entropy - self.target_entropy)).sum()
        )
        self.target.flat.lerp_(self.critic.flat, self.config.tau)
        return critic_loss.detach(), actor_loss.detach(), alpha[:, 0], entropy

    def _alpha(self) -> Tensor:
        """Temperature [S, 1]."""
        return self.temperature.extra["log_alpha"].exp()

    def _distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before squashing, each [S, B, A]."""
        mean, log_std = self.actor(observations.unsqueeze(1))[:, 0].chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def _sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparametrised actions [S, B, A] and the normalised action's log-density [S, B]."""
        mean, log_std = self._distribution(observations)
        unsquashed = mean + log_std.exp() * noise
        log_prob = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), which does not underflow for large |u|.
        log_prob = log_prob - 2 * (math.log(2) - unsquashed - F.softplus(-2 * unsquashed))
        return self._squash(unsquashed), log_prob.sum(-1)

    def _squash(self, unsquashed: Tensor) -> Tensor:
        return torch.tanh(unsquashed) * self._scale + self._center

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {"streams": self._streams.state_dict()} | {
            name: part.state_dict() for name, part in self._parts().items()
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._streams.load_state_dict(state["streams"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, StackedMLP | Adam]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "temperature": self.temperature,
            "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam,
            "temperature_adam": self._temperature_adam,
        }
