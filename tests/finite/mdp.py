"""Small finite MDPs and the distributions that policies visit in them.

A distribution of transitions is an array [S, A, S] over (s, a, s'); a policy is an array [S, A].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MDP:
    """A finite MDP.

    Attributes:
        transition: T(s' | s, a), [S, A, S].
        start: ρ0, [S]; 0 on terminal states.
        terminal: states that end the episode, bool [S].
        discount: γ.
    """

    transition: Array
    start: Array
    terminal: npt.NDArray[np.bool_]
    discount: float


def random_mdp(
    rng: np.random.Generator,
    *,
    states: int = 5,
    actions: int = 2,
    discount: float = 0.9,
    ending: float = 0.0,
) -> MDP:
    """Uneven random transitions; with `ending` > 0 the last state ends about that share of them."""
    transition = rng.dirichlet(np.full(states, 0.5), size=(states, actions))
    start, terminal = rng.dirichlet(np.ones(states)), np.zeros(states, dtype=bool)
    if ending > 0:
        terminal[-1], start[-1] = True, 0.0
        end = np.minimum(ending * rng.exponential(size=(states, actions)), 0.9)
        transition[..., -1] = 0
        transition *= ((1 - end) / transition.sum(-1))[..., None]
        transition[..., -1] = end
    return MDP(transition, start / start.sum(), terminal, discount)


def random_policy(rng: np.random.Generator, mdp: MDP, concentration: float = 1.0) -> Array:
    """Dirichlet action probabilities in each state, bounded away from 0."""
    states, actions, _ = mdp.transition.shape
    return 0.95 * rng.dirichlet(np.full(actions, concentration), size=states) + 0.05 / actions


def discounted_visits(mdp: MDP, policy: Array, discount: float) -> Array:
    """Σ_t γ^t P(s_t, a_t, s_t+1) within one episode; it sums to its discounted length."""
    pairs = policy.size
    go_on = mdp.transition * ~mdp.terminal
    go_on[mdp.terminal] = 0
    move = np.einsum("iaj,jb->iajb", go_on, policy).reshape(pairs, pairs)
    inflow = (mdp.start[:, None] * policy).ravel()
    visits = np.linalg.solve(np.eye(pairs) - discount * move.T, inflow)
    return visits.reshape(policy.shape)[:, :, None] * mdp.transition


def occupancy(mdp: MDP, policy: Array, *, discount: float | None = None) -> Array:
    """d_π ∝ the discounted visits, of total mass 1 whatever ends the episodes.

    With `discount` = 1, where episodes end, it is the share of every transition among the policy's
    rows in a replay buffer.
    """
    visits = discounted_visits(mdp, policy, mdp.discount if discount is None else discount)
    return visits / visits.sum()


def total_variation(p: Array, q: Array) -> float:
    """½ Σ |p − q|."""
    return float(np.abs(p - q).sum()) / 2
