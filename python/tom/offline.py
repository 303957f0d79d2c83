"""Weight progression, the paper's Figure 3: `python -m tom.offline --env halfcheetah`.

A combined dataset, the first half of a random policy and the second half the whole replay of an
agent from random to expert; the trained agent as the policy of interest; ξ* for every row; and a
figure of the mean weight against the transition's place. The random half should weigh little, and
the replay half the more, the closer its policy was to the trained one.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from tom import checkpoint, cli
from tom.cloning import clone_policy
from tom.collection import collect
from tom.datasets import Dataset, load_dataset
from tom.experiment import make_env
from tom.gym_vector import box
from tom.initial_states import InitialStates
from tom.offline_config import OfflineConfig, defaults
from tom.plots import plot_progression
from tom.process import keep_freed_memory, use_threads
from tom.progression import (
    RANDOM,
    Progression,
    progression,
    progression_table,
    write_bins,
)
from tom.replays import Replays
from tom.rows import RowLayout
from tom.run_folder import RunFolder
from tom.saved_run import load_actor
from tom.settings import override
from tom.streams import RandomStreams
from tom.tasks import Preset
from tom.train import finish_run, open_run
from tom.weighting import OccupancyWeighting

PROGRAM = "python -m tom.offline"
DESCRIPTION = f"""\
Importance weights of a combined dataset, random half and replay half (the paper's Figure 3): mean
weight per bin as a table, as bins.csv and as a bar plot; every row's weight in weights.safetensors.
The same command resumes the training of the replay half, and reuses it.

Defaults shown are those of the task and the preset; name both to see theirs:
$ {PROGRAM} --env ant --preset debug --help"""

Policy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arguments:
    """The command line: a preset, and the settings that it gives values to."""

    preset: Preset = "paper"
    """Where the defaults come from: the paper's sizes, or debug, a whole run of tiny networks in
    well under a minute."""
    config: Annotated[OfflineConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=OfflineConfig
    )


class Task:
    """The configured task: its layout, its bounds, and rows of any policy in it."""

    def __init__(self, config: OfflineConfig) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self._env = make_env(config, config.num_envs, use_threads(config.threads))
        space = box(self._env.single_action_space)
        self.low, self.high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        size = box(self._env.single_observation_space).shape[0]
        self.layout = RowLayout(size, space.shape[0])

    def streams(self, purpose: str) -> RandomStreams:
        """One random stream on the learning device."""
        return RandomStreams([self.config.seed], purpose, self.device)

    def random_rows(self) -> Dataset:
        """The random half: uniform actions between the bounds."""
        streams = RandomStreams([self.config.seed], "random_half", torch.device("cpu"))

        def act(observations: Tensor) -> Tensor:
            u = streams.uniform(len(observations), self.layout.action_size)[0]
            return self.low + u * (self.high - self.low)

        return collect(self._env, self.layout, act, self.config.transitions, self.config.seed, 0)

    def policy_rows(self, policy: Policy) -> Dataset:
        """The policy's own rows, for the discriminator."""

        def act(observations: Tensor) -> Tensor:
            return policy(observations.to(self.device).unsqueeze(0))[0].cpu()

        count = self.config.discriminator.current_rows
        return collect(self._env, self.layout, act, count, self.config.seed, 1)

    def load_actor(self, name: str, source: str) -> Policy:
        """The actor in a run folder that the setting `name` gives."""
        path, given = Path(source).expanduser(), f"{name}: given {source}"
        actor_streams = self.streams("policy")
        return load_actor(path, given, self.layout, self.low, self.high, actor_streams)

    def clone(self, rows: Tensor) -> Policy:
        """A policy fitted to the newest of these rows."""
        newest = rows[-self.config.discriminator.current_rows :]
        sac, streams = self.config.sac, self.streams("policy")
        return clone_policy(newest, self.layout, self.low, self.high, sac, streams)


def weigh(
    task: Task, dataset: Dataset, policy: Policy, current: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """ξ* of every row of a dataset: discriminator, dual Q, f*'(δ).

    Args:
        task: the task, with the settings.
        dataset: N rows.
        policy: the policy of interest.
        current: its own rows [n, W].

    Returns:
        Weights [N] on the CPU, and the metrics of the two trainings.
    """
    config = task.config
    replays = Replays(task.layout, len(dataset.rows), [config.seed], task.device)
    replays.buffers[0].append(dataset.rows)
    initial_states = InitialStates(task.layout.observation_size, task.streams("initial_states"))
    for state in dataset.initial_states:
        initial_states.append(0, state)
    weighting = OccupancyWeighting(task.layout, config.weighting(), [config.seed], task.device)
    own = current.unsqueeze(0).to(task.device)
    weights, metrics = weighting.update(replays, initial_states.sample, policy, own)
    return weights[0].cpu(), {name: value.item() for name, value in metrics.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """The command: parse, make the dataset, weigh it, print and draw."""
    config, preset = cli.read(argv, Arguments, PROGRAM, DESCRIPTION, defaults)
    if not config.run_dir:
        config = override(config, {"run_dir": default_run_dir(config, preset)})
    keep_freed_memory()
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    try:
        task = Task(config)
        read = {
            name: load_dataset(name, source, task.layout).thinned(config.transitions)
            for name in ("random_half", "replay_half")
            if (source := getattr(config, name))
        }
        policy = task.load_actor("policy", config.policy) if config.policy else None
        folder = RunFolder.open(config, parts=())
        cli.print_config(config, console)
        if not config.replay_half:
            command = [*PROGRAM.split(), *(sys.argv[1:] if argv is None else argv)]
            if not _train_replay(config, console, shlex.join(command)):
                return
            source = f"{folder.path}/sac"
            read["replay_half"] = load_dataset("replay_half", source, task.layout)
            policy = policy or task.load_actor("policy", source)
        elif policy is None and Path(config.replay_half).expanduser().is_dir():
            policy = task.load_actor("replay_half", config.replay_half)
    except ValueError as error:
        cli.fail(str(error))

    if not config.random_half:
        say(f"random half: {config.transitions:,} transitions of uniformly random actions")
        read["random_half"] = task.random_rows()
    halves = [read[name] for name in ("random_half", "replay_half")]
    dataset = Dataset(
        torch.cat([half.rows for half in halves]),
        torch.cat([half.initial_states for half in halves]),
    )
    if policy is None:
        say("policy of interest: fitted to the newest transitions of the replay half")
        policy = task.clone(halves[1].rows)
    own = task.policy_rows(policy)
    say(f"policy of interest: {describe(own)}")
    n = [len(half.rows) for half in halves]
    say(f"weights of {n[0]:,} + {n[1]:,} transitions: discriminator, dual Q, ξ*")
    with console.status("training discriminator and dual Q"):
        weights, metrics = weigh(task, dataset, policy, own.rows)
    progress = progression(weights, n[0], config.bins)
    save_file({"weights": weights.contiguous()}, folder.path / "weights.safetensors")
    write_bins(folder.path / "bins.csv", progress)
    plot_progression(folder.plots / "weight_progression.png", progress, title(config))
    console.print(progression_table(progress))
    say(summary(progress, metrics))
    say(f"bins, weights and the plot are in {folder.path}")


def _train_replay(config: OfflineConfig, console: Console, command: str) -> bool:
    """Train SAC to the end, from its newest checkpoint; whether it got there."""
    training = config.training()
    path = RunFolder.open(training).checkpoints
    if (checkpoint.steps(path) or [0])[-1] >= training.steps:
        console.print(f"replay half: the finished run in {path.parent}", soft_wrap=True)
        return True
    console.print(f"replay half: soft actor-critic, {training.steps:,} steps", soft_wrap=True)
    run, folder, log = open_run(training, console)
    return finish_run(run, folder, log, console, command)


def default_run_dir(config: OfflineConfig, preset: Preset) -> str:
    """`runs/ENV-offline-TRANSITIONS-seedK`; a debug run gets a folder of its own."""
    name = f"{config.env}-offline-{config.transitions}-seed{config.seed}"
    if preset != "paper":
        name += f"-{preset}"
    return "runs/" + re.sub(r"[^\w.-]+", "-", name)


def describe(own: Dataset) -> str:
    """What the policy earns in its own rows."""
    text = f"{len(own.rows):,} transitions of its own"
    if not own.returns:
        return f"{text}, no episode ended"
    mean = sum(own.returns) / len(own.returns)
    return f"{text}, mean return {mean:.0f} over {len(own.returns)} episodes"


def summary(progress: Progression, metrics: dict[str, float]) -> str:
    """The figures that say how good the weights are."""
    random = [b.mean_weight for b in progress.bins if b.half == RANDOM]
    return (
        f"effective sample size {progress.ess_share:.1%} of all rows; mean ξ* "
        f"{progress.mean_weight:.3f}, random half {min(random):.3f} to {max(random):.3f}; flow "
        f"balance {metrics.get('tom/flow_balance', float('nan')):.3f} (1 at the optimum)\n"
        f"Spearman's correlation in the replay half: {progress.spearman_bins:.2f} between bin and "
        f"mean weight, {progress.spearman_rows:.2f} between place and weight of single rows"
    )


def title(config: OfflineConfig) -> str:
    """What the figure shows."""
    return f"{config.env}: weights for the trained policy"


if __name__ == "__main__":
    main()
