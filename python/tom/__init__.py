"""tom: policy-aware dynamics models by Transition Occupancy Matching.

Three parts can be used by themselves: :class:`ReplayBuffer`, :class:`BatchEnv`, and the weights ξ*
(:func:`dataset_weights`). `python -m tom.train` runs them all, and :func:`load_agent` gives the
policy that it has trained.
"""

from tom import _libraries as _libraries
from tom.agent import Agent, load_agent
from tom.batch_env import BatchEnv
from tom.config import Config, ConfigError, override
from tom.dataset_weights import dataset_weights
from tom.datasets import Dataset
from tom.divergences import DIVERGENCES, Divergence
from tom.gym_vector import make_vector_env
from tom.ops import occupancy_weights, stacked_mlp, weighted_gaussian_nll
from tom.replay import ReplayBuffer
from tom.rows import RowLayout
from tom.training_error import TrainingError

__version__ = "0.1.0"

__all__ = [
    "DIVERGENCES",
    "Agent",
    "BatchEnv",
    "Config",
    "ConfigError",
    "Dataset",
    "Divergence",
    "ReplayBuffer",
    "RowLayout",
    "TrainingError",
    "dataset_weights",
    "load_agent",
    "make_vector_env",
    "occupancy_weights",
    "override",
    "stacked_mlp",
    "weighted_gaussian_nll",
]
