"""How the weights progress through a combined dataset: random half, then replay half (Figure 3)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

RANDOM, REPLAY = "random", "replay"


@dataclass(frozen=True)
class Bin:
    """Consecutive rows of one half.

    Attributes:
        half: `random` or `replay`.
        bin: its number in that half, from 1 for the oldest.
        first: its first row in the combined dataset.
        rows: how many.
        mean_weight: mean ξ*.
        mass: share of Σ ξ* over both halves.
        zero: share of its rows with ξ* = 0.
    """

    half: str
    bin: int
    first: int
    rows: int
    mean_weight: float
    mass: float
    zero: float


@dataclass(frozen=True)
class Progression:
    """The bins of both halves and what sums them up.

    Attributes:
        bins: the random half's, then the replay half's.
        mean_weight: E_D[ξ*] after clipping.
        ess_share: effective sample size (Σw)²/Σw², divided by the number of rows.
        spearman_bins: Spearman's correlation, in the replay half, of a bin's number with its mean
            weight; nan if all are equal.
        spearman_rows: the same of a row's place in time with its weight.
    """

    bins: tuple[Bin, ...]
    mean_weight: float
    ess_share: float
    spearman_bins: float
    spearman_rows: float


def progression(weights: Tensor, random_rows: int, bins: int) -> Progression:
    """Bin the weights [N] of a dataset whose first `random_rows` rows are the random half.

    Args:
        weights: at least one is positive.
        random_rows: rows of the random half, less than N.
        bins: bins per half; as equal as whole rows allow, and fewer where a half has fewer rows.
    """
    weights = weights.double()
    total = weights.sum()
    found = []
    for half, first, end in ((RANDOM, 0, random_rows), (REPLAY, random_rows, len(weights))):
        for i, part in enumerate(torch.arange(first, end).tensor_split(min(bins, end - first))):
            w = weights[part]
            found.append(
                Bin(
                    half=half,
                    bin=i + 1,
                    first=int(part[0]),
                    rows=len(part),
                    mean_weight=w.mean().item(),
                    mass=(w.sum() / total).item(),
                    zero=(w == 0).double().mean().item(),
                )
            )
    replay = weights[random_rows:]
    means = torch.tensor([b.mean_weight for b in found if b.half == REPLAY])
    return Progression(
        bins=tuple(found),
        mean_weight=weights.mean().item(),
        ess_share=(total.square() / weights.square().sum() / len(weights)).item(),
        spearman_bins=spearman(torch.arange(len(means)), means),
        spearman_rows=spearman(torch.arange(len(replay)), replay),
    )


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation of [n] and [n]; ties share their mean rank; nan if all tie."""
    ranks = torch.stack([_ranks(x), _ranks(y)])
    ranks -= ranks.mean(1, keepdim=True)
    norms = ranks.norm(dim=1)
    if not norms.all():
        return float("nan")
    return float(ranks[0] @ ranks[1] / norms.prod()) + 0.0  # without the sign of a negative zero


def _ranks(x: Tensor) -> Tensor:
    _, group, counts = x.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks: Tensor = (ends - (counts - 1) / 2)[group]
    return ranks


def write_bins(path: Path, progress: Progression) -> None:
    """Write the bins as CSV, one row each."""
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, [f.name for f in fields(Bin)])
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(b).items()}
            for b in progress.bins
        )


def summary(progress: Progression, metrics: Mapping[str, float]) -> str:
    """Two lines on how good the weights are; `metrics` are those of their computation."""
    random = [b.mean_weight for b in progress.bins if b.half == RANDOM]
    balance = metrics.get("tom/flow_balance")  # KL has none
    converged = ""
    if balance is not None:
        converged = f"; E_D[ξ*] as the dual Q's steps left it {balance:.3f} (1 at the optimum)"
    return (
        f"effective sample size {progress.ess_share:.1%} of all rows; mean ξ* "
        f"{progress.mean_weight:.3f}, random half {min(random):.3f} to {max(random):.3f}"
        f"{converged}\n"
        f"Spearman's correlation in the replay half: {progress.spearman_bins:.2f} between bin and "
        f"mean weight, {progress.spearman_rows:.2f} between place and weight of single rows"
    )


def progression_table(progress: Progression) -> Table:
    """The bins as a table for the screen."""
    table = Table(title="importance weights ξ*, oldest transitions first")
    for name in ("half", "bin", "rows", "mean ξ*", "share of Σξ*", "ξ* = 0"):
        table.add_column(name, justify="left" if name == "half" else "right")
    for b in progress.bins:
        if b.half == REPLAY and b.bin == 1:
            table.add_section()
        table.add_row(
            b.half,
            str(b.bin),
            f"{b.first:,} – {b.first + b.rows - 1:,}",
            f"{b.mean_weight:.3f}",
            f"{b.mass:.1%}",
            f"{b.zero:.1%}",
        )
    return table
