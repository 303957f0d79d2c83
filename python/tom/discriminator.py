"""The discriminator c(s, a, s') of (21) and its logit R(s, a, s') = log c − log(1 − c).

c separates the current policy's transitions from the replay buffer's. With ρ = d_π / d_D and the
label l for the buffer's rows, the optimal c has the logit log((ρ + l) / (1 − l)): the reward log ρ
of the dual problem (22) for l = 0, and bounded below by log(l / (1 − l)) otherwise. On finite MDPs
the network reaches these values without the gradient penalty; with it, more slowly: a slope of 1 is
asked for before the data have said in which direction (tests/finite/test_convergence.py).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tom.batching import take
from tom.config import DiscriminatorConfig
from tom.graphs import StepGraphs
from tom.names import Precision
from tom.native_steps import discriminator_steps
from tom.networks import Adam, StackedMLP
from tom.replays import Replays
from tom.state import State
from tom.streams import RandomStreams

STEPS_TOGETHER = 100
"""Steps taken in one native call, and so in one CUDA graph, which takes time and memory to make."""


class Discriminator:
    """A stack of S tanh networks on standardised (s, a, s').

    Neither the paper nor the released code standardises; without it the penalty's "norm 1" would
    mean something else for every task's units.

    Args:
        size: numbers in (s, a, s').
        config: its settings.
        streams: random streams, one per seed.
        cuda_graphs: on a GPU, take the steps as one CUDA graph.
        precision: of the products between hidden layers.
    """

    def __init__(
        self,
        size: int,
        config: DiscriminatorConfig,
        streams: RandomStreams,
        *,
        cuda_graphs: bool = True,
        precision: Precision = "fp32",
    ) -> None:
        self.config = config
        self._streams = streams
        self.network = StackedMLP(
            1, (size, *config.hidden, 1), "tanh", streams, precision=precision
        )
        self.optimizer = Adam(self.network, config.learning_rate)
        self._graphs = StepGraphs(self.optimizer.trained, streams.device, enabled=cuda_graphs)
        seeds = self.network.seeds
        self._mean = torch.zeros(seeds, 1, size, device=streams.device)
        self._std = torch.ones(seeds, 1, size, device=streams.device)

    def fit(self, replays: Replays, current: Tensor | None = None) -> dict[str, Tensor]:
        """Minimise (21) between the current policy's rows and uniform draws of the whole buffer.

        Args:
            replays: the buffers.
            current: rows of the current policy [S, n, W]; left out, the newest of the buffers.

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
        if current is None:
            current = replays.newest(config.current_rows)
        batches = self._batches(replays, current)
        if config.native:
            parts = zip(*(batch.split(STEPS_TOGETHER) for batch in batches), strict=True)
            logits = torch.cat([self._graphs.take(self._native_steps, *part) for part in parts])
        else:
            logits = self._steps(*batches)
        last = logits[-max(1, config.steps // 10) :]
        of_current, of_replay = logits[-1].chunk(2, dim=1)
        right = torch.cat([of_current > 0, of_replay < 0], dim=1)
        return {
            "tom/discriminator_loss": self._entropy(last).mean(0),
            "tom/discriminator_accuracy": right.float().mean(1),
        }

    @torch.no_grad()
    def reward(self, transitions: Tensor) -> Tensor:
        """R = log c − log(1 − c) [S, B] of transitions [S, B, 2O + A]."""
        x = (transitions - self._mean) / self._std
        return self.network(x.unsqueeze(1))[:, 0, :, 0]

    def _batches(self, replays: Replays, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What all steps read: current and replay rows [K, S, B, I], mixing shares [K, S, B, 1]."""
        config = self.config
        shape = (config.steps, config.batch_size)
        n = math.prod(shape)
        pick = self._streams.integers([current.shape[1]] * replays.seeds, n)
        current = take(current, pick)
        parts = (
            self._inputs(current, replays),
            self._inputs(replays.sample_uniform(n)[1], replays),
            self._streams.uniform(n, 1),
        )
        a, b, c = (part.unflatten(1, shape).transpose(0, 1) for part in parts)
        return a, b, c

    def _native_steps(self, current: Tensor, replay: Tensor, mix: Tensor) -> Tensor:
        """All steps in one operator; the logits before each, [K, S, 2B]."""
        config = self.config
        return discriminator_steps(
            current,
            replay,
            mix,
            network=self.optimizer.trained,
            hidden=config.hidden,
            replay_label=config.replay_label,
            gradient_penalty=config.gradient_penalty,
            learning_rate=config.learning_rate,
            precision=self.network.precision,
        )

    def _steps(self, current: Tensor, replay: Tensor, mix: Tensor) -> Tensor:
        """The steps as autograd takes them, which the native ones agree with."""
        all_logits = []
        for batch in zip(current, replay, mix, strict=True):
            logits = self.network(torch.cat(batch[:2], dim=1).unsqueeze(1))[:, 0, :, 0]
            loss = self._entropy(logits)
            if self.config.gradient_penalty > 0:
                loss = loss + self.config.gradient_penalty * self._penalty(*batch)
            self.optimizer.minimise(loss.sum())
            all_logits.append(logits.detach())
        return torch.stack(all_logits)

    def _entropy(self, logits: Tensor) -> Tensor:
        """Mean binary cross-entropy of logits [..., 2B], current rows first: [...]."""
        half = logits.shape[-1] // 2
        labels = torch.ones_like(logits)
        labels[..., half:] = self.config.replay_label
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)

    def _inputs(self, rows: Tensor, replays: Replays) -> Tensor:
        return (rows[..., replays.layout.transition] - self._mean) / self._std

    def _penalty(self, current: Tensor, replay: Tensor, mix: Tensor) -> Tensor:
        """Mean (‖∇x logit‖ − 1)² over mixtures of the two batches, [S]."""
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
