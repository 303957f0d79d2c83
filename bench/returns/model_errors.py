"""What weights do for the model: fit models to one buffer under several, test on the next rows.

Takes the two newest checkpoints of a run. The buffer and the policy are those of the earlier; the
rows that the run appended after it are the policy's own, and no model has seen them. For each
weighting small ensembles are fitted from fresh parameters, and their errors on the next 250 rows
(one iteration) and on all later ones are printed, means over seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tom import checkpoint
from tom.config import override
from tom.dynamics import DynamicsEnsemble
from tom.experiment import Experiment
from tom.one_line import refusals
from tom.one_line_parser import OneLineParser
from tom.run_folder import find_folder
from tom.saved_run import find_run
from tom.settings import ConfigError
from tom.state import stack_seeds
from tom.streams import RandomStreams
from tom.weighting import OccupancyWeighting, defensive_mixture, effective_sample_size

SEEDS = 3
UPDATES = 5  # of discriminator and dual Q on the same buffer, which a run has taken before
SHARES = (0.0, 0.1, 0.3, 0.5, 1.0)  # of uniform weight; 1 is an unweighted model
VARIANTS = {
    "chi2": {},
    "chi2, penalty 10": {"discriminator.gradient_penalty": 10.0},
    "chi2, penalty 0": {"discriminator.gradient_penalty": 0.0},
    "kl": {"divergence": "kl"},
}
FIT = {"members": 2, "elites": 2, "epochs": 15, "patience": 50, "learning_rate": 1e-3}


def errors(run: Experiment, weights: Tensor, later: Tensor) -> list[float]:
    """Squared error and NLL on the next iteration's rows, then on all later ones."""
    config = dataclasses.replace(run.config.dynamics, **FIT)
    found = []
    for seed in range(SEEDS):
        streams = RandomStreams([seed], "model_errors", torch.device("cpu"))
        ensemble = DynamicsEnsemble(run.replays.layout, config, "sample", streams)
        ensemble.fit(run.replays, weights)
        metrics: dict[str, Tensor] = {}
        for name, rows in (("next", later[:, : run.config.iteration_interval]), ("later", later)):
            metrics |= ensemble.evaluate(name, rows, torch.ones_like(rows[..., 0]))
        names = ("next_mse", "next_nll", "later_mse", "later_nll")
        found.append([metrics[f"model/{name}"].item() for name in names])
    means: list[float] = torch.tensor(found).mean(0).tolist()
    return means


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per weighting and share of uniform weight."""
    parser = OneLineParser("python bench/returns/model_errors.py", __doc__ or "")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of tom.train")
    folder = parser.parse_args(argv).run
    with refusals():
        given = f"run: given {folder}"
        config = find_run(folder, given).config
        folder = find_folder(folder, given)
        steps = checkpoint.steps(folder / "checkpoints")[-2:]
        if len(steps) < 2:
            raise ConfigError(f"{given}, which has {len(steps)} checkpoints, allowed are two")
    config = dataclasses.replace(config, algorithm="mbpo")
    run = Experiment(dataclasses.replace(config, run_dir=""))
    (earlier, before), (_, after) = (
        checkpoint.load(folder / "checkpoints", step) for step in steps
    )
    states = [stack_seeds([files[f"seed_{config.seed}"]]) for files in (before, after)]
    for name in ("replays", "sac", "collector"):
        getattr(run, name).load_state_dict(states[0][name])
    later = states[1]["replays"]["rows"][:, earlier:]
    print(f"{folder}: policy of step {earlier}, {later.shape[1]} later rows")
    print(f"{'weights':18} share   ESS   next mse   next nll   later mse   later nll")
    for name, changes in VARIANTS.items():
        settings = override(dataclasses.replace(config, algorithm="tom"), changes)
        weighting = OccupancyWeighting(
            run.replays.layout, settings, [config.seed], torch.device("cpu")
        )
        for _ in range(UPDATES):
            weights, _ = weighting.update(run.replays, run.initial_states.sample, run.sac.act)
        for share in SHARES:
            mixed = defensive_mixture(weights, share)
            ess = effective_sample_size(mixed).item()
            mse, nll, later_mse, later_nll = errors(run, mixed, later)
            print(
                f"{name:18} {share:5.1f} {ess:5.0f} {mse:10.4f} {nll:10.2f} {later_mse:11.4f} "
                f"{later_nll:11.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
