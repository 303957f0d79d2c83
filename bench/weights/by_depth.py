"""The weights of a replay half by how long the episode had lasted.

    python bench/weights/by_depth.py RUN_FOLDER

takes a folder of tom.offline that trained its own agent. One line per tenth of the replay half: the
mean weight of all its rows, then of the rows in each range of steps since their episode began, with
their share of the tenth.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tom.datasets import load_dataset
from tom.rows import RowLayout
from tom.saved_run import find_run
from tom.task_env import layout_of, make_env

LIMITS = (0, 50, 200, 1 << 62)
BINS = 10


def depths(rows: Tensor, layout: RowLayout) -> Tensor:
    """Steps since the episode began, int64 [N], of rows [N, W] in the order they came."""
    places = torch.arange(len(rows))
    begins = torch.ones(len(rows), dtype=torch.bool)
    follows = rows[1:, layout.observation] == rows[:-1, layout.next_observation]
    begins[1:] = ~follows.all(1)
    return places - torch.where(begins, places, 0).cummax(0).values


def main(folder: Path) -> None:
    """Print the table."""
    config = find_run(folder / "sac", f"run: given {folder}").config
    env = make_env(config, 1, 1)
    layout = layout_of(env)
    env.close()
    rows = load_dataset("run", str(folder / "sac"), layout).rows
    (weights,) = load_file(folder / "weights.safetensors").values()
    depth, weights = depths(rows, layout), weights.flatten().double()[-len(rows) :]
    ranges = list(itertools.pairwise(LIMITS))
    names = [f"{low} to {high - 1}" for low, high in ranges[:-1]] + [f"from {LIMITS[-2]}"]
    print(f"tenth      all{''.join(f'{name:>18}' for name in names)}")
    tenths = zip(weights.tensor_split(BINS), depth.tensor_split(BINS), strict=True)
    for i, (w, d) in enumerate(tenths):
        inside = [(d >= low) & (d < high) for low, high in ranges]
        cells = "".join(f"{w[m].mean():9.2f} ({m.double().mean():5.1%})" for m in inside)
        print(f"{i + 1:5d} {w.mean():8.2f}{cells}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
