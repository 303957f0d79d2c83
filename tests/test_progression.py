"""Bins, rank correlation, the figure, and the shape that the paper's Figure 3 shows."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import spearmanr

from helpers import LAYOUT, memoryless_world
from tom import figures, plots
from tom.config import Config, DiscriminatorConfig, DualQConfig, override
from tom.dataset_weights import dataset_weights
from tom.datasets import Dataset
from tom.progression import (
    RANDOM,
    REPLAY,
    Progression,
    progression,
    progression_table,
    spearman,
    summary,
    write_bins,
)


@pytest.fixture
def known() -> Progression:
    """Six rows of the random half in two bins, four of the replay half."""
    return progression(torch.tensor([0.0, 0, 0, 1, 1, 1, 1, 2, 2, 2]), 6, 2)


def test_bins_of_known_weights(known: Progression) -> None:
    assert [(b.half, b.bin, b.first, b.rows) for b in known.bins] == [
        (RANDOM, 1, 0, 3), (RANDOM, 2, 3, 3), (REPLAY, 1, 6, 2), (REPLAY, 2, 8, 2),
    ]  # fmt: skip
    assert [b.mean_weight for b in known.bins] == [0, 1, 1.5, 2]
    assert [b.mass for b in known.bins] == pytest.approx([0, 0.3, 0.3, 0.4])
    assert [b.zero for b in known.bins] == [1, 0, 0, 0]
    assert known.mean_weight == 1
    assert known.ess_share == pytest.approx(100 / 16 / 10)
    assert known.spearman_bins == pytest.approx(1)
    assert known.spearman_rows == pytest.approx(spearmanr([0, 1, 2, 3], [1, 2, 2, 2]).statistic)


@pytest.mark.parametrize(("n", "bins"), [(7, 3), (10, 4), (3, 10)])
def test_bins_hold_every_row_once_and_differ_by_one_at_most(n: int, bins: int) -> None:
    found = progression(torch.ones(2 * n), n, bins).bins
    assert sum(b.rows for b in found) == 2 * n
    assert [b.first for b in found[1:]] == [b.first + b.rows for b in found[:-1]]
    sizes = {b.rows for b in found}
    assert max(sizes) - min(sizes) <= 1
    assert len(found) == 2 * min(bins, n)


def test_spearman_equals_scipy_with_and_without_ties() -> None:
    x, y = torch.randn(200), torch.randn(200)
    for a, b in ((x, y), (x, x + y), (x.round(), y), (x.round(), (x + y).round())):
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert math.isnan(spearman(x, torch.ones(200)))


def test_table_and_csv_show_the_bins(known: Progression, tmp_path: Path) -> None:
    write_bins(tmp_path / "bins.csv", known)
    with (tmp_path / "bins.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_weight"]) for row in rows] == [0, 1, 1.5, 2]
    assert [row["half"] for row in rows] == [RANDOM, RANDOM, REPLAY, REPLAY]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(progression_table(known))
    assert "1.500" in captured.get() and "100.0%" in captured.get()
    text = summary(known, {"tom/flow_balance": 0.875})
    assert "62.5%" in text and "0.875" in text and "0.000 to 1.000" in text


def test_figure_has_a_bar_per_bin_and_a_colour_per_half(
    known: Progression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda f, path: drawn.append(f) or save(f, path))
    path = plots.plot_progression(tmp_path / "p.png", known, "title")
    assert path.read_bytes().startswith(b"\x89PNG")
    bars = drawn[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == [0, 1, 1.5, 2]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 3), (3, 3), (6, 2), (8, 2)]
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[0] == colours[1] != colours[2] == colours[3]


N, PUSH = 4000, 2.0

SMALL = override(
    Config(),
    {
        "discount": 0.9,
        "discriminator": DiscriminatorConfig(
            hidden=(32, 32), steps=600, learning_rate=1e-3, gradient_penalty=0.0
        ),
        "dual_q": DualQConfig(hidden=(32, 32), steps=800, learning_rate=1e-3, policy_samples=4),
    },
)


def _policy(observations: torch.Tensor) -> torch.Tensor:
    return torch.randn(*observations.shape[:-1], 1) + PUSH


def _dataset() -> Dataset:
    """Actions from N(0, 1), then from N(p, 1) with p growing from 0 to that of the policy."""
    rows = memoryless_world(1, 2 * N)[0]
    rows[N:, LAYOUT.action] += torch.linspace(0, PUSH, N).unsqueeze(1)
    return Dataset(rows, torch.randn(100, 2))


def _progression(dataset: Dataset) -> Progression:
    own = memoryless_world(1, 2000, push=PUSH)[0]
    weights, metrics = dataset_weights(dataset, LAYOUT, _policy, own, SMALL)
    assert weights.shape == (2 * N,) and metrics["tom/discriminator_accuracy"] > 0.5
    return progression(weights, N, 5)


def test_weights_rise_with_the_policy_and_are_low_in_the_random_half() -> None:
    """Of 4000 unrelated ranks the correlation has a standard deviation of 0.016.

    The control has the same replay half in random order, of which 0.08 is five of them; the rising
    half has one of 0.45 to 0.48 (six seeds).
    """
    dataset = _dataset()
    progress = _progression(dataset)
    random, replay = (
        [b.mean_weight for b in progress.bins if b.half == half] for half in (RANDOM, REPLAY)
    )
    assert progress.spearman_rows > 0.35
    assert progress.spearman_bins == pytest.approx(1)
    assert max(random) < 0.5 * replay[-1]
    assert max(random) - min(random) < 0.3 * replay[-1]

    order = torch.cat([torch.arange(N), N + torch.randperm(N)])
    control = _progression(Dataset(dataset.rows[order], dataset.initial_states))
    assert abs(control.spearman_rows) < 0.08
