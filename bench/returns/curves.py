"""Collect the evaluation returns of runs of one task, beside the published curve.

    python bench/returns/curves.py RUN_FOLDER [RUN_FOLDER ...]

writes `bench/returns/TASK.csv` (one row per run, seed and evaluation) and `bench/returns/TASK.png`.
The published curve is in `published.csv`; README.md beside it says where it comes from.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from tom import metrics
from tom.plots import BLUE, DOTS_PER_INCH, GREY, SIZE_INCHES, STYLE, VERMILION

HERE = Path(__file__).parent
PUBLISHED_NAMES = {"hopper": "Hopper", "halfcheetah": "HalfCheetah"}
COLOURS = {"mbpo": BLUE, "tom": VERMILION, "pmac": "#009E73", "sac": "#CC79A7"}
COLUMNS = (
    "env",
    "algorithm",
    "seed",
    "updates_per_step",
    "step",
    "mean_reward",
    "std_reward",
    "holdout_mse",
    "weighted_holdout_mse",
    "current_mse",
    "ess",
)


def curve(run: Path) -> list[dict[str, Any]]:
    """The rows of a run: one per seed and evaluation."""
    config = json.loads((run / "config.json").read_text())
    return [
        {
            "env": config["env"],
            "algorithm": config["algorithm"],
            "seed": row["seed"],
            "updates_per_step": config["updates_per_step"],
            "step": row["step"],
            "mean_reward": row["eval/mean_reward"],
            "std_reward": row["eval/std_reward"],
            "ess": row.get("tom/ess", ""),
            **{
                name: row.get(f"model/{name}", "")
                for name in ("holdout_mse", "weighted_holdout_mse", "current_mse")
            },
        }
        for row in metrics.read(run / "metrics.csv")
        if row.get("eval/mean_reward")
    ]


def published(env: str) -> tuple[list[float], list[float], list[float]]:
    """Steps, means and standard deviations of the published MBPO curve of a task."""
    with (HERE / "published.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["algo"] == "MBPO" and row["env"] == PUBLISHED_NAMES.get(env)
        ]
    steps, means, stds = (
        [float(row[name]) for row in rows] for name in ("env_steps", "mean", "std")
    )
    return steps, means, stds


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Each algorithm's mean over its seeds, the seeds, and the published mean and deviation."""
    import matplotlib

    env = rows[0]["env"]
    last = max(int(row["step"]) for row in rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
    steps, means, stds = published(env)
    axes.errorbar(
        steps, means, stds, color=GREY, marker="s", markersize=4, capsize=3, linewidth=1.1,
        linestyle=(0, (5, 2)), label="MBPO, published: mean ± std, 5 seeds",
    )  # fmt: skip
    groups: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for row in rows:
        seeds = groups.setdefault((row["algorithm"], row["updates_per_step"]), {})
        seeds.setdefault(row["seed"], {})[int(row["step"])] = float(row["mean_reward"])
    for (algorithm, _), seeds in sorted(groups.items()):
        several, colour = len(seeds) > 1, COLOURS[algorithm]
        which = f"{len(seeds)} seeds and their mean" if several else f"seed {min(seeds)}"
        for returns in seeds.values() if several else ():
            points = zip(*sorted(returns.items()), strict=True)
            axes.plot(*points, color=colour, linewidth=0.7, alpha=0.5)
        common = sorted(set.intersection(*(set(returns) for returns in seeds.values())))
        mean = [fmean(returns[step] for returns in seeds.values()) for step in common]
        label = f"{algorithm.upper()}, {which}"
        axes.plot(common, mean, color=colour, linewidth=1.8, label=label)
    axes.set_xlim(0, last * 1.03)
    shown = [m + s for t, m, s in zip(steps, means, stds, strict=True) if t <= last * 1.03]
    every = [float(row["mean_reward"]) for row in rows]
    axes.set_ylim(min(0.0, 1.05 * min(every)), 1.05 * max(shown + every))
    updates_per_step = " or ".join(str(n) for n in sorted({updates for _, updates in groups}))
    axes.set_title(f"{env}, {updates_per_step} updates per step")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean return of 10 episodes")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9.0)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def main(runs: Sequence[Path]) -> None:
    """Write the table and the figure of one task's runs."""
    rows = [row for run in runs for row in curve(run)]
    tasks = {row["env"] for row in rows}
    if len(tasks) != 1:
        sys.exit(f"runs: given {len(tasks)} tasks with evaluations, allowed is exactly one")
    path = HERE / f"{tasks.pop()}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png')}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(name) for name in sys.argv[1:]])
