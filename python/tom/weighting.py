"""Who computes the weights: the only thing that differs between TOM, PMAC and MBPO.

A weighting turns the state of the replay buffers into one weight ≥ 0 per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from tom.batching import in_chunks
from tom.config import Config
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES
from tom.dual_q import DualQ, Policy
from tom.ops import occupancy_weights
from tom.replays import Replays
from tom.rows import RowLayout
from tom.state import State
from tom.streams import RandomStreams
from tom.training_error import TrainingError

InitialStates = Callable[[int], Tensor]
"""Draws n initial states per seed, [S, n, O]."""


class Weighting(Protocol):
    """Computes the weights of one iteration.

    Attributes:
        uniform_share: how much of the uniform weight joins them where they are used, see
            :func:`defensive_mixture`.
    """

    uniform_share: float

    def update(
        self, replays: Replays, initial_states: InitialStates, policy: Policy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights of all rows [S, N] in floating point, and metrics, each [S]."""
        ...

    def state_dict(self) -> State:
        """Everything an exact continuation needs: tensors [S, ...], or dictionaries of them."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        ...


class UniformWeighting:
    """MBPO: every row counts the same."""

    uniform_share = 0.0

    def update(
        self, replays: Replays, initial_states: InitialStates, policy: Policy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All ones."""
        return torch.ones(replays.seeds, len(replays), device=replays.device), {}

    def state_dict(self) -> State:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Nothing to restore."""


class RecencyWeighting:
    """PMAC: each new policy's transitions take mass 1 − d, all older ones are scaled by d.

    The policy changes at every environment step after the exploration, so each later row is one
    policy's; the exploration rows are one policy's together and share its mass evenly.

    Args:
        decay: d.
        exploration_steps: rows of the exploration policy.
    """

    uniform_share = 0.0

    def __init__(self, decay: float, exploration_steps: int) -> None:
        self.decay, self.exploration_steps = decay, exploration_steps

    def update(
        self, replays: Replays, initial_states: InitialStates, policy: Policy
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights by age, with mean 1 over the rows that are still in the buffer."""
        total = replays.total_appended
        policies = max(0, total - self.exploration_steps)
        ages = replays.ages()
        # Mass of the row's policy, then divided among that policy's rows.
        mass = torch.where(ages < policies, 1 - self.decay, 1 / min(total, self.exploration_steps))
        weights = mass.double() * self.decay ** ages.clamp(max=policies).double()
        return weights / weights.mean(1, keepdim=True), {}

    def state_dict(self) -> State:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Nothing to restore."""


class OccupancyWeighting:
    """TOM: ξ* = f*'(δ), the density ratio of the current policy's transitions to the buffer's.

    Args:
        layout: the row's layout.
        config: the run's settings.
        seeds: the runs' seeds.
        device: where the networks live.
    """

    def __init__(
        self, layout: RowLayout, config: Config, seeds: list[int], device: torch.device
    ) -> None:
        self.layout = layout
        self.current_rows = config.discriminator.current_rows
        self.exploration_steps = config.exploration_steps
        self.max_weight = config.weights.max_weight
        self.uniform_share = config.weights.uniform_share
        self.divergence = config.divergence
        self.discriminator = Discriminator(
            layout.transition.stop,
            config.discriminator,
            RandomStreams(seeds, "discriminator", device),
            cuda_graphs=config.cuda_graphs,
            precision=config.precision,
        )
        self.dual_q = DualQ(
            layout,
            DIVERGENCES[config.divergence],
            config.dual_q,
            config.discount,
            RandomStreams(seeds, "dual_q", device),
            cuda_graphs=config.cuda_graphs,
            fused_kernels=config.fused_kernels,
            precision=config.precision,
        )

    def update(
        self,
        replays: Replays,
        initial_states: InitialStates,
        policy: Policy,
        current: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Fit discriminator and dual Q, then weigh every row.

        `current` are rows of the policy [S, n, W]; left out, they are the newest of the buffers.
        Until there are as many that no exploration has made, the weights are uniform. Raises
        TrainingError if the networks have diverged.

        Among the metrics, `tom/flow_balance` is E_D[ξ*] as the gradient steps left it, before the
        constant of Q is settled and weights are clipped: 1 at the optimum of (22), so it says how
        far the dual Q was from converged. (With `dual_q.after_termination cut` it is
        E_D[ξ* (1 − γ (1 − terminated))] / (1 − γ), of which the same is true. KL has none: its
        weights have a mean of 1 wherever Q is.)
        """
        own = min(len(replays), replays.total_appended - self.exploration_steps)
        if current is None and own < self.current_rows:
            return UniformWeighting().update(replays, initial_states, policy)
        metrics = self.discriminator.fit(replays, current)
        rows = replays.rows()
        transitions = rows[..., self.layout.transition]
        rewards = in_chunks(self.discriminator.reward, transitions)
        metrics |= self.dual_q.fit(replays, rewards, initial_states, policy)
        delta, balance = self.dual_q.residuals(rows, rewards, initial_states, policy)
        metrics |= balance
        weights, _, clipped = occupancy_weights(delta, self.divergence, self.max_weight)
        metrics["tom/clip_fraction"] = clipped
        if not weights.isfinite().all():
            raise TrainingError(
                "the weights are not finite numbers any more: discriminator or dual Q has "
                "diverged; try smaller learning rates"
            )
        # Before the dual Q has settled, δ can lie below the threshold everywhere, for one seed or
        # all; such a seed falls back to uniform weights for this iteration.
        empty = weights.sum(1, keepdim=True) <= 0
        metrics["tom/fallback"] = empty[:, 0].float()
        return torch.where(empty, torch.ones_like(weights), weights), metrics

    def state_dict(self) -> State:
        """Everything an exact continuation needs."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "dual_q": self.dual_q.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.dual_q.load_state_dict(state["dual_q"])


def defensive_mixture(weights: Tensor, share: float) -> Tensor:
    """(1 − u) w + u for weights [S, N] scaled to mean 1 and u = `share`, [S, N].

    No row is then left out, and none counts less than u times its share of the buffer (Hesterberg,
    "Weighted average importance sampling and defensive mixture distributions", 1995).
    """
    if share == 0:
        return weights
    return (1 - share) * weights / weights.mean(1, keepdim=True) + share


def effective_sample_size(weights: Tensor) -> Tensor:
    """(Σw)²/Σw² [S] of weights [S, N], between 1 and N."""
    return cast(Tensor, torch.ops.tom.effective_sample_size(weights.double()))


def weight_metrics(weights: Tensor, ages: Tensor, current_rows: int) -> dict[str, Tensor]:
    """What the weights look like, whoever computed them; each [S].

    Args:
        weights: [S, N], before any uniform share.
        ages: [S, N], 0 for the newest row.
        current_rows: how many of the newest rows count as the current policy's.

    Returns:
        `tom/ess`, their effective sample size; `tom/weight_mean` over all rows;
        `tom/weight_newest` and `tom/weight_rest`, means over the newest `current_rows`
        and over all others; `tom/weight_oldest`, mean over the oldest `current_rows`;
        `tom/zero_fraction`; `tom/weight_p99`, the 99th percentile.
    """
    weights = weights.double()
    newest = (ages < current_rows).double()
    oldest = (ages >= ages.amax(1, keepdim=True) + 1 - current_rows).double()

    def mean_over(mask: Tensor) -> Tensor:
        return (weights * mask).sum(1) / mask.sum(1)  # nan of no rows

    rank = max(1, int(0.99 * weights.shape[1]))
    return {
        "tom/ess": effective_sample_size(weights),
        "tom/weight_mean": weights.mean(1),
        "tom/weight_newest": mean_over(newest),
        "tom/weight_rest": mean_over(1 - newest),
        "tom/weight_oldest": mean_over(oldest),
        "tom/zero_fraction": (weights == 0).double().mean(1),
        "tom/weight_p99": weights.kthvalue(rank, dim=1).values,
    }
