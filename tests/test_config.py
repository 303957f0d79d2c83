"""The configuration: what is accepted, what is refused, and how it is saved and found again."""

import json
import math

import pytest

from tom.config import Config, ConfigError, DynamicsConfig, SACConfig
from tom.settings import from_dict, override, to_dict, types, validate, walk
from tom.tasks import PRESETS, TASKS, defaults, find_task


def test_every_task_and_preset_is_valid() -> None:
    for env in (*TASKS, "Pusher-v5"):
        for preset in PRESETS:
            validate(defaults(env, preset))


def test_paper_is_the_papers_table() -> None:
    config = defaults("hopper", "paper")
    rates = [getattr(config, part).learning_rate for part in ("discriminator", "dual_q", "sac")]
    assert [*rates, config.dynamics.learning_rate] == [3e-4] * 4
    assert (config.weights.uniform_share, config.divergence) == (0.0, "chi2")
    assert (config.discriminator.steps, config.dual_q.steps, config.dynamics.epochs) == (
        100,
        1000,
        10,
    )
    assert config.discriminator.replay_label == 0.0  # (21)
    assert config.dual_q.after_termination == "cut" and not config.dual_q.settle_constant  # (22)
    assert config.replay.capacity == config.rollout.starts == 100_000
    assert (config.rollout.length, config.weights.decay) == (1, 0.996)
    assert config.dynamics.hidden == (200,) * 4
    assert defaults("humanoid", "paper").dynamics.hidden == (400,) * 4


def test_task_replaces_defaults_and_debug_replaces_task() -> None:
    assert defaults("halfcheetah").updates_per_step == 40
    assert defaults("halfcheetah", "debug").updates_per_step == 2
    assert defaults("humanoid").dynamics.hidden == (400,) * 4
    assert defaults("ant", "debug").sac.target_entropy == -4.0
    assert defaults("ant", "debug").steps == defaults("inverted_pendulum", "debug").steps == 600


def test_unknown_names_are_plain_gymnasium_ids() -> None:
    assert find_task("Pusher-v5").id == "Pusher-v5"
    assert find_task("points:My/Point-v0").id == "points:My/Point-v0"
    assert defaults("Pusher-v5") == Config(env="Pusher-v5")


def test_a_task_is_the_same_under_every_name() -> None:
    for name in ("Hopper-v5", "gymnasium:Hopper-v5"):
        assert find_task(name).same_as(find_task("hopper"))
    assert find_task("points:My/Point-v0").same_as(find_task("My/Point-v0"))
    for name in ("points:My/Line-v0", "My/Line-v0", "points"):
        assert not find_task(name).same_as(find_task("points:My/Point-v0"))


def test_arguments_of_a_task_join_those_of_its_short_name() -> None:
    args = ("contact_cost_weight=0", "healthy_z_range=(0.3, 1)", "main_body=torso", "a=true")
    kwargs = {"contact_cost_weight": 0, "healthy_z_range": (0.3, 1), "main_body": "torso"}
    kwargs |= {"a": True}
    ant = find_task("ant", args)
    assert ant.kwargs == {"include_cfrc_ext_in_observation": False, **kwargs}
    assert not ant.same_as(find_task("ant"))
    assert ant.same_as(find_task("Ant-v5", ("include_cfrc_ext_in_observation=False", *args)))


def test_json_round_trip() -> None:
    config = defaults("humanoid", "debug")
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_walk_and_types_name_the_same_leaves() -> None:
    assert [name for name, _, _ in walk(Config())] == list(types(Config))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: given 0, allowed is a whole number of at least 1"),
        ({"steps": -5}, "steps: given -5, allowed is a whole number of at least 1"),
        ({"steps": 2.5}, "steps: given 2.5, allowed is a whole number of at least 1"),
        ({"steps": True}, "steps: given True, allowed is a whole number of at least 1"),
        ({"steps": "7"}, "steps: given '7', allowed is a whole number of at least 1"),
        ({"discount": math.nan}, "discount: given nan, allowed is a number of at least 0 and"),
        ({"discount": 1.5}, "discount: given 1.5, allowed is a number of at least 0 and at most 1"),
        ({"sac.learning_rate": 0.0}, "sac.learning_rate: given 0.0, allowed is a number above 0"),
        ({"sac.learning_rate": math.inf}, "sac.learning_rate: given inf, allowed is a finite"),
        ({"dual_q.l2": 1e300}, "dual_q.l2: given 1e+300, allowed is a finite number in float"),
        (
            {"sac.target_entropy": -1e300},
            "sac.target_entropy: given -1e+300, allowed is a finite number",
        ),
        ({"sac.target_entropy": math.nan}, "sac.target_entropy: given nan, allowed is a finite"),
        ({"sac.hidden": ()}, "sac.hidden: given (), allowed are widths of at least 1"),
        ({"sac.hidden": (64, 0)}, "sac.hidden: given (64, 0), allowed are widths of at least 1"),
        ({"sac.hidden": (64, 8.0)}, "sac.hidden: given (64, 8.0), allowed are widths"),
        ({"algorithm": "ppo"}, "algorithm: given 'ppo', allowed are tom, mbpo, pmac"),
        ({"sac.hidden": 256}, "sac.hidden: given 256, allowed are widths of at least 1"),
        ({"sac.target_entropy": "x"}, "sac.target_entropy: given 'x', allowed is a number or None"),
        ({"env_args": ("x",)}, "env_args: given 'x', allowed are NAME=VALUE"),
        ({"env_args": ("num_envs=3",)}, "env_args: given 'num_envs=3', allowed are arguments of"),
        ({"env_args": (1,)}, "env_args: given (1,), allowed are words"),
        ({"env_args": None}, "env_args: given None, allowed are words"),
        ({"threads": 50_000}, "threads: given 50000, allowed is a whole number of at least 0 and"),
        ({"dual_q.conjugate": "x"}, "dual_q.conjugate: given 'x', allowed are exact, quadratic"),
        ({"env": ""}, "env: given '', allowed is a short task name or a Gymnasium id"),
        ({"env": 3}, "env: given 3, allowed is a str"),
        ({"discriminator.reinitialize": 1}, "discriminator.reinitialize: given 1, allowed is a b"),
        ({"termination": "never"}, "termination: given 'never', allowed are task, none or module:"),
        ({"termination": "module:"}, "termination: given 'module:', allowed are task, none or"),
        ({"dynamics.elites": 8}, "dynamics.elites: given 8, allowed is at most dynamics.members"),
        ({"rollout.growth_end": 20_000}, "rollout.growth_end: given 20000, allowed is more than"),
        ({"replay.capacity": 10}, "replay.capacity: given 10, allowed is at least discriminator"),
        ({"steps": 5000}, "steps: given 5000, allowed is more than exploration_steps = 5000"),
        ({"algorithm": "mbpo", "replay.capacity": 2}, "replay.capacity: given 2, allowed is at"),
        (
            {"weights.decay": 1.0},
            "weights.decay: given 1.0, allowed is a number of at least 0 and below 1",
        ),
        ({"discount": 1.0}, "discount: given 1, allowed is below 1 with weights"),
        (
            {"divergence": "kl", "dual_q.after_termination": "cut"},
            "dual_q.after_termination: given 'cut', as --preset paper has it, allowed is 'restart'",
        ),
        ({"algorithm": "mbpo", "weighting": "loss"}, "weighting: given 'loss', allowed is 'sample"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(override(Config(), values))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_whole_numbers_pass_where_numbers_are_allowed() -> None:
    validate(Config(algorithm="mbpo", discount=1, sac=SACConfig(target_entropy=-3)))


def test_pairs_that_mean_nothing_to_an_algorithm_need_not_fit() -> None:
    for algorithm, capacity in (("sac", 1), ("mbpo", 3), ("pmac", 3)):
        validate(override(Config(), {"algorithm": algorithm, "replay.capacity": capacity}))
        validate(override(Config(), {"algorithm": algorithm, "discount": 1.0}))


def test_a_name_that_is_no_setting_is_refused() -> None:
    """As is a value where a group of settings stands."""
    with pytest.raises(ConfigError, match=r"dual_q.step: no such setting; allowed are dual_q.hidd"):
        override(Config(), {"dual_q.step": 3})
    with pytest.raises(ConfigError, match=r"lr: no such setting; allowed are env, env_args"):
        override(Config(), {"lr": 3e-4})
    with pytest.raises(ConfigError, match=r"dual_q: given a dict, allowed is a group of settings;"):
        validate(Config(dual_q={"steps": 3}))  # type: ignore[arg-type]


def test_override_replaces_groups_whole_and_in_part() -> None:
    assert override(Config(), {"sac": SACConfig(tau=0.1)}) == Config(sac=SACConfig(tau=0.1))
    both = override(Config(), {"sac": SACConfig(tau=0.1), "sac.batch_size": 8})
    assert both.sac == SACConfig(tau=0.1, batch_size=8)
    config = override(Config(), {"dynamics.members": 9, "dynamics.elites": 3, "steps": 10})
    assert config.dynamics == DynamicsConfig(members=9, elites=3)
    assert (config.steps, config.sac) == (10, SACConfig())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stpes": 3}, "stpes: no such setting"),
        ({"sac": {"batch": 3}}, "sac.batch: no such setting"),
        ({"sac": 3}, "sac: given 3, allowed is a group of settings"),
        ([1, 2], "config: given [1, 2], allowed is a group of settings"),
    ],
)
def test_from_dict_names_what_does_not_fit(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, values)
    assert str(caught.value).startswith(message)
