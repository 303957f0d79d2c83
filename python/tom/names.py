"""The names that settings, networks and operators share."""

from __future__ import annotations

from typing import Literal

Activation = Literal["relu", "tanh", "silu"]
DivergenceName = Literal["chi2", "chi2_bound", "kl"]
Precision = Literal["fp32", "bf16"]
