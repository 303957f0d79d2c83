"""How well the model keeps up with a run: fit it to the run's rows as they came, ask for the next.

Takes the rows of a finished run's newest checkpoint, STEPS of them. Every 250 rows a small
ensemble, unweighted, goes on learning from all rows so far as a run's would, and its squared error
on the 250 rows that come next is noted: what the policy meets in the model until the next fit.
Printed are means over thirds of the run, for two learning rates, and for held-out rows that are
drawn anew at each fit, as MBPO does, or held out for good. model_fits_TASK.png shows all; it is
written to the current folder, or with --update to this repository's bench/returns. With --penalty
the default penalty on the bounds of the log-variance is compared with a seventh of it instead, and
nothing is drawn.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from curves import folder_of
from torch import Tensor

from tom import figures
from tom.config import Config, DynamicsConfig
from tom.datasets import load_dataset
from tom.dynamics import DynamicsEnsemble
from tom.figures import BLUE, GREY, VERMILION
from tom.one_line import refusals
from tom.one_line_parser import OneLineParser
from tom.replays import Replays
from tom.rows import RowLayout
from tom.saved_run import find_run
from tom.streams import RandomStreams
from tom.task_env import layout_of, make_env

MEMBERS, INTERVAL = 2, 250
SMOOTHED = 4  # intervals in a point of the figure
LEGEND = "learning rate, held-out rows"
CPU = torch.device("cpu")


class DrawnAnew(DynamicsEnsemble):
    """Holds out other rows at each fit, most of which earlier fits have trained on."""

    def _held_out_slots(self, replays: Replays) -> Tensor:
        n = len(replays)
        count = min(max(1, int(n * self.config.holdout)), self.config.max_holdout)
        return torch.randperm(n)[:count]


VARIANTS: dict[str, tuple[type[DynamicsEnsemble], dict[str, Any]]] = {
    f"{rate:g}, {how}": (kind, {"learning_rate": rate})
    for (how, kind), rate in itertools.product(
        (("drawn anew", DrawnAnew), ("for good", DynamicsEnsemble)), (3e-4, 1e-3)
    )
}
PENALTIES: dict[str, tuple[type[DynamicsEnsemble], dict[str, Any]]] = {
    f"{penalty:.3g}": (DynamicsEnsemble, {"log_var_penalty": penalty})
    for penalty in (DynamicsConfig().log_var_penalty, DynamicsConfig().log_var_penalty / 7)
}


def rows_of(folder: Path) -> tuple[Tensor, RowLayout, Config]:
    """The rows of a run's newest checkpoint in the order they came, [1, N, W]."""
    config = find_run(folder, f"run: given {folder}").config
    env = make_env(config, 1, 1)
    layout = layout_of(env)
    env.close()
    return load_dataset("run", str(folder), layout).rows.unsqueeze(0), layout, config


def errors(ensemble: DynamicsEnsemble, rows: Tensor, first: int) -> Tensor:
    """Squared errors on each next interval, [fits]."""
    replays = Replays(ensemble.layout, rows.shape[1], [0], CPU)
    replays.buffers[0].append(rows[0, :first])
    found = []
    for following in rows[:, first:].split(INTERVAL, dim=1):
        ensemble.fit(replays, torch.ones(1, len(replays)))
        metrics = ensemble.evaluate("next", following, torch.ones_like(following[..., 0]))
        found.append(metrics["model/next_mse"])
        replays.buffers[0].append(following[0])
    return torch.cat(found)


def draw(found: dict[str, Tensor], env: str, first: int, path: Path) -> None:
    """One line per variant, in the order old to new."""
    figure, axes = figures.new_figure()
    for (name, values), colour in zip(
        found.items(), (GREY, VERMILION, "#009E73", BLUE), strict=True
    ):
        points = values[: len(values) // SMOOTHED * SMOOTHED].view(-1, SMOOTHED).mean(1)
        steps = first + SMOOTHED * INTERVAL * torch.arange(1, len(points) + 1)
        axes.plot(steps, points, color=colour, linewidth=1.8, label=name)
    axes.set_yscale("log")
    axes.set_title(env)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"squared error on the next {INTERVAL} rows")
    figure.legend(title=LEGEND, loc="outside lower center", ncols=2, frameon=False, fontsize=9.0)
    figures.save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per variant, and draw them."""
    parser = OneLineParser("python bench/returns/model_fits.py", __doc__ or "")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of tom.train")
    parser.add_argument(
        "steps", nargs="?", type=int, default=20_000, metavar="STEPS",
        help="rows that are taken (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--penalty", action="store_true", help="compare penalties on the bounds")
    parser.add_argument("--update", action="store_true", help="replace the repository's own figure")
    arguments = parser.parse_args(argv)
    folder, steps = arguments.run, arguments.steps
    with refusals():
        output = folder_of(arguments.update)
        rows, layout, config = rows_of(folder)
    rows, first = rows[:, :steps], config.exploration_steps
    print(f"{folder.name}: squared error on the next {INTERVAL} rows, {first} to {steps} rows")
    heading = "penalty on the bounds" if arguments.penalty else LEGEND
    print(f"{heading:30}{'first':>10}{'second':>10}{'last third':>12}")
    found = {}
    for name, (kind, changes) in (PENALTIES if arguments.penalty else VARIANTS).items():
        torch.manual_seed(0)
        settings = dataclasses.replace(config.dynamics, members=MEMBERS, elites=MEMBERS, **changes)
        streams = RandomStreams([0], "model_fits", CPU)
        ensemble = kind(layout, settings, "sample", streams)
        found[name] = errors(ensemble, rows, first)
        thirds = [part.mean().item() for part in found[name].tensor_split(3)]
        print(f"{name:30}{thirds[0]:10.3f}{thirds[1]:10.3f}{thirds[2]:12.3f}", flush=True)
    if arguments.penalty:
        return
    picture = output / f"model_fits_{config.env}.png"
    draw(found, config.env, first, picture)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
