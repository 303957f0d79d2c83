"""Acting with what a run has trained."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from rich.console import Console

import tom
from tom.cli import parse
from tom.train import main, open_run

OPTIONS = ["--env", "hopper", "--preset", "debug", "--algorithm", "sac", "--threads", "1",
           "--seeds", "2", "--steps", "250"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent") / "run"
    main([*OPTIONS, "--run-dir", str(folder)])
    return folder


@pytest.mark.parametrize("seed", [0, 1])
def test_actions_are_those_of_an_evaluation(run: Path, seed: int) -> None:
    parts, _, _ = open_run(parse([*OPTIONS, "--run-dir", str(run)]), Console(file=io.StringIO()))
    observations = torch.randn(2, 7, 11)
    expected = parts.sac.act_deterministically(observations)[seed].numpy()
    parts.close()
    agent = tom.load_agent(run, seed)
    assert (agent.seed, agent.step, agent.config.algorithm) == (seed, 250, "sac")
    given = observations[seed].numpy()
    np.testing.assert_allclose(agent.act(given), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(agent.act(given[3].astype(float)), expected[3], rtol=0, atol=1e-6)
    drawn = agent.act(given, deterministic=False)
    assert drawn.shape == (7, 3) and np.abs(drawn).max() <= 1
    assert not np.array_equal(drawn, agent.act(given, deterministic=False))


def test_its_environment_is_the_runs(run: Path) -> None:
    agent = tom.load_agent(str(run))
    env = agent.make_env(max_episode_steps=3)
    observation, _ = env.reset(seed=0)
    over, steps = False, 0
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        over, steps = terminated or truncated, steps + 1
    assert steps == 3


@pytest.mark.parametrize(
    ("mode", "variables", "message"),
    [
        ("human", {}, r"given 'human', but DISPLAY and WAYLAND_DISPLAY are not set: no display, "
                      r"allowed is 'rgb_array' with MUJOCO_GL=egl in the environment$"),
        ("human", {"MUJOCO_GL": "egl"}, "given 'human'"),
        ("rgb_array", {}, r"MUJOCO_GL=egl or osmesa in the environment, which is not set$"),
        ("rgb_array", {"MUJOCO_GL": "glfw"}, r"in the environment, not glfw$"),
        ("rgb_array", {"MUJOCO_GL": "egl"}, None),
        ("human", {"DISPLAY": ":0"}, None),
        ("human", {"WAYLAND_DISPLAY": "wayland-0"}, None),
        (None, {}, None),
    ],
)  # fmt: skip
def test_drawing_without_a_display_is_refused_before_mujoco_tries(
    mode: str | None, variables: dict[str, str], message: str | None, run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    agent = tom.load_agent(run)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if message is None:
        agent.make_env(render_mode=mode).close()
    else:
        with pytest.raises(ValueError, match="^render_mode: .*" + message):
            agent.make_env(render_mode=mode)


def test_what_cannot_be_loaded_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(tom.ConfigError, match="holds no run"):
        tom.load_agent(tmp_path)
    with pytest.raises(tom.ConfigError, match="seed: given 2, allowed are 0 to 1"):
        tom.load_agent(run, 2)
    with pytest.raises(tom.ConfigError, match="device: given 'tpu'"):
        tom.load_agent(run, device="tpu")
    with pytest.raises(
        ValueError, match=r"given the shape \[5\], allowed are \[11\] and \[B, 11\]"
    ):
        tom.load_agent(run).act(np.zeros(5))


class Grid(gymnasium.Env):
    """Boxes of two axes, and actions of float64."""

    observation_space = Box(-1, 1, (2, 3), np.float64)
    action_space = Box(-2, 2, (1, 2), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((2, 3)), {}

    def step(self, action):
        assert action.shape == (1, 2)
        return self.np_random.uniform(-1, 1, (2, 3)), 0.0, False, False, {}


def test_boxes_of_several_axes_are_the_environments(tmp_path: Path) -> None:
    gymnasium.register("tom-tests/Grid-v0", entry_point=Grid, max_episode_steps=20)
    try:
        main(["--env", "tom-tests/Grid-v0", "--preset", "debug", "--algorithm", "sac", "--threads",
              "1", "--steps", "250", "--run-dir", str(tmp_path)])  # fmt: skip
        agent = tom.load_agent(tmp_path)
    finally:
        del gymnasium.registry["tom-tests/Grid-v0"]
    action = agent.act(np.zeros((2, 3)))
    assert action.shape == (1, 2) and action.dtype == np.float32
    assert agent.act(np.zeros((5, 2, 3))).shape == (5, 1, 2)
    assert agent.act(np.zeros((0, 2, 3))).shape == (0, 1, 2)
    with pytest.raises(ValueError, match=r"given the shape \[6\], allowed are \[2, 3\] and \[B, 2"):
        agent.act(np.zeros(6))
