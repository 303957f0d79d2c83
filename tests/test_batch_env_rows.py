"""`step(actions, into=buffer)`: transitions written straight into a replay buffer."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from tom.batch_env import BatchEnv
from tom.replay import ReplayBuffer


def width(env: BatchEnv) -> int:
    return 2 * env.single_observation_space.shape[0] + env.single_action_space.shape[0] + 2


def actions_for(env: BatchEnv, steps: int) -> np.ndarray:
    low, high = env.single_action_space.low, env.single_action_space.high
    rng = np.random.default_rng(0)
    return rng.uniform(low, high, size=(steps, *env.action_space.shape)).astype(np.float32)


def rows_one_by_one(env: BatchEnv, actions: np.ndarray, seed: int) -> np.ndarray:
    """The reference: the rows of all transitions, put together from what `step` returns."""
    observations, _ = env.reset(seed=seed)
    rows = []
    over = np.zeros(env.num_envs, dtype=bool)
    for action in actions:
        before, resets = observations, over & (env.autoreset_mode is AutoresetMode.NEXT_STEP)
        observations, rewards, terminated, truncated, _ = env.step(action)
        for i in np.flatnonzero(~resets):
            end = [rewards[i], terminated[i]]
            rows.append(np.concatenate((before[i], action[i], env.final_observations[i], end)))
        over = terminated | truncated
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5"])
def test_the_rows_are_those_of_the_steps_in_environment_order(env_id, mode, num_threads):
    settings = {"autoreset_mode": mode, "max_episode_steps": 30}
    with (
        BatchEnv(env_id, 5, num_threads, **settings) as env,
        BatchEnv(env_id, 5, 1, **settings) as reference,
    ):
        expected = rows_one_by_one(reference, actions_for(env, 70), seed=1)
        buffer = ReplayBuffer(len(expected), width(env))
        env.reset(seed=1)
        for action in actions_for(env, 70):
            env.step(action, into=buffer)
        np.testing.assert_array_equal(buffer.rows.numpy(), expected)
        assert expected[:, -1].any() or env_id != "Hopper-v5"
        torch.testing.assert_close(buffer.weights, torch.ones(len(expected), dtype=torch.float64))


def test_double_precision_actions_become_float32_in_the_row():
    with BatchEnv("Hopper-v5", 2) as env:
        buffer = ReplayBuffer(2, width(env))
        env.reset(seed=0)
        action = actions_for(env, 1)[0].astype(np.float64) / 3
        env.step(action, into=buffer)
        np.testing.assert_array_equal(buffer.rows[:, 11:14].numpy(), action.astype(np.float32))


def test_a_full_buffer_keeps_the_newest_rows():
    with BatchEnv("Hopper-v5", 3, 2, autoreset_mode="SameStep") as env:
        actions = actions_for(env, 40)
        expected = rows_one_by_one(env, actions, seed=2)
        buffer = ReplayBuffer(50, width(env))
        env.reset(seed=2)
        for action in actions:
            env.step(action, into=buffer)
        assert buffer.total_appended == 120
        np.testing.assert_array_equal(buffer.newest(50).numpy(), expected[-50:])


def test_a_buffer_that_does_not_fit_is_refused_and_nothing_is_stepped():
    with BatchEnv("Hopper-v5", 3) as env:
        env.reset(seed=0)
        before = env.state_dict()
        action = actions_for(env, 1)[0]
        narrow, small = ReplayBuffer(100, width(env) - 1), ReplayBuffer(2, width(env))
        with pytest.raises(ValueError, match=r"rows have 26 numbers, but a row .* has 27"):
            env.step(action, into=narrow)
        with pytest.raises(ValueError, match=r"capacity is 2, but it must hold .* one step, 3"):
            env.step(action, into=small)
        with pytest.raises(TypeError, match="into is a list"):
            env.step(action, into=[])
        assert len(narrow) == len(small) == 0
        for name, value in env.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_refused_buffer_leaves_the_random_streams_where_they_are(mode):
    """Episodes that are over begin in the step that is refused."""
    with BatchEnv("Hopper-v5", 3, 1, autoreset_mode=mode, max_episode_steps=1) as env:
        env.reset(seed=0)
        action = actions_for(env, 1)[0]
        env.step(action)
        before = env.state_dict()
        with pytest.raises(ValueError, match="rows have 26 numbers"):
            env.step(action, into=ReplayBuffer(100, width(env) - 1))
        for name, value in env.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_readers_see_whole_rows_while_the_workers_write():
    with BatchEnv("HalfCheetah-v5", 16, 2) as env:
        buffer = ReplayBuffer(64, width(env))
        env.reset(seed=0)
        actions = actions_for(env, 200)
        written: set[bytes] = set()
        seen: list[torch.Tensor] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                if len(buffer):
                    seen.append(buffer.sample(32)[1])

        reader = threading.Thread(target=read)
        reader.start()
        for action in actions:
            env.step(action, into=buffer)
            written.update(row.tobytes() for row in buffer.newest(16).numpy())
        done.set()
        reader.join()
        assert len(seen) > 10
        for rows in seen:
            assert all(row.tobytes() in written for row in rows.numpy())
