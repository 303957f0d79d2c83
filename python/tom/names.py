"""The names that settings, networks and operators share."""

from __future__ import annotations

from typing import Literal

ALGORITHMS = ("tom", "mbpo", "pmac", "sac")
"""Any other is the user's own, module:function."""

Activation = Literal["relu", "tanh", "silu"]
DivergenceName = Literal["chi2", "chi2_bound", "kl"]
Precision = Literal["fp32", "tf32", "bf16"]


def short_name(algorithm: str) -> str:
    """An algorithm's name without the module of the user's own, for folders."""
    return algorithm.rpartition(":")[2]


def label_of(algorithm: str) -> str:
    """An algorithm's name in figures and tables."""
    return algorithm.upper() if algorithm in ALGORITHMS else short_name(algorithm)
