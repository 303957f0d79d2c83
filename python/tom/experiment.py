"""Build every part of a run from its configuration, and save and restore them together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tom import checkpoint, metrics
from tom.collector import Collector
from tom.config import Config, ConfigError
from tom.dynamics import DynamicsEnsemble
from tom.evaluation import Evaluation
from tom.initial_states import InitialStates
from tom.model_buffer import ModelBuffer
from tom.one_line import is_want_of_memory
from tom.precision import use_precision
from tom.process import use_threads
from tom.replays import Replays
from tom.rollouts import ModelRollouts
from tom.run_folder import RunFolder
from tom.sac import SAC
from tom.state import State, stack_seeds, take_seed
from tom.streams import RandomStreams
from tom.task_env import layout_of, make_env
from tom.termination import TerminationRule, termination_rule
from tom.training_error import writing
from tom.user_code import describe
from tom.weightings import make_weighting


class Experiment:
    """The parts of one run; `train.py` wires them as Algorithm 2.

    Raises:
        ConfigError: an action space without bounds, or a precision that the device lacks.
        ValueError: an environment that does not exist, cannot be made or has no Box spaces, or a
            termination rule that is unknown or cannot be found.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.seeds = list(range(config.seed, config.seed + config.seeds))
        self.step = 0
        self._saved_step: int | None = None
        device = torch.device(config.device)
        use_precision(config.precision, device)
        threads = use_threads(config.threads)

        def streams(purpose: str) -> RandomStreams:
            return RandomStreams(self.seeds, purpose, device)

        env = make_env(config, config.seeds, threads)
        layout = layout_of(env)
        rule = termination_rule(None if config.termination == "task" else config.termination)
        rule = rule or env.terminated
        if config.model_based:
            nowhere = torch.zeros(2, layout.observation_size, device=device)
            _check_rule(rule, config.termination, nowhere)
        initial_states = InitialStates(layout.observation_size, streams("initial_states"))
        self.collector = Collector(env, layout, initial_states, self.seeds, streams("exploration"))
        self.initial_states = initial_states
        try:
            self.replays = Replays(layout, config.replay.capacity, self.seeds, device)
        except MemoryError as error:
            size = 4 * layout.width * config.replay.capacity * config.seeds / 2**30
            raise ConfigError(
                f"replay.capacity: given {config.replay.capacity}, whose rows take {size:,.0f} "
                f"GiB, allowed is what fits into memory"
            ) from error
        self.weighting = make_weighting(layout, config, self.seeds, device)
        self.dynamics = DynamicsEnsemble(
            layout,
            config.dynamics,
            config.weighting,
            streams("dynamics"),
            cuda_graphs=config.cuda_graphs,
            fused_kernels=config.fused_kernels,
            precision=config.precision,
        )
        self.rollouts = ModelRollouts(layout, self.dynamics, rule, streams("rollouts"))
        # It takes the size that each iteration's rollouts need.
        self.model_buffer = ModelBuffer(1, layout.width, streams("model_buffer"))
        self.sac = SAC(
            layout,
            self.collector.action_low,
            self.collector.action_high,
            config.sac,
            config.discount,
            streams("sac"),
            cuda_graphs=config.cuda_graphs,
            fused_kernels=config.fused_kernels,
            precision=config.precision,
        )
        self.evaluation = Evaluation(
            make_env(config, config.seeds * config.evaluation.episodes, threads),
            config.evaluation,
            self.seeds,
            device,
        )

    def due(self, interval: int, since: int = 0) -> bool:
        """Whether something that happens every `interval` steps, from `since` on, happens now."""
        return self.step >= since and (self.step - since) % interval == 0

    def save(self, folder: RunFolder, extra: dict[str, Any]) -> None:
        """Write a checkpoint, unless that of this step is there: a file per seed, and `extra`.

        Raises:
            TrainingError: the disk refuses.
        """
        if self._saved_step == self.step:
            return
        state = {name: part.state_dict() for name, part in self._parts().items()}
        files: State = {f"seed_{seed}": take_seed(state, s) for s, seed in enumerate(self.seeds)}
        with writing("the checkpoint"):
            checkpoint.save(folder.checkpoints, self.step, {**files, "run": extra})
        self._saved_step = self.step

    def load(self, folder: RunFolder) -> dict[str, Any] | None:
        """Continue from the newest checkpoint; its `extra`, or None where there is none yet.

        Raises:
            CheckpointError: a checkpoint that is damaged or cannot be read.
            ConfigError: none where there has been one, or one of other settings.
        """
        found = checkpoint.load(folder.checkpoints)
        if found is None:
            _check_unbegun(folder)
            return None
        self.step, files = found
        self._saved_step = self.step
        try:
            return self._restore(files)
        # What the parts say of a state that is not theirs: config.json has been changed by hand, or
        # the task is another one under the same name.
        except (ValueError, LookupError, RuntimeError, TypeError) as error:
            if is_want_of_memory(error):
                raise
            what = str(error) if isinstance(error, ValueError) else describe(error)
            raise ConfigError(
                f"run_dir: given {folder.path}, whose checkpoint of step {self.step} does not fit "
                f"config.json and the task as they are ({what}), allowed are those it was made "
                f"with, or another folder"
            ) from error

    def _restore(self, files: dict[str, State]) -> dict[str, Any]:
        """Load every part from a checkpoint's files; its `extra`."""
        theirs = {int(name.removeprefix("seed_")) for name in files if name != "run"}
        if theirs != set(self.seeds):
            raise ValueError(f"its seeds are {sorted(theirs)}, and config.json's {self.seeds}")
        state = stack_seeds([files[f"seed_{seed}"] for seed in self.seeds])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        extra: dict[str, Any] = files["run"]
        return extra

    def close(self) -> None:
        """Free the simulators."""
        self.collector.env.close()
        self.evaluation.env.close()

    def _parts(self) -> dict[str, Any]:
        """What changes in a run. Without a model its parts stay as they were made."""
        model = {
            "weighting": self.weighting,
            "dynamics": self.dynamics,
            "rollouts": self.rollouts,
            "model_buffer": self.model_buffer,
        }
        used = model if self.config.model_based else {}
        return {"collector": self.collector, "replays": self.replays, **used, "sac": self.sac}


def _check_unbegun(folder: RunFolder) -> None:
    """Check that a run without a checkpoint had not got to its first.

    Raises:
        ConfigError: its metrics go further, and would be lost.
    """
    last = max((int(row["step"]) for row in metrics.read(folder.metrics)), default=0)
    if isinstance(folder.saved, Config) and last > folder.saved.checkpoint_interval:
        raise ConfigError(
            f"run_dir: given {folder.path}, whose metrics go to step {last} but which has no "
            f"checkpoint to go on from, allowed is another folder, or this one without its "
            f"metrics.csv"
        )


def _check_rule(rule: TerminationRule, name: str, observations: Tensor) -> None:
    """Try the rule now, not at the first rollout thousands of steps later.

    Raises:
        ConfigError: it does not return one boolean per observation.
        ValueError: the task has no rule of its own.
    """
    if name in ("task", "none"):
        rule(observations)
        return
    try:
        flags = rule(observations)
    except Exception as error:
        raise ConfigError(
            f"termination: given {name!r}, which raised {describe(error)}, allowed is a "
            f"function from a torch tensor [n, O] to booleans [n]"
        ) from error
    fits = isinstance(flags, Tensor) and flags.dtype == torch.bool
    if not fits or flags.shape != observations.shape[:1]:
        raise ConfigError(
            f"termination: given {name!r}, which returned {flags!r} for two observations, allowed "
            f"is a function that returns a boolean torch tensor [n]"
        )
