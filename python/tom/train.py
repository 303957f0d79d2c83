"""Train TOM, PMAC, MBPO or plain SAC: `python -m tom.train --env hopper`.

The loop below is Algorithm 2; every line of it is a part with a file of its own.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import torch
from rich.console import Console

from tom import cli, kernels
from tom.config import Config
from tom.console import make_console, say
from tom.evaluation import LONGEST_EPISODE
from tom.experiment import Experiment
from tom.interrupt import Interrupt
from tom.live_curve import LiveCurve
from tom.logger import Logger
from tom.names import label_of
from tom.one_line import INTERRUPTED, endings, refusals
from tom.plots import plot_returns, plot_weight_age
from tom.policy_batches import policy_batches
from tom.process import keep_freed_memory
from tom.rollouts import rows_kept
from tom.run_folder import RunFolder
from tom.tasks import defaults
from tom.training_error import TrainingError, writing
from tom.user_code import see_current_folder
from tom.weighting import defensive_mixture, effective_sample_size, weight_metrics


def train(run: Experiment, log: Logger, folder: RunFolder, interrupt: Interrupt) -> None:
    """Run Algorithm 2 from `run.step` to the last step, or until interrupted."""
    config, replays, policy = run.config, run.replays, run.sac
    curve = LiveCurve(folder.path, log.message)
    while run.step < config.steps and not interrupt.requested:
        exploring = run.step < config.exploration_steps

        with log.phase("environment"):  # act, append the row to the buffer
            if exploring:
                actions = run.collector.random_actions()
            else:
                actions = policy.act(run.collector.observations.unsqueeze(1))[:, 0]
            replays.append(run.collector.step(actions))
        run.step += 1

        iterate = run.due(config.iteration_interval, since=config.exploration_steps)
        if iterate and config.model_based:
            with log.phase("weights"):  # discriminator, dual Q, ξ* = f*'(δ); or uniform; or by age
                weights, of_weights = run.weighting.update(
                    replays, run.initial_states.sample, policy.act
                )
                log.record_all(of_weights)
                current_rows = config.discriminator.current_rows
                log.record_all(weight_metrics(weights, replays.ages(), current_rows))
                weights = defensive_mixture(weights, run.weighting.uniform_share)
                log.record_all({"tom/ess_drawn": effective_sample_size(weights)})
            with log.phase("dynamics"):  # maximum likelihood on minibatches drawn by weight
                log.record_all(run.dynamics.fit(replays, weights))
            with log.phase("rollouts"):  # k model steps from states drawn by weight
                replays.set_weights(weights)
                _, rows = replays.sample(config.rollout.starts)
                starts = rows[..., replays.layout.observation]
                length = config.rollout.length_at(run.step)
                run.model_buffer.resize(rows_kept(config, length))
                run.model_buffer.extend(run.rollouts.run(starts, policy.act, length))

        if not exploring and config.updates_per_step:
            with log.phase("policy"):  # G updates of SAC on model rows with a share of real ones
                batches = policy_batches(
                    replays, run.model_buffer, config, run.collector.lowest_reward
                )
                updated = policy.update(batches)

        log.step(run.step)
        evaluate = run.due(config.evaluation.interval) or run.step == config.steps
        if evaluate:
            with log.phase("evaluation"):
                log.record_all(run.evaluation.run(run.step, policy.act_deterministically))
        if evaluate or iterate or (exploring and run.due(config.iteration_interval)):
            if not exploring and config.updates_per_step:
                log.record_all(updated)
            log.record_all(run.collector.metrics())
            log.dump(run.step)
        if evaluate:
            with log.phase("plots"):
                curve.update()
        if run.due(config.checkpoint_interval) and run.step < config.steps:
            with log.phase("checkpoint"):
                run.save(folder, {"logger": log.state_dict()})

    run.save(folder, {"logger": log.state_dict()})


def main(argv: Sequence[str] | None = None) -> None:
    """The command; what ends it before its time, such as a second Ctrl-C, does so in a line.

    Raises:
        SystemExit: unless the run has got to its last step, so that a loop of runs in Python ends
            too.
    """
    with endings():
        see_current_folder()
        run(argv)


def run(argv: Sequence[str] | None = None) -> None:
    """Parse, train, plot."""
    argv = list(sys.argv[1:] if argv is None else argv)
    config = cli.parse(argv)
    keep_freed_memory()
    console = make_console()
    with refusals():
        parts, folder, log = open_run(config, console)
    cli.print_config(config, console, defaults(config.env))
    cli.print_unused(config, console, argv)
    command = shlex.join(["python", "-m", "tom.train", *argv])
    finished = finish_run(parts, folder, log, console, command)
    say(console, f"metrics, checkpoints and plots are in {folder.path}")
    if not finished:
        raise SystemExit(INTERRUPTED)


def open_run(config: Config, console: Console) -> tuple[Experiment, RunFolder, Logger]:
    """A new run, or that of the same configuration in `config.run_dir` at its newest checkpoint.

    Raises:
        ValueError: one sentence on what cannot be used. Nothing has been written.
        TrainingError: the metrics cannot be written.
    """
    run = Experiment(config)
    folder = RunFolder.open(config)
    resumed = run.load(folder) if folder.resuming else None
    folder.take_up()
    begun = folder.metrics.exists()
    with writing(f"the metrics in {folder.path}"):
        log = Logger(folder, config, run.step, console)
    if resumed:
        log.load_state_dict(resumed["logger"])
    elif begun:
        log.message(f"{folder.path} has no checkpoint yet; beginning again")
    if advice := kernels.advice(
        torch.device(config.device), config.precision, config.fused_kernels
    ):
        log.message(advice)
    if not run.evaluation.limited:
        log.message(
            f"{config.env} is registered without a time limit: an evaluation episode that does not "
            f"end is cut after {LONGEST_EPISODE:,} steps; max_episode_steps of gymnasium.register "
            f"sets a limit"
        )
    return run, folder, log


def finish_run(
    run: Experiment, folder: RunFolder, log: Logger, console: Console, command: str
) -> bool:
    """Train to the last step or until interrupted, plot, and free the simulators.

    Args:
        run: the parts, with `folder` and `log` as :func:`open_run` made them.
        folder: its folder.
        log: its metrics.
        console: where the profile is printed and, after an interruption, `command`.
        command: what resumes the run.

    Returns:
        Whether the last step was reached.

    Raises:
        TrainingError: the run cannot go on.
    """
    if run.step >= run.config.steps:
        log.message(f"{folder.path} is finished at step {run.step}; a larger --steps goes on")
    elif run.step:
        log.message(f"resuming {folder.path} at step {run.step}")
    with log, Interrupt(log.message) as interrupt:
        try:
            train(run, log, folder, interrupt)
        except TrainingError as error:
            raise TrainingError(f"step {run.step}: {error}") from error
        profile = log.profile()
    with writing("the figures"):
        if run.config.model_based:
            plot_weights(run, folder)
        say(console, f"the learning curve is {plot_returns(folder.path)}")
    run.close()
    finished = run.step >= run.config.steps
    if not finished:
        say(console, f"stopped at step {run.step} of {run.config.steps}; resume with: {command}")
    if run.config.profile and profile is not None:
        console.print(profile)
    return finished


def plot_weights(run: Experiment, folder: RunFolder) -> None:
    """Draw each seed's weights against the age of the row, as the last iteration left them."""
    config = run.config
    learned = run.step - config.exploration_steps
    if learned < 0:
        return
    later = learned % config.iteration_interval  # rows that it has not seen
    for seed, buffer in zip(run.seeds, run.replays.buffers, strict=True):
        weighed = buffer.ages >= later
        if not weighed.any():  # the buffer is smaller than the interval
            continue
        plot_weight_age(
            folder.plots / f"weight_age_seed_{seed}.png",
            buffer.ages[weighed] - later,
            buffer.weights[weighed],
            f"{config.env}, {label_of(config.algorithm)}, seed {seed}, step {run.step - later:,}",
        )


if __name__ == "__main__":
    main()
