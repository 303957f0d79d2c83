"""Collect the evaluation returns of runs of one task, beside the published curve.

Writes TASK.csv (one row per run, seed and evaluation) and TASK.png to the current folder, or with
--update to this repository's bench/returns. The published curve is in published.csv; README.md
beside it says where it comes from.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tom import figures
from tom.figures import ALGORITHM_COLOURS, DASHES, GREY
from tom.one_line import refusals
from tom.one_line_parser import OneLineParser
from tom.returns import RunReturns, on_common_steps, read_returns
from tom.settings import ConfigError

HERE = Path(__file__).resolve().parent
PUBLISHED_NAMES = {"hopper": "Hopper", "halfcheetah": "HalfCheetah"}
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


def curve(run: RunReturns) -> list[dict[str, Any]]:
    """The rows of a run: one per seed and evaluation."""
    return [
        {
            "env": run.env,
            "algorithm": run.algorithm,
            "seed": row["seed"],
            "updates_per_step": run.config["updates_per_step"],
            "step": row["step"],
            "mean_reward": row["eval/mean_reward"],
            "std_reward": row["eval/std_reward"],
            "ess": row.get("tom/ess", ""),
            **{
                name: row.get(f"model/{name}", "")
                for name in ("holdout_mse", "weighted_holdout_mse", "current_mse")
            },
        }
        for row in run.rows
        if row.get("eval/mean_reward")
    ]


def published(env: str) -> tuple[list[float], list[float], list[float]]:
    """Steps, means and standard deviations of the published MBPO curve of a task; empty if none."""
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
    env = rows[0]["env"]
    last = max(int(row["step"]) for row in rows)
    figure, axes = figures.new_figure()
    steps, means, stds = published(env)
    if steps:
        axes.errorbar(
            steps, means, stds, color=GREY, marker="s", markersize=4, capsize=3, linewidth=1.1,
            linestyle=DASHES, label="MBPO, published: mean ± std, 5 seeds",
        )  # fmt: skip
    groups: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for row in rows:
        seeds = groups.setdefault((row["algorithm"], row["updates_per_step"]), {})
        seeds.setdefault(row["seed"], {})[int(row["step"])] = float(row["mean_reward"])
    for (algorithm, _), seeds in sorted(groups.items()):
        several, colour = len(seeds) > 1, ALGORITHM_COLOURS[algorithm]
        which = f"{len(seeds)} seeds and their mean" if several else f"seed {min(seeds)}"
        for returns in seeds.values() if several else ():
            points = zip(*sorted(returns.items()), strict=True)
            axes.plot(*points, color=colour, **figures.SEED_STYLE)
        common, curves = on_common_steps(seeds.values())
        label = f"{algorithm.upper()}, {which}"
        if len(common):
            axes.plot(common, curves.mean(axis=0), color=colour, linewidth=1.8, label=label)
    axes.set_xlim(0, last * 1.03)
    shown = [m + s for t, m, s in zip(steps, means, stds, strict=True) if t <= last * 1.03]
    every = [float(row["mean_reward"]) for row in rows]
    axes.set_ylim(min(0.0, 1.05 * min(every)), 1.05 * max(shown + every))
    updates_per_step = " or ".join(str(n) for n in sorted({updates for _, updates in groups}))
    axes.set_title(f"{env}, {updates_per_step} updates per step")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean return of 10 episodes")
    figures.draw_legend(figure, columns=2)
    figures.save(figure, path)


def folder_of(update: bool) -> Path:
    """Where results go.

    Raises:
        ConfigError: the repository's folder, without its having been asked for.
    """
    if not update and Path.cwd() == HERE:
        raise ConfigError(
            f"the current folder: given {HERE}, whose files are in the repository, allowed is "
            f"another one, or --update to replace them"
        )
    return HERE if update else Path()


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table and the figure of one task's runs."""
    parser = OneLineParser("python bench/returns/curves.py", __doc__ or "")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder of tom.train")
    parser.add_argument(
        "--update", action="store_true", help="replace the repository's own table and figure"
    )
    arguments = parser.parse_args(argv)
    with refusals():
        folder = folder_of(arguments.update)
        runs = [read_returns(run, f"runs: given {run}") for run in arguments.runs]
        tasks = sorted({run.env for run in runs})
        if len(tasks) != 1:
            raise ConfigError(
                f"runs: given runs of {', '.join(tasks)}, allowed are runs of one task"
            )
    rows = [row for run in runs for row in curve(run)]
    table, picture = (folder / f"{tasks[0]}.{kind}" for kind in ("csv", "png"))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, picture)
    print(f"wrote {table} and {picture}")


if __name__ == "__main__":
    main()
