"""The settings of `tom.offline`, and the training run that they imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tom import tasks
from tom.config import (
    Config,
    DiscriminatorConfig,
    DualQConfig,
    EvaluationConfig,
    SACConfig,
)
from tom.env_args import read_env_args
from tom.names import DivergenceName
from tom.settings import ConfigError, Settings, bounded, override
from tom.tasks import Preset


@dataclass(frozen=True)
class OfflineConfig(Settings):
    """One combined dataset, one policy of interest, and the weights that it gives the rows."""

    env: str = "halfcheetah"
    """Task: hopper, walker2d, halfcheetah, ant, humanoid, inverted_pendulum, or any Gymnasium id
    with Box spaces, as module:id if importing that module registers it. The policy of interest
    always acts in it, for the discriminator's rows."""
    env_args: tuple[str, ...] = ()
    """Arguments of the task, NAME=VALUE each, as of tom.train."""
    transitions: int = bounded(1_000_000, 1)
    """Transitions of each half; the paper has 1M + 1M. Of a file that holds more, so many are taken
    at even distances, so that it is still seen from beginning to end; of one that holds fewer, all
    are taken."""
    random_half: str = ""
    """The first half. Left empty: uniformly random actions in the simulator. Else a D4RL-style HDF5
    file (observations, actions, rewards, next_observations, terminals and, if episodes have a time
    limit, timeouts), the id of a downloaded Minari dataset, or a run folder of tom.train or
    tom.offline, whose replay buffer is read."""
    replay_half: str = ""
    """The second half, oldest transition first. Left empty: all transitions of a soft actor-critic
    that is trained from scratch on them, which is saved and goes on when the same command is given
    again. Else a file, a Minari id or a run folder, as for the random half."""
    policy: str = ""
    """The policy of interest: a run folder of tom.train or tom.offline, whose actor is taken (of
    several seeds the first). Left empty: the agent of the replay half, where that is trained here
    or read from a run folder; where it is a file or a Minari dataset, a policy fitted to the
    actions of its newest transitions by maximum likelihood (discriminator.current_rows of them)."""
    bins: int = bounded(10, 2)
    """Bins per half."""
    seed: int = bounded(0, 0)
    """Seed of everything."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    cuda_graphs: bool = True
    """On a GPU, launch many training steps as one CUDA graph; off, kernel by kernel."""
    fused_kernels: bool = True
    """On a GPU, take the training steps of SAC and the dual Q by three to eight kernels each, which
    Triton compiles at their first use; off, by forty to a hundred and thirty of torch's."""
    threads: int = bounded(0, 0, 1024)
    """Processor threads for torch and the simulator; 0 takes OMP_NUM_THREADS, or else those this
    process may use, at most 4."""
    run_dir: str = ""
    """Run folder; left empty, it is runs/ENV-offline-TRANSITIONS-seedK. The same command resumes
    the run in it; settings of the weights may be changed without training again."""
    num_envs: int = bounded(10, 1)
    """Environments side by side for random actions, and at most so many for the policy's own
    transitions: fewer where these would not hold whole episodes of each."""
    updates_per_step: int = bounded(1, 0)
    """SAC updates per environment step."""
    exploration_steps: int = bounded(5000, 2)
    """Uniformly random actions before SAC's own."""
    checkpoint_interval: int = bounded(10_000, 1)
    """Environment steps between SAC's checkpoints."""
    discount: float = bounded(0.99, 0.0, 1.0)
    """γ of SAC and of the occupancy."""
    divergence: DivergenceName = "chi2"
    """f: chi2 is ½(x − 1)² (the paper's choice), chi2_bound is (x − 1)², kl is x log x in its
    Donsker–Varadhan form."""
    max_weight: float = bounded(10.0, 0.0, open_low=True)
    """Weights above are clipped, as in training."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    dual_q: DualQConfig = field(default_factory=DualQConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def free(self) -> tuple[str, ...]:
        """The weights are computed anew at each call."""
        weights = ("policy", "bins", "divergence", "max_weight", "discriminator", "dual_q")
        return (*super().free, *weights, "num_envs", "cuda_graphs", "fused_kernels")

    def check(self) -> None:
        """Check the pairs that must fit, which are those of `tom.train`.

        Raises:
            ConfigError: one sentence on the first that does not.
        """
        read_env_args(self.env_args)
        if not self.replay_half:
            if self.transitions <= self.exploration_steps:
                raise ConfigError(
                    f"transitions: given {self.transitions}, allowed is more than "
                    f"exploration_steps = {self.exploration_steps}, whose actions are random, or a "
                    f"dataset as replay_half"
                )
            self.training().check()
        self.weighting().check_weights()

    def training(self) -> Config:
        """The run of `tom.train` whose replay is the second half, in the sub-folder `sac`."""
        return override(
            Config(),
            {
                "env": self.env,
                "env_args": self.env_args,
                "algorithm": "sac",
                "seed": self.seed,
                "steps": self.transitions,
                "device": self.device,
                "cuda_graphs": self.cuda_graphs,
                "fused_kernels": self.fused_kernels,
                "threads": self.threads,
                "run_dir": f"{self.run_dir}/sac",
                "updates_per_step": self.updates_per_step,
                "exploration_steps": self.exploration_steps,
                "discount": self.discount,
                "checkpoint_interval": self.checkpoint_interval,
                # The paper's capacity holds the newest 100 000 alone.
                "replay.capacity": self.transitions,
                "sac": self.sac,
                "evaluation": self.evaluation,
            },
        )

    def weighting(self) -> Config:
        """The same with the settings of the weights."""
        training = self.training()
        rows = max(training.replay.capacity, self.discriminator.current_rows)
        return override(
            training,
            {
                "replay.capacity": rows,
                "divergence": self.divergence,
                "weights.max_weight": self.max_weight,
                "discriminator": self.discriminator,
                "dual_q": self.dual_q,
            },
        )


# A single iteration on a large fixed dataset instead of hundreds that go on from one another: both
# networks are trained for longer, and the dual Q with more actions per state. Much longer is no
# better: the objective of (22) goes on falling and the weights of single rows spread, while the
# bins hardly change (bench/weights/README.md).
FULL: Mapping[str, Any] = {
    "evaluation.interval": 5000,
    "discriminator.steps": 1000,
    "discriminator.current_rows": 10_000,
    "dual_q.steps": 10_000,
    "dual_q.policy_samples": 4,
}

DEBUG: Mapping[str, Any] = {
    "transitions": 600,
    "bins": 5,
    "num_envs": 4,
    "exploration_steps": 200,
    "checkpoint_interval": 200,
    "discriminator.steps": 50,
    "discriminator.current_rows": 200,
    "dual_q.steps": 100,
}


def defaults(env: str, preset: Preset = "default") -> OfflineConfig:
    """The settings of a task before the command line: network sizes are those of `tom.train`."""
    config = tasks.defaults(env, preset)
    groups = {name: getattr(config, name) for name in ("discriminator", "dual_q", "sac")}
    offline = OfflineConfig(env=env, evaluation=config.evaluation, **groups)
    return override(offline, DEBUG if preset == "debug" else FULL)
