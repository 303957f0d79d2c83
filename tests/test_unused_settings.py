"""Settings that an algorithm is said not to use change nothing in its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tom import metrics
from tom.config import Config
from tom.settings import among
from tom.train import main

DEBUG = ["--env", "hopper", "--preset", "debug", "--threads", "1", "--steps", "300"]

OTHERS = {
    "divergence": "kl",
    "weighting": "loss",
    "termination": "none",
    "discriminator.hidden": "8",
    "discriminator.steps": "3",
    "discriminator.replay_label": "0.3",
    "dual_q.hidden": "8",
    "dual_q.steps": "7",
    "weights.max_weight": "2",
    "weights.uniform_share": "0.9",
    "weights.decay": "0.5",
    "dynamics.hidden": "8",
    "rollout.length": "2",
    "sac.real_fraction": "0.9",
}
"""Setting → another value than in these runs."""


def numbers(folder: Path) -> list[dict[str, str]]:
    """The metrics without the columns that tell the time."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in metrics.read(folder / "metrics.csv")
    ]


@pytest.mark.parametrize("algorithm", ["tom", "mbpo", "pmac", "sac"])
def test_unused_settings_change_nothing(algorithm: str, tmp_path: Path) -> None:
    command = [*DEBUG, "--algorithm", algorithm]
    unused = Config(algorithm=algorithm).unused
    changes = {name: value for name, value in OTHERS.items() if among(name, unused)}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    assert flags
    main([*command, "--run-dir", str(tmp_path / "plain")])
    main([*command, "--run-dir", str(tmp_path / "changed"), *flags])
    assert numbers(tmp_path / "plain") == numbers(tmp_path / "changed")
