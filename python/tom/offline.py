"""Weight progression, the paper's Figure 3: `python -m tom.offline --env halfcheetah`.

A combined dataset, the first half of a random policy and the second half the whole replay of an
agent from random to expert; the trained agent as the policy of interest; ξ* for every row; and a
figure of the mean weight against the transition's place. The random half should weigh little, and
the replay half the more, the closer its policy was to the trained one.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from tom import checkpoint, cli
from tom.console import make_console, say
from tom.dataset_weights import dataset_weights
from tom.datasets import Dataset, load_dataset
from tom.dual_q import Policy
from tom.offline_config import OfflineConfig, defaults
from tom.offline_task import OfflineTask
from tom.one_line import INTERRUPTED, endings, refusals
from tom.plots import plot_progression
from tom.process import keep_freed_memory
from tom.progression import Progression, progression, progression_table, summary, write_bins
from tom.run_folder import RunFolder
from tom.settings import override
from tom.tasks import Preset
from tom.tensor_file import write_tensors
from tom.train import finish_run, open_run
from tom.training_error import writing
from tom.user_code import see_current_folder
from tom.user_path import user_path

PROGRAM = "python -m tom.offline"
DESCRIPTION = f"""\
Importance weights along a combined dataset, random half and replay half (the paper's Figure 3).
The run folder gets bins.csv, plots/weight_progression.png, and every row's weight in
weights.safetensors. The same command resumes the training of the replay half, or reuses it.

Defaults shown are those of the task and the preset; name both to see theirs:
$ {PROGRAM} --env ant --preset debug --help"""


@dataclass(frozen=True)
class Arguments:
    """The command line: a preset, and the settings that it gives values to."""

    preset: Preset = "default"
    """Where the defaults come from: default; paper, the discriminator and dual Q of (21) and (22)
    where the defaults leave them; or debug, a whole run of tiny networks in well under a minute."""
    config: Annotated[OfflineConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=OfflineConfig
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The command; Ctrl-C outside of the training, which has its own way, ends it in a line."""
    with endings():
        see_current_folder()
        run(argv)


def run(argv: Sequence[str] | None = None) -> None:
    """The two halves, the policy of interest, the weights, the figure."""
    config = parse(argv)
    keep_freed_memory()
    screen = Screen()
    with refusals():
        task = OfflineTask(config)
        random, replay = (_read(config, name, task) for name in ("random_half", "replay_half"))
        policy = _saved_policy(config, task)
        folder = RunFolder.open(config, parts=("plots",))
        folder.take_up()
    cli.print_config(config, screen.console, defaults(config.env))
    if replay is None:
        command = shlex.join([*PROGRAM.split(), *(sys.argv[1:] if argv is None else argv)])
        if not _train(config, screen, command):
            raise SystemExit(INTERRUPTED)
        source = config.training().run_dir
        with refusals():
            replay = load_dataset("replay_half", source, task.layout, task.task)
            policy = policy or task.load_actor("replay_half", source)

    if random is None:
        screen.say(f"random half: {config.transitions:,} transitions of uniformly random actions")
        random = task.random_rows()
    if policy is None:
        screen.say("policy of interest: fitted to the newest transitions of the replay half")
        policy = task.clone(replay.rows)
    random, replay = (half.thinned(config.transitions) for half in (random, replay))
    own = task.policy_rows(policy)
    task.close()
    screen.say(f"policy of interest: {own.describe()} of its own")
    dataset = random + replay
    screen.say(f"weights of {len(random.rows):,} + {len(replay.rows):,} transitions")
    with screen.console.status("training discriminator and dual Q"):
        weights, metrics = dataset_weights(
            dataset, task.layout, policy, own.rows, config.weighting()
        )

    progress = progression(weights, len(random.rows), config.bins)
    with writing(f"the results in {folder.path}"):
        _write(folder.path, weights, progress)
        plot_progression(folder.plots / "weight_progression.png", progress, _title(config, own))
    screen.console.print(progression_table(progress))
    screen.say(summary(progress, metrics))
    screen.say(f"bins, weights and the plot are in {folder.path}")


class Screen:
    """Lines of plain text and tables."""

    def __init__(self) -> None:
        self.console = make_console()

    def say(self, text: str) -> None:
        """Print text as it is."""
        say(self.console, text)


def parse(argv: Sequence[str] | None = None) -> OfflineConfig:
    """Read the command line, as :func:`tom.cli.parse` does."""
    config, preset = cli.read(argv, Arguments, PROGRAM, DESCRIPTION, defaults)
    if config.run_dir:
        return config
    task = "-".join([config.env, *config.env_args])
    name = f"{task}-offline-{config.transitions}-seed{config.seed}"
    return override(config, {"run_dir": cli.run_dir_named(name, preset)})


def _read(config: OfflineConfig, name: str, task: OfflineTask) -> Dataset | None:
    """The half that a setting names; None if it is to be made."""
    source: str = getattr(config, name)
    return load_dataset(name, source, task.layout, task.task) if source else None


def _saved_policy(config: OfflineConfig, task: OfflineTask) -> Policy | None:
    """The policy that --policy names, or that comes with a run folder as the replay half."""
    if config.policy:
        return task.load_actor("policy", config.policy)
    half = config.replay_half
    if half and user_path(half, f"replay_half: given {half}").is_dir():
        return task.load_actor("replay_half", half)
    return None


def _train(config: OfflineConfig, screen: Screen, command: str) -> bool:
    """Train SAC from its newest checkpoint to the end; whether it got there."""
    training = config.training()
    with refusals():
        saved = checkpoint.steps(RunFolder.open(training).checkpoints)
        if saved and saved[-1] >= training.steps:
            screen.say(f"replay half: the finished run in {training.run_dir}")
            return True
        screen.say(f"replay half: soft actor-critic, {training.steps:,} steps")
        run, folder, log = open_run(training, screen.console)
    return finish_run(run, folder, log, screen.console, command)


def _write(path: Path, weights: torch.Tensor, progress: Progression) -> None:
    write_tensors(path / "weights.safetensors", {"weights": weights.contiguous()})
    write_bins(path / "bins.csv", progress)


def _title(config: OfflineConfig, own: Dataset) -> str:
    policy = "the policy of interest"
    if own.mean_return is not None:
        policy = f"a policy of return {own.mean_return:,.0f}".replace("-", "−")
    return f"{config.env}: importance weights for {policy}"


if __name__ == "__main__":
    main()
