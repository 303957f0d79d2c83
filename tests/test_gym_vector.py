"""make_vector_env: BatchEnv for its ids, Gymnasium's own environments behind the same interface."""

from __future__ import annotations

import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from tom.batch_env import BatchEnv
from tom.gym_vector import GymVectorEnv, make_vector_env
from tom.training_error import TrainingError


class Picture(gymnasium.Env):
    """Observations [2, 3] and actions [2, 1], to be flattened; an episode has four steps."""

    observation_space = Box(-1, 10, (2, 3), np.float32)
    action_space = Box(-1, 1, (2, 1), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros((2, 3), np.float32), {}

    def step(self, action):
        assert action.shape == (2, 1)
        assert action.dtype == np.float64
        self.t += 1
        return np.full((2, 3), self.t, np.float32), float(action.sum()), self.t == 4, False, {}


@pytest.fixture(autouse=True)
def _picture():
    gymnasium.register("tom-tests/Picture-v0", entry_point=Picture)
    yield
    del gymnasium.registry["tom-tests/Picture-v0"]


def half_full(observations):
    return observations[..., 0] > 0.5


def test_supported_ids_run_on_the_simulator_and_others_on_gymnasium():
    with make_vector_env("Hopper-v5", 2, 1, reset_noise_scale=0.1) as env:
        assert isinstance(env, BatchEnv)
        assert env.num_threads == 1
    with make_vector_env("Pendulum-v1", 2) as env:
        assert isinstance(env, GymVectorEnv)


def test_other_ids_equal_gymnasium():
    theirs = gymnasium.make_vec("Pendulum-v1", 2, vectorization_mode="sync", max_episode_steps=5)
    with make_vector_env("Pendulum-v1", 2, max_episode_steps=5) as ours:
        np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
        theirs.action_space.seed(0)
        for _ in range(12):
            action = theirs.action_space.sample()
            for one, other in zip(ours.step(action)[:4], theirs.step(action)[:4], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_observations_and_actions_are_flat_and_the_last_observation_is_kept(mode):
    with make_vector_env("tom-tests/Picture-v0", 3, autoreset_mode=mode) as env:
        assert env.observation_space.shape == (3, 6)
        assert env.action_space.shape == (3, 2)
        assert env.reset(seed=0)[0].shape == (3, 6)
        for t in range(1, 5):
            observations, rewards, terminated, *_ = env.step(np.ones((3, 2), np.float32))
            np.testing.assert_array_equal(rewards, 2.0)
            np.testing.assert_array_equal(env.observations, observations)
            np.testing.assert_array_equal(env.final_observations, t)
        assert terminated.all()
        last = 0 if mode is AutoresetMode.SAME_STEP else 4
        np.testing.assert_array_equal(observations, last)
        with pytest.raises(ValueError, match="actions have the shape"):
            env.step(np.ones((3, 2, 1)))


def test_the_termination_rule_of_other_ids_is_the_callers():
    rows = torch.tensor([[0.0] * 3, [1.0] * 3])
    with (
        make_vector_env("Pendulum-v1", 1) as env,
        pytest.raises(ValueError, match=r"--termination none .*--termination module:function"),
    ):
        env.terminated(rows)
    for rule, expected in (
        ("none", [False, False]),
        (half_full, [False, True]),
        (f"{__name__}:half_full", [False, True]),
    ):
        with make_vector_env("Pendulum-v1", 1, termination=rule) as env:
            assert env.terminated(rows).tolist() == expected
            assert env.terminated(rows.numpy()).tolist() == expected
    with (
        make_vector_env("Pendulum-v1", 1, termination=lambda rows: rows > 0) as env,
        pytest.raises(ValueError, match="one bool per observation"),
    ):
        env.terminated(rows)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("nope", "'none' or 'module:function'"),
        (":f", "'none' or 'module:function'"),
        ("math:no_such_function", "module math has no function 'no_such_function'"),
        ("math:sqr", "did you mean math:sqrt"),
        ("math:pi", "pi in the module math is of type float"),
        ("no_such_module:f", "Python finds no module 'no_such_module'; it must be installed"),
        ("math.no_such_module:f", "finds no module 'math.no_such_module'"),
        (".math:f", "finds no module '.math'"),
    ],
)
def test_a_termination_rule_that_cannot_be_found_is_refused(rule, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_vector_env("Pendulum-v1", 1, termination=rule)


def test_a_task_with_its_own_rule_takes_no_other():
    with pytest.raises(ValueError, match="Hopper-v5 has its own termination rule"):
        make_vector_env("Hopper-v5", 1, termination="none")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPole-v1", "action space is Discrete"),
        ("Taxi-v4", "observation space is Discrete"),
        ("Pendulun-v1", "Pendulum-v1"),
        ("Pendulum-v77", "Pendulum-v1"),
        ("no such thing", "registered Gymnasium id"),
        ("hopper", r"did you mean Hopper-v5\?$"),  # no short name, no older version
        ("gymnasium:Pendulun-v1", r"did you mean gymnasium:Pendulum-v1\?$"),
        ("gymnasium:nothing", "importing gymnasium registers no environment 'nothing'"),
        ("no_such_module:X-v0", "Python finds no module 'no_such_module'"),
        ("points.py:X-v0", r"give its dotted name, without \.py"),
    ],
)
def test_an_unsuitable_id_is_one_clear_sentence(env_id, message):
    with pytest.raises(ValueError, match=message):
        make_vector_env(env_id, 2)


def test_a_module_before_the_id_is_imported_first(user_folder, monkeypatch):
    monkeypatch.syspath_prepend(user_folder)
    with make_vector_env("points:My/Point-v0", 2, termination="points:arrived") as env:
        assert env.spec.id == "My/Point-v0"
        assert env.terminated(torch.tensor([[0.01], [1.0]])).tolist() == [True, False]
    with make_vector_env("points:Hopper-v5", 1) as env:
        assert isinstance(env, BatchEnv)


def test_an_id_that_is_registered_anew_is_not_the_simulators(user_folder, monkeypatch):
    monkeypatch.syspath_prepend(user_folder)
    source = "import gymnasium, points\n"
    source += "del gymnasium.registry['Hopper-v5']\n"
    source += "gymnasium.register('Hopper-v5', entry_point=points.Point)\n"
    (user_folder / "anew.py").write_text(source)
    with make_vector_env("anew:Hopper-v5", 1) as env:
        assert isinstance(env, GymVectorEnv) and env.observation_space.shape == (1, 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package", "ModuleNotFoundError (No module named 'no_such_package')"),
        ("raise RuntimeError('one\\n two')", "RuntimeError (one two)"),
        ("raise SystemExit", "the module broken raised SystemExit when it was imported"),
        ("def f(:", "the module broken raised SyntaxError ("),
    ],
)
def test_a_module_that_raises_is_one_sentence(source, message, user_folder, monkeypatch):
    monkeypatch.syspath_prepend(user_folder)
    (user_folder / "broken.py").write_text(source)
    with pytest.raises(ValueError, match=r"^env is 'broken:X-v0', .*" + re.escape(message)):
        make_vector_env("broken:X-v0", 1)
    with pytest.raises(ValueError, match=r"^termination is 'broken:f', .*" + re.escape(message)):
        make_vector_env("Pendulum-v1", 1, termination="broken:f")


class Own(Picture):
    """A user's environment whose reset or step returns `result`."""

    def __init__(self, name, result):
        self.name, self.result = name, result

    def reset(self, *, seed=None, options=None):
        usual = super().reset(seed=seed)
        return self.result if self.name == "reset" else usual

    def step(self, action):
        usual = super().step(action)
        if self.name == "raise":
            raise ZeroDivisionError
        return self.result if self.name == "step" else usual


@pytest.fixture
def own():
    """Its id."""
    gymnasium.register("tom-tests/Own-v0", entry_point=Own, max_episode_steps=3)
    yield "tom-tests/Own-v0"
    del gymnasium.registry["tom-tests/Own-v0"]


FITTING = np.zeros((2, 3), np.float32)


@pytest.mark.filterwarnings("ignore")  # Gymnasium's own, about the same
@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("step", (FITTING, 0.0, False, {}),
         "step returned 4 values, allowed are 5: observation, reward, terminated, truncated, info"),
        ("step", None, "step returned 1 value, allowed are 5"),
        ("step", (np.zeros(3), 0.0, False, False, {}),
         "step returned an observation of shape [3], allowed is [2, 3]"),
        ("step", (np.zeros(1), 0.0, True, False, {}), "observation of shape [1], allowed is"),
        ("reset", FITTING, "reset returned 1 value, allowed are 2: observation, info"),
        ("reset", (np.zeros(6), {}), "reset returned an observation of shape [6], allowed is"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_what_an_environment_returns_wrongly_is_one_sentence(mode, name, result, message, own):
    with (
        make_vector_env(own, 2, autoreset_mode=mode, name=name, result=result) as env,
        pytest.raises(TrainingError, match=f"^env {own}: .*{re.escape(message)}"),
    ):
        env.reset(seed=0)
        env.step(np.zeros((2, 2), np.float32))


def test_other_errors_of_an_environment_keep_their_traceback(own):
    with make_vector_env(own, 2, name="raise", result=None) as env:
        env.reset(seed=0)
        with pytest.raises(ZeroDivisionError):
            env.step(np.zeros((2, 2), np.float32))


@pytest.mark.filterwarnings("ignore")
def test_observations_may_be_lists(own):
    given = (FITTING.tolist(), 0.0, True, False, {})
    mode = AutoresetMode.SAME_STEP
    with make_vector_env(own, 2, autoreset_mode=mode, name="step", result=given) as env:
        env.reset(seed=0)
        assert env.step(np.zeros((2, 2), np.float32))[2].all()
        assert env.final_observations.shape == (2, 6)


class Sized(Picture):
    def __init__(self, size):
        self.size = 1 / size


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, r"TypeError \(.*missing 1 .*argument: 'size'\); give every argument a default"),
        ({"length": 1}, r"TypeError \(.*unexpected keyword argument 'length'\)"),
        ({"size": 0}, r"ZeroDivisionError .*gymnasium\.make\('tom-tests/Sized-v0'\) shows where"),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_sentence(kwargs, message):
    gymnasium.register("tom-tests/Sized-v0", entry_point=Sized)
    try:
        with pytest.raises(ValueError, match=r"Sized-v0', which cannot be made: " + message):
            make_vector_env("tom-tests/Sized-v0", 2, **kwargs)
    finally:
        del gymnasium.registry["tom-tests/Sized-v0"]


def test_other_ids_cannot_be_saved_and_say_so():
    with make_vector_env("Pendulum-v1", 1) as env:
        assert not env.can_save_state
        for call in (env.state_dict, lambda: env.load_state_dict({})):
            with pytest.raises(NotImplementedError, match="Pendulum-v1 cannot be saved"):
                call()
