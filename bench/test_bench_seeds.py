"""What the seed axis costs: one seed beside a plain single-seed program, and k seeds beside k runs.

Every line compares alternating calls within one run: baseline, stack, baseline, ... medians.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timing import alternate
from tom.config import SACConfig
from tom.rows import RowLayout
from tom.sac import SAC
from tom.streams import RandomStreams

ROUNDS = 60
LAYOUT = RowLayout(11, 3)  # Hopper


class PlainSAC:
    """The same update as `tom.sac.SAC`, as a single-seed program would write it."""

    def __init__(self) -> None:
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
            torch.optim.Adam(group, 3e-4, fused=True) for group in groups
        )

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
        loss.backward()
        self.actor_adam.step()
        loss = -(self.log_alpha * (log_prob.detach() - 3)).mean()
        self.alpha_adam.zero_grad()
        loss.backward()
        self.alpha_adam.step()
        with torch.no_grad():
            pairs = zip(self.targets.parameters(), self.critics.parameters(), strict=True)
            for target, source in pairs:
                target.lerp_(source, 0.005)


def _stack(seeds: int) -> Callable[[], object]:
    streams = RandomStreams(range(seeds), "sac", torch.device("cpu"))
    sac = SAC(LAYOUT, -torch.ones(3), torch.ones(3), SACConfig(), 0.99, streams)
    rows = torch.randn(1, seeds, 256, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    return lambda: sac.update(rows)


def test_one_seed_beside_a_plain_program(benchmark, capsys):
    torch.manual_seed(0)
    plain, rows = PlainSAC(), torch.randn(256, LAYOUT.width)
    rows[..., LAYOUT.terminated] = 0
    stack = _stack(1)
    baseline, ours = alternate(lambda: plain.update(rows), stack, rounds=ROUNDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: plain {1e3 * baseline:.2f} ms, "
            f"stack of one seed {1e3 * ours:.2f} ms ({baseline / ours:.2f} x)"
        )
    benchmark(stack)


@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_k_seeds_beside_k_runs(seeds, benchmark, capsys):
    one, several = _stack(1), _stack(seeds)
    baseline, ours = alternate(one, several, rounds=ROUNDS)
    with capsys.disabled():
        print(
            f"\n  SAC update, {torch.get_num_threads()} threads: {seeds} seeds in one stack "
            f"{1e3 * ours:.2f} ms, {seeds} runs of one {1e3 * seeds * baseline:.2f} ms "
            f"({seeds * baseline / ours:.2f} x)"
        )
    benchmark(several)
