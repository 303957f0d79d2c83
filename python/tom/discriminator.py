"""The discriminator c(s, a, s') of (21) and its logit R(s, a, s') = log c − log(1 − c).

c separates the current policy's transitions from the replay buffer's. With ρ = d_π / d_D and the
label l for the buffer's rows, the optimal c has the logit log((ρ + l) / (1 − l)): the reward log ρ
of the dual problem (22) for l = 0, and bounded below by log(l / (1 − l)) otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tom.batching import take
from tom.config import DiscriminatorConfig
from tom.networks import Adam, StackedMLP
from tom.replays import Replays
from tom.state import State
from tom.streams import RandomStreams


class Discriminator:
    """A stack of S tanh networks on standardised (s, a, s').

    Neither the paper nor the released code standardises; without it the penalty's "norm 1" would
    mean something else for every task's units.

    Args:
        size: numbers in (s, a, s').
        config: its settings.
        streams: random streams, one per seed.
    """

    def __init__(self, size: int, config: DiscriminatorConfig, streams: RandomStreams) -> None:
        self.config = config
        self._streams = streams
        self.network = StackedMLP(1, (size, *config.hidden, 1), "tanh", streams)
        self.optimizer = Adam(self.network, config.learning_rate)
        seeds = self.network.seeds
        self._mean = torch.zeros(seeds, 1, size, device=streams.device)
        self._std = torch.ones(seeds, 1, size, device=streams.device)

    def fit(self, replays: Replays) -> dict[str, Tensor]:
        """Minimise (21) between the newest rows and uniform draws of the whole buffer.

        Returns:
            `tom/discriminator_loss`: mean binary cross-entropy, without the penalty, over the
            last tenth of the steps [S]; `tom/discriminator_accuracy`: share of both last batches
            on the right side of ½ [S].
        """
        config = self.config
        if config.reinitialize:
            self.network.reset()
            self.optimizer.reset()
        self._mean, self._std = replays.standardisation(replays.layout.transition)
        current_rows = replays.newest(config.current_rows)
        window = max(1, config.steps // 10)
        losses = []
        for step in range(config.steps):
            pick = self._streams.integers([config.current_rows] * replays.seeds, config.batch_size)
            current = self._inputs(take(current_rows, pick), replays)
            replay = self._inputs(replays.sample_uniform(config.batch_size)[1], replays)
            logits = self.network(torch.cat([current, replay], dim=1).unsqueeze(1))[:, 0, :, 0]
            labels = torch.cat(
                [
                    torch.ones(config.batch_size, device=logits.device),
                    torch.full((config.batch_size,), config.replay_label, device=logits.device),
                ]
            ).expand_as(logits)
            entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
            loss = entropy
            if config.gradient_penalty > 0:
                loss = entropy + config.gradient_penalty * self._penalty(current, replay)
            self.optimizer.minimise(loss.sum())
            if step >= config.steps - window:
                losses.append(entropy.detach())
        right = torch.cat([logits[:, : config.batch_size] > 0, logits[:, config.batch_size :] < 0])
        return {
            "tom/discriminator_loss": torch.stack(losses).mean(0),
            "tom/discriminator_accuracy": right.float().view(2, replays.seeds, -1).mean((0, 2)),
        }

    @torch.no_grad()
    def reward(self, transitions: Tensor) -> Tensor:
        """R = log c − log(1 − c) [S, B] of transitions [S, B, 2O + A]."""
        x = (transitions - self._mean) / self._std
        return self.network(x.unsqueeze(1))[:, 0, :, 0]

    def _inputs(self, rows: Tensor, replays: Replays) -> Tensor:
        return (rows[..., replays.layout.transition] - self._mean) / self._std

    def _penalty(self, current: Tensor, replay: Tensor) -> Tensor:
        """Mean (‖∇x logit‖ − 1)² over random mixtures of the two batches, [S]."""
        mix = self._streams.uniform(current.shape[1], 1)
        x = (mix * current + (1 - mix) * replay).unsqueeze(1).requires_grad_()
        (slope,) = torch.autograd.grad(self.network(x).sum(), x, create_graph=True)
        # The small constant keeps the gradient of the norm finite where the slope vanishes.
        norm = (slope.square().sum(-1) + 1e-12).sqrt()
        return (norm - 1).square().mean((1, 2))

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": self._streams.state_dict(),
            "mean": self._mean,
            "std": self._std,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._streams.load_state_dict(state["streams"])
        self._mean = state["mean"].to(self._streams.device)
        self._std = state["std"].to(self._streams.device)
