"""Finite MDPs as the project's own parts see them: one-hot states and actions in replay buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finite.mdp import MDP, Array, occupancy, random_mdp, random_policy
from helpers import CPU
from tom.divergences import Divergence
from tom.dual_q import DualQ, Policy
from tom.replays import Replays
from tom.rows import RowLayout


@dataclass(frozen=True)
class World:
    """A buffer of an older policy's rows and then the current policy's, and its exact shares.

    Attributes:
        mdp: the MDP.
        policy: the current π.
        index: each row's (s, a, s') in the flat [S A S], oldest first.
        current_rows: how many of the newest are the current policy's.
        data: share of every (s, a, s') among all rows: d_D, [S, A, S].
        current: its share among the current policy's rows.
    """

    mdp: MDP
    policy: Array
    index: npt.NDArray[np.intp]
    current_rows: int
    data: Array
    current: Array

    @property
    def layout(self) -> RowLayout:
        """Rows of one-hot states and actions."""
        return RowLayout(*self.policy.shape)

    def rows(self, index: npt.NDArray[np.intp]) -> Tensor:
        """Rows [N, W] of flat indices into (s, a, s')."""
        s, a, following = np.unravel_index(index, self.data.shape)
        states, actions = (torch.eye(n) for n in self.policy.shape)
        ended = torch.from_numpy(self.mdp.terminal[following])
        reward = torch.zeros(len(index))
        return self.layout.join(states[s], actions[a], states[following], reward, ended)

    def replays(self) -> Replays:
        """One buffer with all rows."""
        replays = Replays(self.layout, len(self.index), [0], CPU)
        replays.buffers[0].append(self.rows(self.index))
        return replays

    def reward(self, label: float) -> Array:
        """The logit of the best discriminator, log((ρ + l) / (1 − l)), where there is data.

        A row that the current policy never took counts as a hundredth of a ratio for l = 0, where
        its logit would be minus infinity.
        """
        ratio = np.divide(self.current, self.data, out=np.ones_like(self.data), where=self.data > 0)
        return np.log((np.maximum(ratio, 0 if label > 0 else 0.01) + label) / (1 - label))

    def initial_states(self) -> Callable[[int], Tensor]:
        """Draws states [1, n, O] from ρ0."""
        start = torch.from_numpy(self.mdp.start).float()
        states = torch.eye(len(start))
        return lambda n: states[torch.multinomial(start, n, replacement=True)].unsqueeze(0)


def make_world(
    seed: int,
    *,
    discount: float = 0.9,
    share: float = 0.25,
    concentration: float = 1.0,
    ending: float = 0.0,
) -> World:
    """4000 i.i.d. rows, of which the newest `share` come from the current policy."""
    rng, n = np.random.default_rng(seed), 4000
    mdp = random_mdp(rng, discount=discount, ending=ending)
    policy, older = (random_policy(rng, mdp, concentration) for _ in range(2))
    newest = int(n * share)

    def draw(distribution: Array, n: int) -> npt.NDArray[np.intp]:
        return rng.choice(distribution.size, size=n, p=distribution.ravel())

    index = np.concatenate(
        [draw(occupancy(mdp, older), n - newest), draw(occupancy(mdp, policy), newest)]
    )

    def shares(index: npt.NDArray[np.intp]) -> Array:
        counts = np.bincount(index, minlength=mdp.transition.size)
        return counts.reshape(mdp.transition.shape) / len(index)

    return World(mdp, policy, index, newest, shares(index), shares(index[-newest:]))


def sampler(policy: Array) -> Policy:
    """π as the networks ask it: one-hot actions [S, B, A] for one-hot states [S, B, O]."""
    table, actions = torch.from_numpy(policy).float(), torch.eye(policy.shape[1])

    def draw(observations: Tensor) -> Tensor:
        chosen = torch.multinomial((observations @ table).flatten(0, -2), 1)
        return actions[chosen.view(observations.shape[:-1])]

    return draw


def q_table(dual_q: DualQ, world: World) -> Array:
    """Q of every (s, a), flat [S A]."""
    states, actions = (torch.eye(n) for n in world.policy.shape)
    pairs = [states.repeat_interleave(len(actions), 0), actions.repeat(len(states), 1)]
    with torch.no_grad():
        return dual_q.network(torch.cat(pairs, dim=1)[None, None])[0, 0, :, 0].double().numpy()


def ratio_of(delta: Array, data: Array, divergence: Divergence) -> Array:
    """ξ = f*'(δ) [N] of outcomes with shares `data`."""
    if divergence.log_mean_exp:
        return (torch.from_numpy(delta) + torch.from_numpy(data).log()).softmax(0).numpy() / data
    return divergence.conjugate_derivative(torch.from_numpy(delta)).numpy()
