"""Train TOM, PMAC or MBPO: `python -m tom.train --env hopper`.

The loop below is Algorithm 2; every line of it is a part with a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from tom import cli
from tom.config import ConfigError
from tom.experiment import Experiment
from tom.interrupt import Interrupt
from tom.logger import Logger
from tom.plots import plot_returns, plot_weight_age
from tom.policy_batches import policy_batches
from tom.run_folder import RunFolder
from tom.weighting import weight_metrics


def train(run: Experiment, log: Logger, folder: RunFolder, interrupt: Interrupt) -> None:
    """Run Algorithm 2 from `run.step` to the last step, or until interrupted."""
    config, replays, policy = run.config, run.replays, run.sac
    while run.step < config.steps and not interrupt.requested:
        exploring = run.step < config.exploration_steps

        if run.due(config.iteration_interval, since=config.exploration_steps):
            with log.phase("weights"):  # discriminator, dual Q, ξ* = f*'(δ); or uniform; or by age
                weights, metrics = run.weighting.update(
                    replays, run.initial_states.sample, policy.act
                )
                metrics |= weight_metrics(
                    weights, replays.ages(), config.discriminator.current_rows
                )
            with log.phase("dynamics"):  # maximum likelihood on minibatches drawn by weight
                metrics |= run.dynamics.fit(replays, weights)
            with log.phase("rollouts"):  # k model steps from states drawn by weight
                _, rows = replays.sample(config.rollout.starts)
                starts = rows[..., replays.layout.observation]
                run.model_buffer.extend(run.rollouts.run(starts, policy.act))
            log.record_all(metrics)

        with log.phase("environment"):  # act, append the row to the buffer
            if exploring:
                actions = run.collector.random_actions()
            else:
                actions = policy.act(run.collector.observations.unsqueeze(1))[:, 0]
            replays.append(run.collector.step(actions))
        run.step += 1

        if not exploring:
            with log.phase("policy"):  # G updates of SAC on model rows with a share of real ones
                batches = policy_batches(
                    replays, run.model_buffer, config, run.collector.lowest_reward
                )
                for batch in batches:
                    metrics = policy.update(batch)

        log.step(run.step)
        evaluate = run.due(config.evaluation.interval) or run.step == config.steps
        if evaluate:
            with log.phase("evaluation"):
                log.record_all(run.evaluation.run(run.step, policy.act_deterministically))
        if evaluate or run.due(config.iteration_interval):
            if not exploring and config.updates_per_step:
                log.record_all(metrics)
            log.record_all(run.collector.metrics())
            log.dump(run.step)
        if run.due(config.checkpoint_interval):
            with log.phase("checkpoint"):
                run.save(folder, {"logger": log.state_dict()})

    run.save(folder, {"logger": log.state_dict()})


def main(argv: Sequence[str] | None = None) -> None:
    """The command: parse, train, plot."""
    try:
        config = cli.parse(argv)
        run = Experiment(config)
        folder = RunFolder.open(config)
    except (ConfigError, ValueError) as error:
        cli.fail(str(error))
    cli.print_config(config)
    extra = run.load(folder) if folder.resuming else None
    with Logger(folder, config, start_step=run.step) as log, Interrupt() as interrupt:
        if extra:
            log.load_state_dict(extra["logger"])
            log.message(f"resuming {folder.path} at step {run.step}")
        train(run, log, folder, interrupt)
        stopped = run.step < config.steps
        if stopped:
            log.message(
                f"stopped at step {run.step} of {config.steps}; the same command resumes: "
                f"python -m tom.train {cli.command_line(config)}"
            )
    plot_weights(run, folder)
    plot_returns(folder.path)
    run.close()
    print(f"curves and plots are in {folder.path}")


def plot_weights(run: Experiment, folder: RunFolder) -> None:
    """Draw each seed's weights against the age of the row."""
    for seed, buffer in zip(run.seeds, run.replays.buffers, strict=True):
        plot_weight_age(
            folder.plots / f"weight_age_seed_{seed}.png",
            buffer.ages,
            buffer.weights,
            f"{run.config.env}, {run.config.algorithm}, seed {seed}, step {run.step}",
        )


if __name__ == "__main__":
    main()
