"""The figures of a run: returns against steps, weights against age or along a combined dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tom import figures, metrics
from tom.figures import BLUE, DASHES, GREY, VERMILION, FloatArray
from tom.names import label_of
from tom.progression import RANDOM, REPLAY, Progression
from tom.returns import evaluations, on_common_steps

BINS = 50


def plot_returns(run: Path) -> Path:
    """Draw the evaluation returns of a run against its environment steps.

    With one seed: its mean return and the cumulative maximum, which the paper reports. With
    several: a thin line per seed, the mean over seeds with its 95 % confidence interval (Student's
    t; cut off where it leaves the range of the curves), and the mean over seeds of each seed's
    cumulative maximum.

    Args:
        run: the run's folder.

    Returns:
        The figure's file, `plots/returns.png` in that folder.
    """
    config = json.loads((run / "config.json").read_text())
    steps, returns = on_common_steps(evaluations(metrics.read(run / "metrics.csv")).values())
    seeds = len(returns)
    figure, axes = figures.new_figure()
    if seeds:
        label = f"mean over {seeds} seeds" if seeds > 1 else f"seed {config['seed']}"
        figures.draw_seeds(axes, steps, returns, label)
        best = np.maximum.accumulate(returns, axis=1).mean(axis=0)
        axes.plot(
            steps, best, color=VERMILION, linewidth=1.1, linestyle=DASHES, drawstyle="steps-post",
            label="cumulative maximum" + (" (mean)" if seeds > 1 else ""),
            zorder=4,
        )  # fmt: skip
        axes.yaxis.set_major_formatter(figures.grouped)
        figures.limit_to_curves(axes, steps[-1], [returns, best])
        figures.draw_legend(figure, columns=2)
    else:
        axes.text(0.5, 0.5, "no evaluation yet", ha="center", transform=axes.transAxes, color=GREY)
        axes.set_yticks([])
        axes.set_xlim(0, config["steps"])
    figures.set_title(axes, f"{config['env']}, {label_of(config['algorithm'])}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"mean return of {config['evaluation']['episodes']} episodes")
    return figures.save(figure, run / "plots" / "returns.png")


def plot_weight_age(path: Path, ages: ArrayLike, weights: ArrayLike, title: str) -> Path:
    """Draw the mean weight against the age of the transition.

    Weights are divided by their mean, so that 1 is the weight of a uniform draw.

    Args:
        path: the PNG file to write.
        ages: `[n]` age of each row, in environment steps; 0 is the newest.
        weights: `[n]` weight of each row.
        title: the figure's title.

    Returns:
        `path`.

    Raises:
        ValueError: no row, or another number of ages than of weights.
    """
    age, weight = _floats(ages), _floats(weights)
    if age.ndim != 1 or len(age) == 0 or weight.shape != age.shape:
        raise ValueError(
            f"ages and weights: given shapes {list(age.shape)} and {list(weight.shape)}, allowed "
            f"are [n] and [n] with n of at least 1"
        )
    weight = weight / (weight.mean() or 1.0)

    edges = np.linspace(0, age.max() + 1, min(BINS, len(np.unique(age))) + 1)
    bins = np.digitize(age, edges[1:-1])
    counts = np.bincount(bins, minlength=len(edges) - 1)
    filled = counts > 0
    sums = np.bincount(bins, weight, minlength=len(edges) - 1)
    binned = sums[filled] / counts[filled]
    centres = ((edges[:-1] + edges[1:]) / 2)[filled]

    figure, axes = figures.new_figure()
    axes.axhline(1, color=GREY, linewidth=1.1, linestyle=DASHES, label="mean weight")
    figures.draw_line(axes, centres, binned, f"mean over {edges[1]:,.0f}-step bins")
    axes.set_xlim(edges[-1], 0)
    axes.set_ylim(0, 1.08 * max(1.0, binned.max()))
    figures.set_title(axes, title)
    axes.set_xlabel("age of the transition (environment steps ago; newest on the right)")
    axes.set_ylabel("drawing weight / mean weight")
    figures.draw_legend(figure, columns=3)
    return figures.save(figure, path)


def plot_progression(path: Path, progress: Progression, title: str) -> Path:
    """Draw the mean weight of each bin of a combined dataset, the halves in two colours.

    Args:
        path: the PNG file to write.
        progress: its bins.
        title: the figure's title.

    Returns:
        `path`.
    """
    figure, axes = figures.new_figure()
    halves = ((RANDOM, GREY, "random half"), (REPLAY, BLUE, "replay half"))
    for half, colour, label in halves:
        bins = [b for b in progress.bins if b.half == half]
        first, rows = np.array([[b.first, b.rows] for b in bins], float).T
        heights = [b.mean_weight for b in bins]
        axes.bar(
            first, heights, rows, align="edge", color=colour, edgecolor="white", linewidth=1.0,
            label=label,
        )  # fmt: skip
    axes.axhline(1, color=VERMILION, linewidth=1.1, linestyle=DASHES, label="uniform weights")
    axes.grid(visible=False, axis="x")
    end = progress.bins[-1].first + progress.bins[-1].rows
    axes.set_xlim(0, end)
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(bottom=0)
    figures.set_title(axes, title)
    axes.set_xlabel("place in the combined dataset (transitions; each half oldest first)")
    axes.set_ylabel("mean importance weight ξ*")
    figures.draw_legend(figure, columns=3)
    return figures.save(figure, path)


def _floats(values: Any) -> FloatArray:
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    array: FloatArray = np.asarray(values, dtype=np.float64)
    return array
