"""The figures: returns against steps, weights against age, weights along a combined dataset.

matplotlib is imported when a figure is drawn, because it takes a second. Figures are drawn without
pyplot: no window system and no global state.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tom import metrics
from tom.progression import RANDOM, REPLAY, Progression

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#7F7F7F"

# Any, because newer matplotlibs have a type of their own for these keys.
STYLE: Any = {
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
}
SIZE_INCHES = (6.0, 3.8)
DOTS_PER_INCH = 200
BINS = 50
DASHES = (0, (5, 2))

# Quantiles 0.975 of Student's t for 1 to 10 degrees of freedom.
_T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)

FloatArray = NDArray[np.float64]


def plot_returns(run: Path) -> Path:
    """Draw the evaluation returns of a run against its environment steps.

    With one seed: its mean return and the cumulative maximum, which the paper reports. With
    several: a thin line per seed, the mean over seeds with its 95 % confidence interval (Student's
    t), and the mean over seeds of each seed's cumulative maximum.

    Args:
        run: the run's folder.

    Returns:
        The figure's file, `plots/returns.png` in that folder.
    """
    config = json.loads((run / "config.json").read_text())
    steps, returns = _evaluations(run / "metrics.csv")
    seeds = len(returns)
    figure, axes = _figure()
    if seeds > 1:
        mean, margin = returns.mean(axis=0), confidence_margin(returns)
        for i, curve in enumerate(returns):
            label = "each seed" if i == 0 else None
            axes.plot(steps, curve, color=BLUE, alpha=0.35, linewidth=0.8, label=label)
        axes.fill_between(
            steps, mean - margin, mean + margin, color=BLUE, alpha=0.15, linewidth=0,
            label="95 % confidence interval (Student's t)",
        )  # fmt: skip
        _line(axes, steps, mean, f"mean over {seeds} seeds")
    elif seeds == 1:
        _line(axes, steps, returns[0], f"seed {config['seed']}")
    if seeds:
        best = np.maximum.accumulate(returns, axis=1).mean(axis=0)
        axes.plot(
            steps, best, color=VERMILION, linewidth=1.1, linestyle=DASHES, drawstyle="steps-post",
            label="cumulative maximum" + (" (mean)" if seeds > 1 else ""),
        )  # fmt: skip
        axes.yaxis.set_major_formatter(_grouped)
        _legend(figure, columns=2)
    else:
        axes.text(0.5, 0.5, "no evaluation yet", ha="center", transform=axes.transAxes, color=GREY)
        axes.set_yticks([])
    axes.set_xlim(0, steps[-1] if seeds else config["steps"])
    axes.set_title(f"{config['env']}, {config['algorithm'].upper()}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"mean return of {config['evaluation']['episodes']} episodes")
    return _save(figure, run / "plots" / "returns.png")


def plot_weight_age(path: Path, ages: ArrayLike, weights: ArrayLike, title: str) -> Path:
    """Draw the mean weight against the age of the transition.

    Weights are divided by their mean, so that 1 is the weight of a uniform draw.

    Args:
        path: the PNG file to write.
        ages: `[n]` age of each row, in environment steps; 0 is the newest.
        weights: `[n]` weight of each row, or `[S, n]` with a thin line per seed.
        title: the figure's title.

    Returns:
        `path`.

    Raises:
        ValueError: no row, or another number of ages than of weights.
    """
    age = _floats(ages)
    weight = np.atleast_2d(_floats(weights))
    if age.ndim != 1 or len(age) == 0 or weight.shape[1:] != age.shape:
        raise ValueError(
            f"ages and weights: given shapes {list(age.shape)} and {list(weight.shape)}, allowed "
            f"are [n] and [n] or [S, n] with n of at least 1"
        )
    mean_weight = weight.mean(axis=1, keepdims=True)
    weight = weight / np.where(mean_weight > 0, mean_weight, 1.0)

    edges = np.linspace(0, age.max() + 1, min(BINS, len(np.unique(age))) + 1)
    bins = np.digitize(age, edges[1:-1])
    counts = np.bincount(bins, minlength=len(edges) - 1)
    filled = counts > 0
    sums = np.stack([np.bincount(bins, w, minlength=len(edges) - 1) for w in weight])
    binned = sums[:, filled] / counts[filled]
    centres = ((edges[:-1] + edges[1:]) / 2)[filled]

    figure, axes = _figure()
    axes.axhline(1, color=GREY, linewidth=1.1, linestyle=DASHES, label="mean weight")
    if len(binned) > 1:
        for i, curve in enumerate(binned):
            label = "each seed" if i == 0 else None
            axes.plot(centres, curve, color=BLUE, alpha=0.35, linewidth=0.8, label=label)
    label = f"mean over {edges[1]:,.0f}-step bins" + (" and seeds" if len(binned) > 1 else "")
    _line(axes, centres, binned.mean(axis=0), label)
    axes.set_xlim(edges[-1], 0)
    axes.set_ylim(0, 1.08 * max(1.0, binned.max()))
    axes.set_title(title)
    axes.set_xlabel("age of the transition (environment steps ago; newest on the right)")
    axes.set_ylabel("drawing weight / mean weight")
    _legend(figure, columns=3)
    return _save(figure, path)


def plot_progression(path: Path, progress: Progression, title: str) -> Path:
    """Draw the mean weight of each bin of a combined dataset, the halves in two colours.

    Args:
        path: the PNG file to write.
        progress: its bins.
        title: the figure's title.

    Returns:
        `path`.
    """
    figure, axes = _figure()
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
    axes.set_title(title)
    axes.set_xlabel("place in the combined dataset (transitions; each half oldest first)")
    axes.set_ylabel("mean importance weight ξ*")
    _legend(figure, columns=3)
    return _save(figure, path)


def confidence_margin(curves: FloatArray) -> FloatArray:
    """Half the width of the 95 % confidence interval of the mean over the first axis, t-based.

    Args:
        curves: `[S, T]` with S of at least 2.

    Returns:
        `[T]`.
    """
    n = len(curves)
    standard_error: FloatArray = curves.std(axis=0, ddof=1) / math.sqrt(n)
    return t975(n - 1) * standard_error


def t975(freedom: int) -> float:
    """Quantile 0.975 of Student's t: a table, then Abramowitz and Stegun's expansion 26.7.5."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = 1.959964
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _evaluations(table: Path) -> tuple[FloatArray, FloatArray]:
    """Steps `[T]` at which every seed was evaluated, and mean returns `[S, T]`."""
    by_seed: dict[str, dict[int, float]] = {}
    for row in metrics.read(table):
        if row.get("eval/mean_reward"):
            by_seed.setdefault(row["seed"], {})[int(row["step"])] = float(row["eval/mean_reward"])
    common = sorted(set.intersection(*map(set, by_seed.values()))) if by_seed else []
    if not common:
        return np.empty(0), np.empty((0, 0))
    return np.array(common, float), np.array([[r[t] for t in common] for r in by_seed.values()])


def _floats(values: Any) -> FloatArray:
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    array: FloatArray = np.asarray(values, dtype=np.float64)
    return array


def _figure() -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
    axes.xaxis.set_major_formatter(_grouped)
    return figure, axes


def _line(axes: Axes, x: FloatArray, y: FloatArray, label: str) -> None:
    """The main curve; a few points are marked, so that one alone is seen."""
    marker = "o" if len(x) <= 25 else None
    axes.plot(x, y, color=BLUE, linewidth=2.0, marker=marker, markersize=4, label=label)


def _legend(figure: Figure, columns: int) -> None:
    """Below the axes, where it hides no data."""
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.0)


def _grouped(value: float, position: Any = None) -> str:
    """−12000.0 → −12,000."""
    return f"{value:,.10g}".replace("-", "−")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path
