"""A soft actor-critic update as a single-seed program would write it in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainSAC:
    """The same update as `tom.sac.SAC`, as a single-seed program would write it.

    Args:
        adam: which of PyTorch's implementations: `fused`, `foreach` or `forloop`.
        critic_gradients: whether the actor's loss computes gradients for the critics' weights too,
            which nobody reads.
    """

    def __init__(self, adam: str = "fused", critic_gradients: bool = True) -> None:
        def network(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                nn.Linear(256, outputs),
            )  # fmt: skip

        self.actor = network(11, 6)
        self.critics, self.targets = (nn.ModuleList([network(14, 1) for _ in "12"]) for _ in "12")
        self.targets.load_state_dict(self.critics.state_dict())
        self.log_alpha = torch.zeros(1, requires_grad=True)
        groups = (self.actor.parameters(), self.critics.parameters(), [self.log_alpha])
        self.actor_adam, self.critic_adam, self.alpha_adam = (
            torch.optim.Adam(group, 3e-4, fused=adam == "fused", foreach=adam == "foreach")
            for group in groups
        )
        self.critic_gradients = critic_gradients

    def sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(observations).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        u = normal.rsample()
        correction = 2 * (0.6931472 - u - F.softplus(-2 * u))
        return u.tanh(), (normal.log_prob(u) - correction).sum(-1, keepdim=True)

    def update(self, rows: Tensor) -> None:
        s, a, following, reward, terminated = rows.split([11, 3, 11, 1, 1], -1)
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_action, next_log_prob = self.sample(following)
            x = torch.cat([following, next_action], -1)
            value = torch.minimum(*(target(x) for target in self.targets)) - alpha * next_log_prob
            goal = reward + 0.99 * (1 - terminated) * value
        x = torch.cat([s, a], -1)
        loss = sum(F.mse_loss(critic(x), goal) for critic in self.critics)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        action, log_prob = self.sample(s)
        x = torch.cat([s, action], -1)
        loss = (alpha * log_prob - torch.minimum(*(critic(x) for critic in self.critics))).mean()
        self.actor_adam.zero_grad()
        loss.backward(inputs=None if self.critic_gradients else list(self.actor.parameters()))
        self.actor_adam.step()
        loss = -(self.log_alpha * (log_prob.detach() - 3)).mean()
        self.alpha_adam.zero_grad()
        loss.backward()
        self.alpha_adam.step()
        with torch.no_grad():
            pairs = zip(self.targets.parameters(), self.critics.parameters(), strict=True)
            for target, source in pairs:
                target.lerp_(source, 0.005)
