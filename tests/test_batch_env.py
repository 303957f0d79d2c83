"""BatchEnv beyond equality: its errors, its saved state, its rule, its robustness."""

from __future__ import annotations

import copy
import threading
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from tom.batch_env import BatchEnv
from tom.task_arguments import resolve, supported_ids

IDS = supported_ids()


def actions_for(env: BatchEnv, steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = env.single_action_space.low, env.single_action_space.high
    return rng.uniform(low, high, size=(steps, *env.action_space.shape)).astype(np.float32)


# ------------------------------------------------------------------ the termination rule


FALLING = [
    "Ant-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Walker2d-v5",
]
NEVER_FALLING = [
    "HalfCheetah-v5",
    "HumanoidStandup-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
]


def test_every_task_is_in_one_of_the_lists_below():
    assert sorted(FALLING + NEVER_FALLING) == sorted(IDS)


@pytest.mark.parametrize("env_id", FALLING + NEVER_FALLING)
@pytest.mark.parametrize("hidden", [True, False])
def test_the_rule_on_observations_agrees_with_real_steps(env_id, hidden):
    name = "exclude_current_positions_from_observation"
    kwargs = {name: hidden} if name in resolve(env_id, {}).rest else {}
    with BatchEnv(env_id, 8, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs) as env:
        env.reset(seed=0)
        seen = 0
        for action in actions_for(env, 150):
            terminated = env.step(action)[2]
            np.testing.assert_array_equal(env.terminated(env.final_observations), terminated)
            seen += terminated.sum()
        assert (seen > 0) == (env_id in FALLING)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rule_takes_arrays_and_tensors_of_any_leading_shape(dtype):
    with BatchEnv("Hopper-v5", 1) as env:
        rows = np.tile(env.reset(seed=0)[0].astype(dtype), (6, 1))
        rows[::2, 0] = 0.5  # the height
        expected = np.arange(6) % 2 == 0
        np.testing.assert_array_equal(env.terminated(rows), expected)
        np.testing.assert_array_equal(env.terminated(rows[::-1]), expected[::-1])
        flags = env.terminated(torch.from_numpy(rows).reshape(2, 3, -1))
        assert flags.dtype == torch.bool
        torch.testing.assert_close(flags, torch.from_numpy(expected).reshape(2, 3))
        assert env.terminated(rows[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_rule_ends_a_prediction_that_is_not_finite(bad):
    for env_id in ("Hopper-v5", "Ant-v5", "InvertedPendulum-v5"):
        with BatchEnv(env_id, 1) as env:
            rows = env.reset(seed=0)[0]
            rows[0, -1 if env_id != "Ant-v5" else 20] = bad
            assert env.terminated(rows).all()


def test_the_rule_refuses_observations_of_another_shape_or_type():
    with BatchEnv("Hopper-v5", 1) as env:
        for wrong in (np.zeros((3, 10)), np.zeros((3, 11), np.int64)):
            with pytest.raises(
                ValueError, match=r"must be float32 or float64 of shape \(..., 11\)"
            ):
                env.terminated(wrong)


# ------------------------------------------------------------------ saving


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("env_id", IDS)
def test_a_saved_state_continues_exactly(env_id, mode):
    def make(num_threads: int) -> BatchEnv:
        return BatchEnv(env_id, 3, num_threads, autoreset_mode=mode, max_episode_steps=25)

    with make(2) as env, make(1) as other:
        actions = actions_for(env, 90)
        env.reset(seed=1)
        other.reset(seed=99)
        for action in actions[:24]:
            env.step(action)
        state = env.state_dict()
        assert all(value.shape[0] == 3 for value in state.values())
        expected = [env.step(action) for action in actions[24:]]
        assert any(result[2].any() or result[3].any() for result in expected)
        for restored in (other, env):  # another object, and the same one rewound
            restored.load_state_dict(state)
            np.testing.assert_array_equal(restored.observations, state["observations"].numpy())
            for action, result in zip(actions[24:], expected, strict=True):
                again = restored.step(action)
                for one, other in zip(again[:4], result[:4], strict=True):
                    np.testing.assert_array_equal(one, other)
                for key, value in result[4].items():
                    if not key.lstrip("_").startswith("final"):
                        np.testing.assert_array_equal(again[4][key], value)


def test_a_state_saved_before_the_first_reset_needs_a_reset():
    with BatchEnv("Hopper-v5", 2) as env:
        fresh = env.state_dict()
        env.reset(seed=0)
        env.load_state_dict(fresh)
        with pytest.raises(ResetNeeded):
            env.step(actions_for(env, 1)[0])


def test_a_state_that_does_not_fit_changes_nothing():
    with BatchEnv("Hopper-v5", 2) as env, BatchEnv("Walker2d-v5", 2) as other:
        env.reset(seed=0)
        other.reset(seed=0)
        before = env.state_dict()
        for wrong in (
            other.state_dict(),
            {},
            before | {"fingerprint": before["elapsed"]},
            before | {"elapsed": before["elapsed"].int()},
            before | {"elapsed": before["elapsed"].to("meta")},
            before | {"elapsed": before["elapsed"].numpy()},
            before | {"physics": before["physics"] + 1, "generators": before["generators"] | 255},
            {name: value for name, value in before.items() if name != "fingerprint"},
        ):
            with pytest.raises(ValueError, match="state"):
                env.load_state_dict(wrong)
        for name, value in env.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_state_is_loaded_only_into_the_same_task_with_the_same_arguments(tmp_path):
    """Also where all shapes are the same, as HalfCheetah's and Walker2d's are."""
    model = tmp_path / "half_cheetah.xml"
    source = files("gymnasium.envs.mujoco").joinpath("assets/half_cheetah.xml").read_text()
    model.write_text(source.replace('timestep="0.01"', 'timestep="0.02"'))
    assert model.read_text() != source

    def make(env_id: str = "HalfCheetah-v5", num_threads: int = 1, **kwargs: Any) -> BatchEnv:
        return BatchEnv(env_id, 2, num_threads, **kwargs)

    with make() as env:
        env.reset(seed=0)
        state = env.state_dict()
    for other in (
        make("Walker2d-v5"),
        make(xml_file=str(model)),
        make(frame_skip=1),
        make(max_episode_steps=10),
        make(autoreset_mode="SameStep"),
        make(ctrl_cost_weight=0.2),
    ):
        with other:
            other.reset(seed=1)
            before = other.state_dict()
            with pytest.raises(ValueError, match="the state is of another task, model"):
                other.load_state_dict(state)
            for name, value in other.state_dict().items():
                torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    model.write_text(source)  # (the model's name and place do not matter)
    with make(num_threads=2, ctrl_cost_weight=0.1, xml_file=str(model)) as same:
        same.load_state_dict(state)
        np.testing.assert_array_equal(same.observations, state["observations"])


# ------------------------------------------------------------------ what callers get wrong


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 4), np.float32),
        np.zeros((3, 3), np.float32),
        np.zeros(3, np.float32),
        np.zeros((2, 3), np.int64),
        np.full((2, 3), "left"),
    ],
)
def test_wrong_actions_are_refused_and_step_nothing(wrong):
    with BatchEnv("Hopper-v5", 2) as env:
        env.reset(seed=0)
        before = env.state_dict()
        with pytest.raises(ValueError, match=r"actions have the (shape|type)"):
            env.step(wrong)
        for name, value in env.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"id": "Hoper-v5"}, "did you mean 'Hopper-v5'"),
        ({"id": "Hopper-v5", "gravity": 1}, "gravity is not an argument.*forward_reward_weight"),
        ({"id": "Hopper-v5", "render_mode": "human"}, "render_mode is not an argument"),
        ({"id": "Hopper-v5", "healthy_z_range": 3.0}, "healthy_z_range is 3.0.*pair of numbers"),
        ({"id": "Hopper-v5", "healthy_reward": (1, 2)}, "healthy_reward is .*a number"),
        ({"id": "Hopper-v5", "healthy_reward": float("nan")}, "healthy_reward is nan"),
        ({"id": "Hopper-v5", "terminate_when_unhealthy": 3}, "must be True or False"),
        ({"id": "Ant-v5", "main_body": "tail"}, "main_body is 'tail'"),
        ({"id": "Ant-v5", "main_body": 99}, "main_body must be"),
        ({"id": "Hopper-v5", "frame_skip": 0}, "frame_skip is 0"),
        ({"id": "Hopper-v5", "frame_skip": 2**31}, "frame_skip is 2147483648.0"),
        ({"id": "Hopper-v5", "reset_noise_scale": -1}, "reset_noise_scale is -1.0"),
        ({"id": "Hopper-v5", "reset_noise_scale": "x"}, "reset_noise_scale is 'x'"),
        ({"id": "Hopper-v5", "autoreset_mode": "x"}, "autoreset_mode is 'x'.*'NextStep'"),
        ({"id": "Hopper-v5", "num_envs": 0}, "num_envs is 0"),
        ({"id": "Hopper-v5", "num_envs": 2**31}, "num_envs is 2147483648"),
        ({"id": "Hopper-v5", "max_episode_steps": 2**63}, "max_episode_steps is 92"),
        ({"id": "Hopper-v5", "num_threads": 0}, "num_threads is 0"),
        ({"id": "Hopper-v5", "max_episode_steps": 0}, "max_episode_steps is 0"),
    ],
)
def test_a_wrong_argument_is_one_clear_sentence(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BatchEnv(**{"num_envs": 2, **kwargs})


def test_a_model_file_that_mujoco_refuses_is_a_clear_error(tmp_path):
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody><oops/></worldbody></mujoco>")
    with pytest.raises(ValueError, match=r"MuJoCo cannot load .*broken\.xml"):
        BatchEnv("Hopper-v5", 1, xml_file=str(broken))
    with pytest.raises(OSError, match="does not exist"):
        BatchEnv("Hopper-v5", 1, xml_file=str(tmp_path / "missing.xml"))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 2.5}, "num_envs is 2.5, but it must be an integer"),
        ({"num_envs": "2"}, "num_envs is '2', but it must be an integer"),
        ({"num_threads": 1.0}, "num_threads is 1.0, but it must be an integer"),
        ({"max_episode_steps": 2.5}, "max_episode_steps is 2.5, but it must be an integer"),
    ],
)
def test_a_count_that_is_no_integer_is_one_clear_sentence(kwargs, message):
    with pytest.raises(TypeError, match=message):
        BatchEnv("Hopper-v5", **{"num_envs": 2, **kwargs})


@pytest.mark.parametrize("seed", [1.5, "1", -1, [0, "1"], np.array([0.5, 1])])
def test_a_wrong_seed_is_one_clear_sentence_and_changes_nothing(seed):
    with BatchEnv("Hopper-v5", 2) as env:
        env.reset(seed=0)
        before = env.state_dict()
        with pytest.raises(ValueError, match=r"seed is .*, but it must be an integer of"):
            env.reset(seed=seed)
        with pytest.raises(TypeError, match="options is 5, but it must be a dict or None"):
            env.reset(seed=3, options=5)
        for name, value in env.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        first, _ = env.reset(seed=np.array([4, 5]))
        np.testing.assert_array_equal(first, env.reset(seed=4)[0])


def test_an_environment_is_not_copied():
    with (
        BatchEnv("Hopper-v5", 2) as env,
        pytest.raises(TypeError, match="make another one and"),
    ):
        copy.deepcopy(env)


def test_stepping_before_reset_and_after_the_end_is_refused():
    with BatchEnv("Hopper-v5", 2, autoreset_mode="Disabled", max_episode_steps=2) as env:
        action = actions_for(env, 1)[0]
        with pytest.raises(ResetNeeded, match="reset"):
            env.step(action)
        env.reset(seed=0)
        env.step(action)
        *_, truncations, _ = env.step(action)
        assert truncations.all()
        with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
            env.step(action)
        env.reset(options={"reset_mask": truncations})
        env.step(action)


def test_a_closed_environment_says_so():
    env = BatchEnv("Hopper-v5", 1)
    env.reset(seed=0)
    observations = env.observations
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.step(np.zeros((1, 3), np.float32))
    for given in (observations, torch.from_numpy(observations)):
        with pytest.raises(RuntimeError, match="closed"):
            env.terminated(given)
    assert np.isfinite(observations).all()


def test_a_second_caller_is_refused_and_disturbs_nothing():
    with BatchEnv("Humanoid-v5", 8, 1) as env, BatchEnv("Humanoid-v5", 8, 1) as alone:
        actions = actions_for(env, 40)
        env.reset(seed=0)
        alone.reset(seed=0)
        expected = [alone.step(action)[0] for action in actions]
        refusals: list[str] = []
        done = threading.Event()

        def intrude() -> None:
            while not done.is_set():
                try:
                    env.state_dict()
                except RuntimeError as error:
                    refusals.append(str(error))

        intruder = threading.Thread(target=intrude)
        intruder.start()
        own: list[np.ndarray] = []
        for action in actions:
            while True:  # the intruder may hold the environment just now
                try:
                    own.append(env.step(action)[0])
                    break
                except RuntimeError as error:
                    refusals.append(str(error))
        done.set()
        intruder.join()
        assert refusals and all("one thread at a time" in refusal for refusal in refusals)
        for one, other in zip(own, expected, strict=True):
            np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------ simulations that blow up


def test_an_unstable_simulation_is_named_and_leaves_the_others_alone(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with BatchEnv("HalfCheetah-v5", 3) as env, BatchEnv("HalfCheetah-v5", 3) as calm:
        actions = actions_for(env, 10)
        env.reset(seed=0)
        calm.reset(seed=0)
        state = env.state_dict()
        state["physics"][1, 5] = float("nan")
        env.load_state_dict(state)
        with pytest.warns(RuntimeWarning, match="simulation 1 became unstable") as record:
            results = [env.step(action) for action in actions]
        assert len(record) == 1
        for result, action in zip(results, actions, strict=True):
            expected = calm.step(action)
            assert np.isfinite(result[0]).all()
            np.testing.assert_array_equal(result[0][[0, 2]], expected[0][[0, 2]])
            np.testing.assert_array_equal(result[1][[0, 2]], expected[1][[0, 2]])
    assert not list(tmp_path.iterdir())  # no MUJOCO_LOG.TXT
    assert "WARNING" not in capfd.readouterr().err


def test_the_context_manager_closes():
    with BatchEnv("Hopper-v5", 1) as env:
        env.reset(seed=0)
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()
