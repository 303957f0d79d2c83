"""make_vector_env: BatchEnv for its ids, Gymnasium's own environments behind the same interface."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from tom.batch_env import BatchEnv
from tom.gym_vector import GymVectorEnv, make_vector_env


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


@pytest.mark.parametrize("rule", ["nope", "math:no_such_function", "no_such_module:f", ":f"])
def test_a_termination_rule_that_cannot_be_found_is_refused(rule):
    with pytest.raises(ValueError, match="'none' or 'module:function'"):
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
    ],
)
def test_an_unsuitable_id_is_one_clear_sentence(env_id, message):
    with pytest.raises(ValueError, match=message):
        make_vector_env(env_id, 2)


def test_other_ids_cannot_be_saved_and_say_so():
    with make_vector_env("Pendulum-v1", 1) as env:
        assert not env.can_save_state
        for call in (env.state_dict, lambda: env.load_state_dict({})):
            with pytest.raises(NotImplementedError, match="Pendulum-v1 cannot be saved"):
                call()
