"""tom: policy-aware dynamics models by Transition Occupancy Matching.

Three parts can be used by themselves: :class:`ReplayBuffer`, :class:`BatchEnv`, and the weights ξ*
(:class:`Discriminator`, :class:`DualQ`, :func:`occupancy_weights`). `python -m tom.train` runs them
all.
"""

from tom import _libraries as _libraries
from tom.batch_env import BatchEnv
from tom.config import Config, ConfigError
from tom.discriminator import Discriminator
from tom.divergences import DIVERGENCES, Divergence
from tom.dual_q import DualQ
from tom.gym_vector import make_vector_env
from tom.ops import occupancy_weights, stacked_mlp, weighted_gaussian_nll
from tom.replay import ReplayBuffer

__version__ = "0.1.0"

__all__ = [
    "DIVERGENCES",
    "BatchEnv",
    "Config",
    "ConfigError",
    "Discriminator",
    "Divergence",
    "DualQ",
    "ReplayBuffer",
    "make_vector_env",
    "occupancy_weights",
    "stacked_mlp",
    "weighted_gaussian_nll",
]
