"""Every hyper-parameter of a training run, in one nested frozen dataclass.

The same class is the command line (field docstrings become `--help`), the saved `config.json` and
the argument of every component. Where the paper, the authors' released code and MBPO differ, the
field's docstring says how. Numbers carry their allowed range beside their default.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from tom.env_args import read_env_args
from tom.names import ALGORITHMS, DivergenceName, Precision
from tom.settings import ConfigError as ConfigError
from tom.settings import Settings, bounded
from tom.settings import override as override


@dataclass(frozen=True)
class ReplayConfig:
    """The replay buffer of real transitions, one per seed."""

    capacity: int = bounded(100_000, 1)
    """Rows kept; the oldest are overwritten (the paper: 100 000; MBPO: 1 000 000, so all)."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """c(s, a, s'), which tells the current policy's transitions from the buffer's (21)."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each tanh layer. (The released code's first layer has 128 for each of s, a and s',
    and is not trained.)"""
    steps: int = bounded(100, 1)
    """Gradient steps per iteration (the paper: 100; the released code: 100 times the four
    minibatches of the current policy's rows)."""
    batch_size: int = bounded(256, 1)
    """Rows drawn from each side per step."""
    learning_rate: float = bounded(3e-4, 0.0, open_low=True)
    """Adam's step size."""
    current_rows: int = bounded(1000, 1)
    """Newest rows that stand for the current policy's own transitions. Weights are uniform until
    this many have followed the exploration, as in the released code. (tom.offline collects as many
    of the policy of interest.)"""
    gradient_penalty: float = bounded(1.0, 0.0)
    """Weight of (|∇R| − 1)² on mixtures of the two batches, beside their mean cross-entropy. The
    paper does not mention it; the released code has 10 beside the sum of both batches' means, which
    is 5 here. In finite MDPs (tests/finite) 100 steps from fresh parameters leave 0.66 of the
    distance that unweighted data have from the policy's with 1, and all of it with 5; 400 steps
    leave 0.41 and 0.60."""
    replay_label: float = bounded(0.1, 0.0, 0.5)
    """Label of the buffer's rows. The paper's (21) has 0; the released code uses 0.1, which keeps
    the reward R above log(0.1 / 0.9). The exact χ² weights hardly depend on it: 0.1 moves less than
    1 % of their mass (tests/finite)."""
    reinitialize: bool = True
    """Start from fresh parameters at every iteration, as the released code does; the paper does
    not say."""
    native: bool = True
    """Take all steps in one native call; off, autograd takes them one by one."""


@dataclass(frozen=True)
class DualQConfig:
    """The dual value function of (22)."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each ReLU layer."""
    steps: int = bounded(1000, 1)
    """Gradient steps per iteration. The network persists from one iteration to the next."""
    batch_size: int = bounded(256, 1)
    """Rows, and initial states, per step."""
    learning_rate: float = bounded(3e-4, 0.0, open_low=True)
    """Adam's step size."""
    policy_samples: int = bounded(1, 1)
    """Actions per state in V(s) = E_{a~π} Q(s, a); the released code uses 1. Few of them bias the
    optimum, f* being convex: with data far from the policy 1 misplaces 12 % of the exact weights'
    mass, 4 misplace 5 % and 8 misplace 3 % (tests/finite)."""
    l2: float = bounded(1e-4, 0.0)
    """Weight of the sum of squares of the layers' weights. The paper does not mention it; the
    released code has a weight decay of 1e-4, which is 5e-5 here. In finite MDPs up to 1e-3 is lost
    in the noise of the minibatches."""
    conjugate: Literal["exact", "quadratic"] = "exact"
    """χ² only: the conjugate on x ≥ 0, constant below −1, or the un-thresholded y + y²/2, whose
    gradient does not vanish where the weight is zero. Only the exact one's optimum obeys the flow:
    in finite MDPs whose data are far from the policy, quadratic has negative densities in a quarter
    of the rows, and 10 % of the mass lies elsewhere; it also learns no faster (tests/finite)."""
    after_termination: Literal["restart", "cut"] = "restart"
    """V(s') of a terminal row: restart is the mean of V(s0), as if the next episode followed; cut
    is 0, as in the released code. Under the cut the optimum takes the weight from rows that end
    episodes: with ten steps an episode and γ = 0.99 the policy's own weigh 0.012 where they should
    weigh 1, and with the restart they weigh 1 (tests/finite)."""
    settle_constant: bool = True
    """After the steps, add to Q the constant that minimises (22) on the whole buffer. It moves δ by
    1 − γ times itself and is what gradient steps learn last: for γ = 0.99 it is most of the error
    that 1000 steps leave (tests/finite). KL's weights do not depend on it. Where Q is far from
    converged it raises all weights alike: on HalfCheetah with tom/flow_balance at 0.34 those of a
    random policy's rows came to 0.58 of the mean instead of 0.30 (bench/weights). Neither the paper
    nor the released code does this."""
    native: bool = True
    """Take the steps in native calls; off, autograd takes them one by one."""


@dataclass(frozen=True)
class DynamicsConfig:
    """The probabilistic ensemble that models (s, a) → (s' − s, r)."""

    members: int = bounded(7, 1)
    """Networks in the ensemble (MBPO: 7; the released TOM code: one mixture density network)."""
    elites: int = bounded(5, 1)
    """Members used in rollouts: those with the lowest held-out error (MBPO: 5)."""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Width of each SiLU layer; the paper uses 400 for Humanoid."""
    learning_rate: float = bounded(1e-3, 0.0, open_low=True)
    """Adam's step size: 1e-3 as in MBPO, whose ensemble this is, and as the released code has for
    its mixture network. The paper's table (--preset paper) has 3e-4. With that the ensemble lags
    behind the buffer: on Hopper its squared error on the policy's next 250 transitions is two and a
    half times as large (see bench/returns/README.md)."""
    weight_decay: float = bounded(5e-5, 0.0)
    """L2 penalty of the layers, their biases too, through Adam (MBPO: of the weights alone, 2.5e-5
    at the input to 1e-4 at the output beside twice this log-likelihood, so half of that in these
    units)."""
    batch_size: int = bounded(256, 1)
    """Rows per member and step."""
    epochs: int = bounded(10, 1)
    """Epochs per iteration at most; early stopping may end sooner (the paper: 10; the released code
    goes through the whole buffer up to 30 times, MBPO as often as its errors fall)."""
    batches_per_epoch: int = bounded(100, 1)
    """Minibatches per epoch."""
    holdout: float = bounded(0.1, 0.0, 0.5, open_low=True)
    """Share of the buffer's rows held out (MBPO: 0.2): they choose the elites and end the training.
    A row is held out for good; MBPO draws them anew at each fit, so that most have been trained
    on."""
    max_holdout: int = bounded(5000, 1)
    """Held-out rows at most, as in MBPO; the rows above it join the training."""
    patience: int = bounded(5, 1)
    """Epochs in which no member's held-out error falls by 1 % of what it was when it last did so,
    or after the first epoch, before training ends (MBPO: one more than 5)."""
    log_var_penalty: float = bounded(0.005, 0.0)
    """Weight of (Σ max_log_var − Σ min_log_var) in each member's loss, which pulls its learned
    bounds together. MBPO's members share their bounds, which comes to 0.005 / members here: then
    the predicted variance is right where transitions are noisy, as with the default it is not, but
    the predicted mean is worse on the next rows of a run, and Hopper was learned more slowly
    (bench/returns/README.md)."""
    native: bool = True
    """Take all steps of an epoch in one native call; off, autograd takes them one by one."""


@dataclass(frozen=True)
class RolloutConfig:
    """Rollouts of the policy in the learned model."""

    starts: int = bounded(100_000, 1)
    """Start states drawn per iteration, in proportion to the weights."""
    length: int = bounded(1, 1)
    """Model steps from each start, at first."""
    final_length: int = bounded(1, 1)
    """Model steps from each start at last, if more than at first. In between the length grows
    linearly, rounded down (MBPO: 15 on Hopper, 25 on Ant and Humanoid, 1 elsewhere; here it is 1
    everywhere, as in the paper)."""
    growth_start: int = bounded(20_000, 0)
    """Environment step up to which the rollouts have their first length (MBPO: 20 000)."""
    growth_end: int = bounded(100_000, 1)
    """Environment step from which they have their last length (MBPO: 100 000 on Hopper and Ant,
    300 000 on Humanoid)."""
    retain_steps: int = bounded(1000, 1)
    """Model rows live for this many environment steps (the released code and MBPO: one epoch of
    1000 steps), and longer where trajectories end early."""

    def length_at(self, step: int) -> int:
        """Model steps from each start at an environment step: MBPO's schedule, rounded down."""
        growth = max(self.final_length - self.length, 0)
        passed, whole = step - self.growth_start, self.growth_end - self.growth_start
        return self.length + min(max(passed, 0), whole) * growth // whole


@dataclass(frozen=True)
class WeightsConfig:
    """From δ, or from age, to the weight of a row."""

    max_weight: float = bounded(10.0, 0.0, open_low=True)
    """TOM: weights above are clipped. The released code clips at 10 for the model, not for the
    starts of rollouts; the paper does not mention it."""
    uniform_share: float = bounded(0.3, 0.0, 1.0)
    """TOM: the model is fitted with, and rollouts start by, (1 − u) ξ* + u, ξ* with mean 1; the
    paper (--preset paper) and the released code have u = 0. χ² gives most of a buffer that began
    with random actions the weight 0, and a model that never sees it is wrong and sure of itself one
    step off the policy's way. On Hopper after 1000 steps of learning, models fitted with u = 0,
    0.1, 0.3 and 0.5 had 0.75, 0.73, 0.70 and 0.73 of the squared error of an unweighted one on the
    policy's next 250 transitions, and a negative log-likelihood of 10.1, 1.3, −0.3 and −0.9
    (unweighted −0.3); see bench/returns/README.md."""
    decay: float = bounded(0.996, 0.0, 1.0, open_high=True)
    """PMAC: older rows' mass is scaled by this at each environment step, so that the new policy's
    transition takes 1 − decay: as the policy changes at every step, each row is one policy's. The
    effective sample size is then (1 + decay)/(1 − decay), 499. (The paper: 0.996; the released TOM
    code has 0.9 for PMAC, thus 19 rows. The code of PMAC's authors' later PDML counts the 250 rows
    between two iterations as one policy's, and gives the newest at least 2 %.)"""


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic with twin critics and an automatic temperature."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each ReLU layer of the actor and of the critics."""
    batch_size: int = bounded(256, 1)
    """Rows per update."""
    learning_rate: float = bounded(3e-4, 0.0, open_low=True)
    """Adam's step size for actor, critics and temperature."""
    tau: float = bounded(0.005, 0.0, 1.0, open_low=True)
    """Rate at which the target critics follow."""
    target_entropy: float | None = None
    """Entropy the temperature steers to, in nats; by default minus half the action dimensions
    (MBPO tunes it per task, and the short task names carry its values)."""
    initial_temperature: float = bounded(1.0, 0.0, open_low=True)
    """Entropy temperature at the start."""
    real_fraction: float = bounded(0.05, 0.0, 1.0)
    """Share of real transitions in each batch (MBPO and the released code: 5 %)."""
    native: bool = True
    """Make all updates of an environment step in one native call; off, autograd makes them one by
    one, several times slower."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Deterministic evaluation episodes, in a simulator of their own.

    In an environment without a time limit an episode that does not end is cut after 100 000 steps;
    the run says so when it starts.
    """

    interval: int = bounded(1000, 1)
    """Environment steps between evaluations."""
    episodes: int = bounded(10, 1)
    """Episodes per seed and evaluation."""


@dataclass(frozen=True)
class Config(Settings):
    """One run: `seeds` independent trainings of one algorithm on one task.

    Made in Python it has no task's own settings, and nothing has been checked:
    `tom.tasks.defaults("ant")` has them, and `tom.settings.validate(config)` checks.
    """

    env: str = "hopper"
    """Task: hopper, walker2d, halfcheetah, ant, humanoid, inverted_pendulum, or any Gymnasium id
    with Box spaces, as module:id if importing that module registers it."""
    env_args: tuple[str, ...] = ()
    """Arguments of the task, NAME=VALUE each, such as contact_cost_weight=0 for Ant. They join or
    replace those of a short name, such as MBPO's shorter observations of ant and humanoid."""
    algorithm: str = "tom"
    """tom: weights from the dual Q; mbpo: uniform weights; pmac: weights that decay with age; sac:
    no model at all, the policy learns from real rows alone (weights, dynamics and rollout settings
    then mean nothing). For sac as it is usually run add --updates-per-step 1 and --replay.capacity
    1000000, and see --sac.target-entropy: the other defaults are those of the model-based ones.
    module:function: weights of your own, from the object that function(layout, config, seeds,
    device) makes, a tom.weighting.Weighting."""
    seeds: int = bounded(1, 1)
    """Independent runs trained at once; every network carries them as its first axis."""
    seed: int = bounded(0, 0)
    """The first run's seed; the others take the following numbers."""
    steps: int = bounded(100_000, 1)
    """Environment steps per seed, exploration included."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    cuda_graphs: bool = True
    """On a GPU, record each kind of native training steps once and launch it as one CUDA graph;
    off, every kernel of it is launched by itself. The results are the same."""
    fused_kernels: bool = True
    """On a GPU, take the training steps of SAC, the ensemble and the dual Q by two to eight kernels
    each, which Triton compiles at their first use; off, by 40 to 130 of torch's. The results agree
    to rounding."""
    threads: int = bounded(0, 0, 1024)
    """Processor threads for torch and the simulator; 0 takes OMP_NUM_THREADS, or else those this
    process may use, at most 4: networks this small gain nothing from more."""
    precision: Precision = "fp32"
    """Of the matrix products between hidden layers: bf16 rounds their factors to bfloat16 and sums
    in float32, forward and backward; parameters, optimiser, losses and the networks' first and last
    layers stay float32. It needs a processor with AVX512-BF16, or a GPU with bfloat16. HalfCheetah
    and Hopper learn with it (bench/returns/README.md); other tasks have not been tried. tf32, on a
    GPU: all products' factors are taken with TF32's eleven digits, to which torch's operations
    round them; the fused kernels cut the others off. No task has been tried with it."""
    run_dir: str = ""
    """Run folder; left empty, it is runs/ENV-ALGORITHM-seedK, with seedKtoL for several seeds and
    the preset's name behind it. The same command resumes the run in it, and so does --run-dir
    alone: a folder's own settings are then the defaults."""
    divergence: DivergenceName = "chi2"
    """TOM's f: chi2 is ½(x − 1)² (the paper's choice), chi2_bound is (x − 1)², which bounds KL
    from above as (13) needs, kl is x log x in its Donsker–Varadhan form."""
    weighting: Literal["sample", "loss"] = "sample"
    """Where the weights enter model learning (25): minibatches drawn in proportion to them
    (Algorithm 2), or uniform minibatches with a weighted loss."""
    updates_per_step: int = bounded(20, 0)
    """SAC updates per environment step. MBPO makes 20 (HalfCheetah 40); the released TOM code
    makes about 5 although its flag says 20."""
    exploration_steps: int = bounded(5000, 2)
    """Uniformly random actions before the first iteration."""
    iteration_interval: int = bounded(250, 1)
    """Environment steps between iterations (weights, dynamics, rollouts)."""
    discount: float = bounded(0.99, 0.0, 1.0)
    """γ of the policy and of the occupancy."""
    reward_transform: Literal["none", "log"] = "none"
    """Reward the policy learns from: none is the plain reward (the paper's experiments); log is
    log(r − r_min + 1) with r_min the lowest reward seen so far, for the bound (12)."""
    termination: str = "task"
    """Termination rule in model rollouts: task (the task's own), none (never), or module:function,
    a function from a torch tensor of observations [n, O] to one of booleans [n]; __main__:function
    is one of the script that calls tom.train.main."""
    profile: bool = False
    """Print at the end where the time went: seconds per 1000 environment steps in each phase, of
    the steps after the exploration."""
    checkpoint_interval: int = bounded(5000, 1)
    """Environment steps between checkpoints."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    dual_q: DualQConfig = field(default_factory=DualQConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def free(self) -> tuple[str, ...]:
        """Also how often it is saved and evaluated, and what it does not use."""
        aside = ("profile", "cuda_graphs", "fused_kernels", "checkpoint_interval", "evaluation")
        return (*super().free, *aside, *self.unused)

    @property
    def unused(self) -> tuple[str, ...]:
        """What the algorithm does not read. One of the user's own may read everything."""
        # The newest rows' share of the weights is a metric of every algorithm with a model.
        rest = (item.name for item in fields(DiscriminatorConfig) if item.name != "current_rows")
        of_xi = ("divergence", "dual_q", *(f"discriminator.{name}" for name in rest))
        model = ("weighting", "termination", "dynamics", "rollout", "sac.real_fraction")
        return {
            "tom": ("weights.decay",),
            "pmac": (*of_xi, "weights.max_weight", "weights.uniform_share"),
            "mbpo": (*of_xi, "weights"),
            "sac": (*of_xi, "discriminator", "weights", *model),
        }.get(self.algorithm, ())

    @property
    def model_based(self) -> bool:
        """Whether the policy learns from a model's rows too."""
        return self.algorithm != "sac"

    def check(self) -> None:
        """Check the pairs of settings that must fit.

        Raises:
            ConfigError: one sentence naming the field, what was given and what is allowed.
        """
        if not self.env:
            raise ConfigError("env: given '', allowed is a short task name or a Gymnasium id")
        read_env_args(self.env_args)
        module, _, function = self.algorithm.partition(":")
        if self.algorithm not in ALGORITHMS and not (module and function):
            raise ConfigError(
                f"algorithm: given {self.algorithm!r}, allowed are {', '.join(ALGORITHMS)} or "
                f"module:function"
            )
        module, _, function = self.termination.partition(":")
        if self.termination not in ("task", "none") and not (module and function):
            raise ConfigError(
                f"termination: given {self.termination!r}, allowed are task, none or "
                f"module:function"
            )
        if self.dynamics.elites > self.dynamics.members:
            raise ConfigError(
                f"dynamics.elites: given {self.dynamics.elites}, allowed is at most "
                f"dynamics.members = {self.dynamics.members}"
            )
        if self.rollout.growth_end <= self.rollout.growth_start:
            raise ConfigError(
                f"rollout.growth_end: given {self.rollout.growth_end}, allowed is more than "
                f"rollout.growth_start = {self.rollout.growth_start}"
            )
        if self.steps <= self.exploration_steps:
            raise ConfigError(
                f"steps: given {self.steps}, allowed is more than exploration_steps = "
                f"{self.exploration_steps}, whose actions are random"
            )
        if self.model_based and self.replay.capacity < 3:
            raise ConfigError(
                f"replay.capacity: given {self.replay.capacity}, allowed is at least 3 with a "
                f"model, whose error is measured on rows of their own"
            )
        if self.algorithm == "tom":
            self.check_weights()
        if self.weighting == "loss" and self.algorithm == "mbpo":
            raise ConfigError(
                "weighting: given 'loss', allowed is 'sample' with algorithm mbpo, whose weights "
                "are all equal"
            )

    def check_weights(self) -> None:
        """Check the pairs of settings that must fit where ξ* is computed.

        Raises:
            ConfigError: as :meth:`check`.
        """
        if self.replay.capacity < self.discriminator.current_rows:
            raise ConfigError(
                f"replay.capacity: given {self.replay.capacity}, allowed is at least "
                f"discriminator.current_rows = {self.discriminator.current_rows}"
            )
        if self.discount == 1:
            raise ConfigError(
                "discount: given 1, allowed is below 1 with weights ξ*, whose occupancy begins "
                "anew with probability 1 − discount"
            )
        if self.dual_q.after_termination == "cut" and self.divergence == "kl":
            raise ConfigError(
                "dual_q.after_termination: given 'cut', as --preset paper has it, allowed is "
                "'restart' with divergence kl, whose objective has no minimum under the cut"
            )
        if self.dual_q.conjugate == "quadratic" and self.divergence == "kl":
            raise ConfigError(
                "dual_q.conjugate: given 'quadratic', allowed is 'exact' with divergence kl, whose "
                "conjugate has no threshold"
            )
