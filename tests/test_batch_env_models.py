"""Models that a task was not made for, `xml_file`: as Gymnasium's task takes them, or refused."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tom.batch_env import BatchEnv
from tom.task_arguments import supported_ids

POINT = """<mujoco>
<worldbody><body name="torso"><joint type="slide" name="s"/><geom size="1"/></body></worldbody>
<actuator><motor joint="s"/></actuator>
</mujoco>"""
STEPS = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All that Gymnasium carries, and one with a single joint."""
    point = tmp_path_factory.mktemp("models") / "point.xml"
    point.write_text(POINT)
    return [*sorted(Path(str(files("gymnasium.envs.mujoco") / "assets")).glob("*.xml")), point]


def _of_gymnasium(env_id: str, model: Path) -> list[np.ndarray] | None:
    """Observations of a reset and of some steps, the last where it ends; None if it cannot."""
    try:
        with gymnasium.make(env_id, xml_file=str(model), disable_env_checker=True) as env:
            observations = [env.reset(seed=0)[0]]
            action = np.zeros(env.action_space.shape, np.float32)
            over = False
            while not over and len(observations) <= STEPS:
                observation, _, over, _, _ = env.step(action)
                observations.append(observation)
            return observations
    except (IndexError, KeyError, ValueError, AttributeError, TypeError, AssertionError):
        return None


def _of_tom(env_id: str, model: Path) -> list[np.ndarray]:
    with BatchEnv(env_id, 1, 1, xml_file=str(model)) as env:
        observations = [env.reset(seed=0)[0][0]]
        actions = np.zeros(env.action_space.shape, np.float32)
        over = False
        while not over and len(observations) <= STEPS:
            _, _, (over,), _, _ = env.step(actions)
            observations.append(env.final_observations[0].copy())
        return observations


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("env_id", supported_ids())
def test_any_model_is_taken_as_gymnasium_takes_it_or_refused(
    env_id: str, models: list[Path]
) -> None:
    refused = 0
    for model in models:
        expected = _of_gymnasium(env_id, model)
        try:
            observations = _of_tom(env_id, model)
        except ValueError as error:
            refused += 1
            assert expected is None or "needs at least" in str(error), (model.name, error)
            assert "\n" not in str(error)
            continue
        if expected is not None:
            for mine, theirs in zip(observations, expected, strict=True):
                np.testing.assert_array_equal(mine, theirs, err_msg=model.name)
    assert refused < len(models)
