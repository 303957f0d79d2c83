"""What all figures share: colours, style, curves of several seeds, limits, legend and file.

matplotlib is imported when a figure is drawn, because it takes a second. Figures are drawn without
pyplot: no window system and no global state.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, "#56B4E9", "#E69F00", "#000000")
GREY = "#7F7F7F"
ALGORITHM_COLOURS = {"mbpo": BLUE, "tom": VERMILION, "pmac": GREEN, "sac": PURPLE}

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
ROW_INCHES = 0.19  # of the legend
LONGEST_LABEL = 76  # characters that fit beside each other
LONGEST_TITLE = 64
DOTS_PER_INCH = 200
DASHES = (0, (5, 2))
SEED_LABEL = "each seed"
SEED_STYLE: Any = {"alpha": 0.45, "linewidth": 0.8}
BAND_LABEL = "95 % confidence interval (Student's t)"
BAND_STYLE: Any = {"alpha": 0.13, "linewidth": 0}

# Quantiles 0.975 of Student's t for 1 to 10 degrees of freedom.
_T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)

FloatArray = NDArray[np.float64]


def new_figure() -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        # Wide enough that the last step's number keeps off the edge of the picture.
        figure = Figure(figsize=SIZE_INCHES, layout=ConstrainedLayoutEngine(w_pad=0.1))
        axes = figure.add_subplot()
    axes.xaxis.set_major_formatter(grouped)
    return figure, axes


def set_title(axes: Axes, text: str) -> None:
    """Above the axes, on as many lines as it needs."""
    axes.set_title(textwrap.fill(text, LONGEST_TITLE))


def draw_line(axes: Axes, x: FloatArray, y: FloatArray, label: str, colour: str = BLUE) -> None:
    """The main curve; a few points are marked, so that one alone is seen."""
    marker = "o" if len(x) <= 25 else None
    axes.plot(x, y, color=colour, linewidth=2.0, marker=marker, markersize=4, label=label, zorder=3)


def draw_seeds(
    axes: Axes,
    steps: FloatArray,
    curves: FloatArray,
    label: str,
    colour: str = BLUE,
    *,
    explain: bool = True,
    each: bool = True,
) -> None:
    """The mean over seeds, a thin line per seed and the 95 % confidence interval of the mean.

    Args:
        axes: where.
        steps: `[T]`.
        curves: `[S, T]` with S of at least 1; of one seed there is its curve alone.
        label: the mean's place in the legend.
        colour: of all three.
        explain: whether thin lines and interval get places in the legend too.
        each: whether there are thin lines.
    """
    if len(curves) > 1:
        mean, margin = curves.mean(axis=0), confidence_margin(curves)
        for i, curve in enumerate(curves if each else ()):
            seed_label = SEED_LABEL if explain and i == 0 else None
            axes.plot(steps, curve, color=colour, label=seed_label, **SEED_STYLE)
        band_label = BAND_LABEL if explain else None
        axes.fill_between(
            steps, mean - margin, mean + margin, color=colour, label=band_label, **BAND_STYLE
        )
    draw_line(axes, steps, curves.mean(axis=0), label, colour)


def limit_to_curves(axes: Axes, last: float, curves: Sequence[FloatArray]) -> None:
    """Show steps 0 to `last` and the range of the curves, with room for a marker at each edge.

    Bands take no part: that of two seeds is 13 times as wide as their distance, and would flatten
    the curves. They are cut off at the axes.

    Args:
        axes: what to limit.
        last: the last step.
        curves: of any shapes; values that are not finite are left out.
    """
    axes.set_xlim(0, 1.02 * last)
    values = np.concatenate([curve.ravel() for curve in curves])
    values = values[np.isfinite(values)]
    if len(values):
        low, high = values.min(), values.max()
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)


def draw_legend(figure: Figure, columns: int) -> None:
    """Below the axes, where it hides no data; the figure grows with its rows.

    Long labels are wrapped, and put all into one column.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    labels = [textwrap.fill(label, LONGEST_LABEL) for label in labels]
    columns = columns if all(len(label) <= LONGEST_LABEL // 2 for label in labels) else 1
    lines = sum(label.count("\n") + 1 for label in labels)
    width, height = SIZE_INCHES
    figure.set_size_inches(width, height + ROW_INCHES * max(0, math.ceil(lines / columns) - 2))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9.0
    )


def grouped(value: float, position: Any = None) -> str:
    """−12000.0 → −12,000."""
    return f"{value:,.10g}".replace("-", "−")


def save(figure: Figure, path: Path) -> Path:
    """Write the file, making its folder if need be; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path


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
