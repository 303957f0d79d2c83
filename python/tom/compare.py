"""Compare runs of one task: `python -m tom.compare runs/hopper-tom-seed0 runs/hopper-mbpo-seed0`.

Seeds of all runs with the same label are one group: a curve in the figure and a line in the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from tom import figures
from tom.config import Config
from tom.console import make_console, say
from tom.figures import ALGORITHM_COLOURS, GREY, PALETTE, FloatArray
from tom.names import label_of
from tom.one_line import endings, refusals
from tom.one_line_parser import OneLineParser
from tom.returns import Curve, RunReturns, on_common_steps, read_returns
from tom.settings import ConfigError, among, override
from tom.user_path import user_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROGRAM = "python -m tom.compare"
DESCRIPTION = f"""\
Draw evaluation return against environment steps for runs of one task, and print their means.
Runs with the same label are pooled, all their seeds; the label is the algorithm's name, or the one
that is given. Shown are the mean over a label's seeds, its 95 % confidence interval (Student's t)
and, of up to three labels, each seed, on the steps at which all seeds of a label were evaluated.

$ {PROGRAM} runs/hopper-tom-seed0to2 runs/hopper-mbpo-seed0to2
$ {PROGRAM} runs/hopper-tom-seed0 "TOM, kl=runs/kl-seed0" "TOM, kl=runs/kl-seed1\""""

# Settings that may differ within a label without a word, beside those with which a run may go on:
# which seeds, how long, and where.
INCIDENTAL = frozenset({"env", "seed", "seeds", "steps", "device"})
QUARTERS = 4
CLEAR = 3  # labels beside which a line for each seed can still be told apart
KINDS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Group:
    """The pooled seeds of all runs with one label.

    Attributes:
        label: how figure and table name it.
        runs: its runs.
        steps: `[T]` at which all its seeds were evaluated.
        returns: `[S, T]` their mean returns.
    """

    label: str
    runs: Sequence[RunReturns]
    steps: FloatArray
    returns: FloatArray

    def differences(self) -> list[str]:
        """Names of the settings in which its runs differ, and which may have changed the curves."""
        settings = [dict(_leaves(run.config)) for run in self.runs]
        common = [name for name in settings[0] if all(name in other for other in settings)]
        free = [override(Config(), {"algorithm": run.algorithm}).free for run in self.runs]
        return [
            name
            for name in common
            if name not in INCIDENTAL
            and not all(among(name, names) for names in free)
            and any(s[name] != settings[0][name] for s in settings)
        ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command: writes the figure, prints the table.

    Raises:
        SystemExit: status 2 after one sentence on stderr; no file has been written.
    """
    with endings():
        compare(argv)


def compare(argv: Sequence[str] | None = None) -> None:
    """Parse, read, draw, print."""
    parser = OneLineParser(PROGRAM, DESCRIPTION)
    parser.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="run folder of tom.train (or tom.offline), or LABEL=FOLDER",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("comparison.png"), metavar="FILE",
        help="the figure, .png, .pdf or .svg (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    console = make_console()
    with refusals():
        groups = read_groups(arguments.runs)
        path = plot_comparison(arguments.output, groups)
    say(console, table_title(groups))
    console.print(comparison_table(groups, table_steps(groups)))
    for group in groups:
        if names := group.differences():
            more = f" and {len(names) - 3} more settings" if len(names) > 3 else ""
            say(console, f"runs of {group.label} differ in {', '.join(names[:3])}{more}")
    say(console, f"the figure is in {path}")


def read_groups(given: Sequence[str]) -> list[Group]:
    """The runs of a command line, pooled by label, in the order given.

    Args:
        given: run folders, or `LABEL=FOLDER`.

    Raises:
        ConfigError: no run, runs of several tasks, a seed that a label has twice, seeds of a label
            that share no step, or more labels than colours.
    """
    runs: dict[str, list[RunReturns]] = {}
    first: RunReturns | None = None
    for argument in given:
        label, path = _split(argument)
        run = read_returns(path, f"runs: given {path}")
        first = first or run
        if not run.task.same_as(first.task):
            raise ConfigError(
                f"runs: given {first.path} of {first.task_text} and {path} of {run.task_text}, "
                f"allowed are runs of one task"
            )
        runs.setdefault(label or label_of(run.algorithm), []).append(run)
    if len(runs) > len(PALETTE):
        raise ConfigError(f"runs: given {len(runs)} labels, allowed are at most {len(PALETTE)}")
    return [_pool(label, members) for label, members in runs.items()]


def table_steps(groups: Sequence[Group]) -> list[int]:
    """The steps of the table: the last one of all, the last that all labels have, and the quarters.

    Near a quarter it is a step that as many labels as possible have. No label is without a step.
    """
    labels = Counter(int(step) for group in groups for step in group.steps)
    last = max(labels)
    chosen = {last, *sorted(step for step, n in labels.items() if n == len(groups))[-1:]}
    for i in range(1, QUARTERS):
        quarter = last * i / QUARTERS
        near = [step for step in labels if abs(step - quarter) <= last / QUARTERS / 2]
        if near:
            chosen.add(max(near, key=lambda step: (labels[step], -abs(step - quarter))))
    ends = (int(g.steps[-1]) for g in groups if chosen.isdisjoint(g.steps.tolist()))
    return sorted(chosen.union(ends))


def table_title(groups: Sequence[Group]) -> str:
    """What the table's numbers are."""
    task, quantity = groups[0].runs[0].task_text, _quantity(groups)
    return f"{task}: {quantity} after … steps, mean ± standard deviation (divisor S) over S seeds"


def comparison_table(groups: Sequence[Group], steps: Sequence[int]) -> Table:
    """Mean ± standard deviation over the seeds at some steps, a line per group.

    The deviation is that of the given seeds (divisor S), as in published tables; one seed has none.

    Args:
        groups: the lines.
        steps: the columns; a group that lacks one has a dash there.
    """
    table = Table()
    table.add_column("")
    table.add_column("seeds", justify="right")
    for step in steps:
        table.add_column(figures.grouped(step), justify="right")
    cells = [[group.returns[:, group.steps == step] for step in steps] for group in groups]
    largest = np.nanmax([1.0, *(np.abs(cell).max() for row in cells for cell in row if cell.size)])
    digits = 0 if largest >= 100 else 1 if largest >= 10 else 2
    for group, row in zip(groups, cells, strict=True):
        texts = [_mean_spread(cell, digits) for cell in row]
        # As Text, because brackets in a label are no markup.
        table.add_row(*map(Text, (group.label, str(len(group.returns)), *texts)))
    return table


def _mean_spread(returns: FloatArray, digits: int) -> str:
    """Mean ± deviation of the seeds' returns at one step [S, 1], or a dash where there are none."""
    if not returns.size:
        return "–"
    mean = returns.mean().round(digits) + 0.0  # which turns −0 into 0
    text = f"{mean:,.{digits}f}".replace("-", "−")
    return text if len(returns) == 1 else f"{text} ± {returns.std():,.{digits}f}"


def plot_comparison(path: Path, groups: Sequence[Group]) -> Path:
    """Draw the groups' returns against environment steps, a colour each.

    Args:
        path: the file to write; its ending says of which kind.
        groups: what is drawn.

    Returns:
        `path`.

    Raises:
        ConfigError: an ending that matplotlib does not know, or a file that cannot be written.
    """
    figure, axes = figures.new_figure()
    if path.suffix.lower() not in KINDS:
        raise ConfigError(f"output: given {path}, allowed are files that end in {', '.join(KINDS)}")
    each = len(groups) <= CLEAR
    for group, colour in zip(groups, _colours(groups), strict=True):
        seeds = len(group.returns)
        # matplotlib reads text between dollars as mathematics.
        label = f"{group.label}, {seeds} seed{'s' if seeds > 1 else ''}".replace("$", r"\$")
        figures.draw_seeds(
            axes, group.steps, group.returns, label, colour, explain=False, each=each
        )
    if any(len(group.returns) > 1 for group in groups):
        _explain(axes, each=each)
    last = max(group.steps[-1] for group in groups)
    figures.limit_to_curves(axes, last, [group.returns for group in groups])
    axes.yaxis.set_major_formatter(figures.grouped)
    figures.set_title(axes, groups[0].runs[0].task_text)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_quantity(groups))
    figures.draw_legend(figure, columns=2)
    try:
        return figures.save(figure, path)
    except OSError as error:
        raise ConfigError(
            f"output: given {path}, which cannot be written ({error.strerror}), allowed is a file "
            f"that can"
        ) from error


def _split(argument: str) -> tuple[str, Path]:
    """Label, empty if none is given, and folder; a folder's own name may have an equals sign."""
    given = f"runs: given {argument}"
    path = user_path(argument, given)
    if "=" not in argument or path.exists():
        return "", path
    label, _, folder = argument.partition("=")
    label = label.strip()
    # matplotlib leaves labels that begin with an underscore out of its legends.
    if not label or label.startswith("_"):
        raise ConfigError(
            f"{given}, allowed are FOLDER and LABEL=FOLDER with a label that is not "
            f"empty and does not begin with an underscore"
        )
    return label, user_path(folder, given)


def _pool(label: str, runs: Sequence[RunReturns]) -> Group:
    curves: dict[int, Curve] = {}
    for run in runs:
        for seed, curve in run.curves.items():
            # Twice the same seed is no second sample: the interval would be too narrow.
            if seed in curves:
                raise ConfigError(
                    f"runs: given seed {seed} of {label} twice, the second time in {run.path}, "
                    f"allowed is each seed once per label; LABEL=FOLDER gives another label"
                )
            curves[seed] = curve
    steps, returns = on_common_steps(curves.values())
    if not len(steps):
        raise ConfigError(
            f"runs: given {label}, whose seeds were evaluated at no common step, allowed are runs "
            f"that were"
        )
    return Group(label, runs, steps, returns)


def _colours(groups: Sequence[Group]) -> list[str]:
    """Its algorithm's colour for the first group of each, what is left for the others."""
    found: dict[str, str] = {}
    for group in groups:
        colour = ALGORITHM_COLOURS.get(group.runs[0].algorithm)
        if colour and colour not in found.values():
            found[group.label] = colour
    free = (colour for colour in PALETTE if colour not in found.values())
    return [found[g.label] if g.label in found else next(free) for g in groups]


def _explain(axes: Axes, *, each: bool) -> None:
    """Legend entries, in grey, for what every colour has."""
    if each:
        axes.plot([], [], color=GREY, label=figures.SEED_LABEL, **figures.SEED_STYLE)
    # Darker than one band, as bands lie upon each other.
    style = {**figures.BAND_STYLE, "alpha": 0.25}
    axes.fill_between([], [], [], color=GREY, label=figures.BAND_LABEL, **style)


def _quantity(groups: Sequence[Group]) -> str:
    """What returns are means of."""
    settings = [run.config.get("evaluation", {}) for group in groups for run in group.runs]
    episodes = {evaluation.get("episodes") for evaluation in settings}
    count = f"{episodes.pop()} episodes" if len(episodes) == 1 else "an evaluation's episodes"
    return f"mean return of {count}"


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


if __name__ == "__main__":
    main()
