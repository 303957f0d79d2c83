"""Saved state: nested dictionaries of tensors whose first axis is the seed.

Every component's `state_dict` has this form, so a run's state splits into one checkpoint per seed
and is stacked again from them without knowing what is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
"""str → tensor [S, ...], or such a dictionary. (A checkpoint's file of one seed may also hold int,
float, str, bool, None, and lists and tuples.)"""


def take_seed(state: State, seed: int) -> State:
    """The part of one seed: every tensor [S, ...] becomes [...]."""
    return {
        name: value[seed] if isinstance(value, Tensor) else take_seed(value, seed)
        for name, value in state.items()
    }


def stack_seeds(states: Sequence[State]) -> State:
    """The inverse of :func:`take_seed` over all seeds."""
    return {
        name: torch.stack([state[name] for state in states])
        if isinstance(value, Tensor)
        else stack_seeds([state[name] for state in states])
        for name, value in states[0].items()
    }
