"""BatchEnv when MuJoCo fails, and over many lives."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tom.batch_env import BatchEnv
from tom.replay import ReplayBuffer


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the messages of the warnings in the block."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(warning.message) for warning in caught]


@pytest.fixture
def cramped_ant(tmp_path):
    """Ant's model with so little memory that MuJoCo fails once a simulation has many contacts."""
    source = files("gymnasium.envs.mujoco").joinpath("assets/ant.xml").read_text()
    path = tmp_path / "cramped_ant.xml"
    path.write_text(re.sub(r"(<option[^>]*>)", r'\1<size memory="16K"/>', source, count=1))
    return str(path)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_an_error_in_mujoco_ends_one_episode_and_leaves_the_others_alone(cramped_ant, mode):
    settings = {"autoreset_mode": mode}
    actions = np.random.default_rng(0).uniform(-1, 1, size=(40, 4, 8)).astype(np.float32)
    with (
        BatchEnv("Ant-v5", 4, 2, xml_file=cramped_ant, **settings) as env,
        BatchEnv("Ant-v5", 4, 2, **settings) as calm,
    ):
        size = env.single_observation_space.shape[0]
        buffer = ReplayBuffer(1000, 2 * size + 8 + 2)
        before, _ = env.reset(seed=0)
        calm.reset(seed=0)
        for action in actions:
            expected = calm.step(action)
            with _warnings() as caught:
                result = env.step(action, into=buffer)
            failed = [i for i in range(4) if any(f"simulation {i} raised" in m for m in caught)]
            well = [i for i in range(4) if i not in failed]
            for one, other in zip(result[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(one[well], other[well])
            if failed:
                break
            before = result[0]
        assert failed, "the model was meant to fail"
        _, rewards, terminated, truncated, _ = result
        assert terminated[failed].all() and not truncated[failed].any()
        np.testing.assert_array_equal(rewards[failed], 0.0)
        np.testing.assert_array_equal(env.final_observations[failed], before[failed])
        assert all("out of memory" in message for message in caught)
        rows = buffer.newest(4).numpy()
        np.testing.assert_array_equal(rows[failed, -1], 1.0)
        np.testing.assert_array_equal(rows[failed, :size], before[failed].astype(np.float32))
        with _warnings():  # the failed simulation begins a new episode and goes on
            results = [env.step(action) for action in actions[:3]]
        assert all(np.isfinite(result[0]).all() for result in results)


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_lives_leak_nothing(times):
    _live_and_die(times)


def _live_and_die(times: int) -> None:
    """Steps a fresh environment and closes it, or forgets it, and watches memory and threads."""
    action = np.zeros((2, 1), np.float32)

    def live(close: bool) -> None:
        env = BatchEnv("InvertedPendulum-v5", 2, 2)
        env.reset(seed=0)
        env.step(action)
        if close:
            env.close()

    for i in range(100):  # until the allocator has what it needs
        live(close=i % 2 == 0)
    gc.collect()
    threads, before = _threads(), _resident_bytes()
    for i in range(times):
        live(close=i % 2 == 0)
    gc.collect()
    assert _threads() == threads
    # A simulation's mjData and model take hundreds of kilobytes: one in a hundred left is seen.
    assert _resident_bytes() - before < 8e6


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))
