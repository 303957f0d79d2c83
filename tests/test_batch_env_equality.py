"""BatchEnv against Gymnasium, number by number."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tom.batch_env import BatchEnv
from tom.task_arguments import resolve, supported_ids

IDS = supported_ids()
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


@pytest.fixture(autouse=True)
def _mujoco_log_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Gymnasium's simulations write MUJOCO_LOG.TXT where they run


def assert_same(ours: Any, theirs: Any, where: str = "result") -> None:
    """Equal types, keys, dtypes and every bit (NaN equals NaN)."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        if ours.tobytes() != theirs.tobytes():  # much faster when all is well
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


def gymnasium_env(env_id: str, num_envs: int, mode: AutoresetMode, **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv(
        [lambda: gymnasium.make(env_id, **kwargs) for _ in range(num_envs)], autoreset_mode=mode
    )


def random_actions(env: Any, steps: int, dtype: Any = np.float32) -> np.ndarray:
    """[steps, N, A]; a quarter of them far beyond the control range."""
    rng = np.random.default_rng(0)
    low, high = env.single_action_space.low, env.single_action_space.high
    actions = rng.uniform(low, high, size=(steps, *env.action_space.shape))
    actions[rng.random((steps, env.num_envs)) < 0.25] *= 10
    return actions.astype(dtype)


def compare(ours: BatchEnv, theirs: SyncVectorEnv, actions: np.ndarray, seed: int = 3) -> int:
    """Step both through `actions`; return the number of episodes that ended."""
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=seed), theirs.reset(seed=seed), "reset")
    ended = 0
    for t, action in enumerate(actions):
        result = ours.step(action)
        assert_same(result, theirs.step(action), f"step {t}")
        over = result[2] | result[3]
        last = result[4].get("final_obs", result[0])
        for i in np.flatnonzero(over):
            np.testing.assert_array_equal(ours.final_observations[i], last[i])
        np.testing.assert_array_equal(ours.final_observations[~over], result[0][~over])
        np.testing.assert_array_equal(ours.observations, result[0])
        ended += int(over.sum())
    return ended


@pytest.mark.parametrize("env_id", IDS)
def test_whole_episodes_equal_gymnasium_for_every_thread_count(env_id):
    """Three sub-environments, each to the end of an episode under Gymnasium's own time limit."""
    theirs = gymnasium_env(env_id, 3, AutoresetMode.NEXT_STEP)
    actions = random_actions(theirs, theirs.envs[0].spec.max_episode_steps)
    first = theirs.reset(seed=11)
    results: list[Any] = []
    ended = np.zeros(3, dtype=int)
    while ended.min() < 1:
        results.append(theirs.step(actions[len(results)]))
        ended += results[-1][2] | results[-1][3]
    assert ended.sum() >= 3
    for num_threads in (1, 2, 3, 7):
        with BatchEnv(env_id, 3, num_threads) as ours:
            assert_same(ours.reset(seed=11), first)
            for t, result in enumerate(results):
                assert_same(ours.step(actions[t]), result, f"step {t}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_many_short_episodes_equal_gymnasium_in_both_autoreset_modes(env_id, mode):
    theirs = gymnasium_env(env_id, 4, mode, max_episode_steps=17)
    with BatchEnv(env_id, 4, 2, autoreset_mode=mode, max_episode_steps=17) as ours:
        assert compare(ours, theirs, random_actions(ours, 60)) >= 12


@pytest.mark.parametrize("env_id", IDS)
def test_double_precision_actions_equal_gymnasium(env_id):
    mode = AutoresetMode.NEXT_STEP
    theirs = gymnasium_env(env_id, 2, mode, disable_env_checker=True)
    with BatchEnv(env_id, 2, autoreset_mode=mode) as ours:
        compare(ours, theirs, random_actions(ours, 30, np.float64))


@pytest.mark.parametrize("env_id", IDS)
def test_nan_and_infinite_actions_equal_gymnasium(env_id):
    theirs = gymnasium_env(env_id, 3, AutoresetMode.NEXT_STEP, disable_env_checker=True)
    with BatchEnv(env_id, 3, autoreset_mode=AutoresetMode.NEXT_STEP) as ours:
        actions = random_actions(ours, 40)
        actions[7:20:3, 1, 0] = np.nan
        actions[30, 2] = np.inf
        with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="simulation 1"):
            compare(ours, theirs, actions)


@pytest.mark.parametrize("env_id", ["Ant-v5", "HalfCheetah-v5", "InvertedDoublePendulum-v5"])
def test_zeros_without_noise_have_gymnasiums_sign(env_id: str) -> None:
    """Which a comparison of numbers cannot see."""
    theirs = gymnasium_env(env_id, 3, AutoresetMode.NEXT_STEP, reset_noise_scale=0.0)
    with BatchEnv(env_id, 3, reset_noise_scale=0.0) as ours:
        found, expected = ours.reset(seed=0)[0], theirs.reset(seed=0)[0]
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


ARGUMENTS = {
    "Hopper-v5": {
        "forward_reward_weight": 1.3,
        "ctrl_cost_weight": 0.017,
        "healthy_reward": 0.7,
        "healthy_state_range": (-2.5, 2.0),
        "healthy_z_range": (0.9, 1.3),
        "healthy_angle_range": (-0.1, 0.15),
        "reset_noise_scale": 0.02,
        "exclude_current_positions_from_observation": False,
        "frame_skip": 3,
    },
    "Walker2d-v5": {
        "forward_reward_weight": 0.9,
        "ctrl_cost_weight": 0.017,
        "healthy_reward": 1.7,
        "healthy_z_range": (1.0, 1.4),
        "healthy_angle_range": (-0.3, 0.2),
        "reset_noise_scale": 0.02,
        "exclude_current_positions_from_observation": False,
        "frame_skip": 5,
    },
    "HalfCheetah-v5": {
        "forward_reward_weight": 0.9,
        "ctrl_cost_weight": 0.17,
        "reset_noise_scale": 0.3,
        "exclude_current_positions_from_observation": False,
        "frame_skip": 2,
    },
    "Ant-v5": {
        "forward_reward_weight": 1.1,
        "ctrl_cost_weight": 0.3,
        "contact_cost_weight": 7e-4,
        "healthy_reward": 0.9,
        "main_body": 2,
        "healthy_z_range": (0.3, 0.8),
        "contact_force_range": (-0.7, 0.4),
        "reset_noise_scale": 0.05,
        "exclude_current_positions_from_observation": False,
        "include_cfrc_ext_in_observation": False,
        "frame_skip": 3,
    },
    "Humanoid-v5": {
        "forward_reward_weight": 1.1,
        "ctrl_cost_weight": 0.3,
        "contact_cost_weight": 1e-4,
        "contact_cost_range": (0.001, 0.5),
        "healthy_reward": 4.0,
        "healthy_z_range": (1.2, 1.6),
        "reset_noise_scale": 0.03,
        "exclude_current_positions_from_observation": False,
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
        "frame_skip": 3,
    },
    "HumanoidStandup-v5": {
        "uph_cost_weight": 3.0,
        "ctrl_cost_weight": 0.3,
        "impact_cost_weight": 1e-4,
        "impact_cost_range": (0.001, 0.5),
        "reset_noise_scale": 0.03,
        "exclude_current_positions_from_observation": False,
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
        "frame_skip": 3,
    },
    "InvertedDoublePendulum-v5": {
        "healthy_reward": 7.0,
        "reset_noise_scale": 0.05,
        "frame_skip": 3,
    },
    "InvertedPendulum-v5": {"reset_noise_scale": 0.05, "frame_skip": 3},
    "Pusher-v5": {
        "reward_near_weight": 0.3,
        "reward_dist_weight": 0.9,
        "reward_control_weight": 0.17,
        "frame_skip": 3,
    },
    "Reacher-v5": {"reward_dist_weight": 0.9, "reward_control_weight": 0.7, "frame_skip": 3},
    "Swimmer-v5": {
        "forward_reward_weight": 0.9,
        "ctrl_cost_weight": 0.017,
        "reset_noise_scale": 0.3,
        "exclude_current_positions_from_observation": False,
        "frame_skip": 3,
    },
}


@pytest.mark.parametrize("env_id", IDS)
def test_every_constructor_argument_has_gymnasiums_effect(env_id):
    kwargs = ARGUMENTS[env_id]
    assert set(kwargs) >= set(resolve(env_id, {}).rest) - {"terminate_when_unhealthy", "blas_fuses"}
    mode = AutoresetMode.SAME_STEP
    theirs = gymnasium_env(env_id, 3, mode, max_episode_steps=40, **kwargs)
    with BatchEnv(env_id, 3, 2, autoreset_mode=mode, max_episode_steps=40, **kwargs) as ours:
        assert compare(ours, theirs, random_actions(ours, 80)) >= 3


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Hopper-v5", {"terminate_when_unhealthy": False}),
        ("Walker2d-v5", {"terminate_when_unhealthy": False}),
        ("Ant-v5", {"terminate_when_unhealthy": False, "main_body": "torso"}),
        ("Humanoid-v5", {"terminate_when_unhealthy": False}),
    ],
)
def test_falling_without_termination_equals_gymnasium(env_id, kwargs):
    theirs = gymnasium_env(env_id, 2, AutoresetMode.NEXT_STEP, **kwargs)
    with BatchEnv(env_id, 2, **kwargs) as ours:
        assert compare(ours, theirs, random_actions(ours, 150)) == 0


def test_a_fall_on_the_last_step_is_both_terminated_and_truncated():
    with BatchEnv("Hopper-v5", 1) as env:
        actions = random_actions(env, 200)
        env.reset(seed=3)
        fall = next(t for t, action in enumerate(actions) if env.step(action)[2].any())
    limit = fall + 1
    theirs = gymnasium_env("Hopper-v5", 1, AutoresetMode.NEXT_STEP, max_episode_steps=limit)
    with BatchEnv("Hopper-v5", 1, max_episode_steps=limit) as env:
        assert compare(env, theirs, actions[:limit]) == 1
        env.reset(seed=3)
        *_, last = (env.step(action) for action in actions[:limit])
        assert last[2].all() and last[3].all()


def test_seeds_and_partial_resets_equal_gymnasium():
    theirs = gymnasium_env("Ant-v5", 3, AutoresetMode.DISABLED)
    with BatchEnv("Ant-v5", 3, autoreset_mode="Disabled") as ours:
        mask = np.array([False, True, True])
        for kwargs in (
            {"seed": [5, 9, 2]},
            {"seed": 4, "options": {"anything": 1}},
            {"seed": [1, None, 7], "options": {"reset_mask": mask}},
            {"options": {"reset_mask": mask}},
            {},
        ):
            given = kwargs | {"options": dict(kwargs.get("options", {}))}
            assert_same(ours.reset(**kwargs), theirs.reset(**given))
            for action in random_actions(ours, 5):
                assert_same(ours.step(action), theirs.step(action))
        assert ours.np_random_seed == theirs.np_random_seed


def test_the_rounding_matters():
    """The comparison sees one bit: a control that the tests above are able to fail."""
    with BatchEnv("HalfCheetah-v5", 1) as single, BatchEnv("HalfCheetah-v5", 1) as double:
        single.reset(seed=0)
        double.reset(seed=0)
        actions = random_actions(single, 20)
        rewards = [
            (single.step(action)[1], double.step(action.astype(np.float64))[1])
            for action in actions
        ]
    assert any(one != other for one, other in rewards)
    np.testing.assert_allclose(*np.swapaxes(rewards, 0, 1), rtol=1e-5)
