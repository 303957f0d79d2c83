"""Rows from the environment are what Gymnasium gives, and evaluation leaves no trace."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from helpers import CPU, streams
from tom.collector import Collector
from tom.config import Config, override
from tom.evaluation import Evaluation
from tom.initial_states import InitialStates
from tom.rows import RowLayout
from tom.task_env import make_env
from tom.training_error import TrainingError

CONFIG = override(Config(env="hopper"), {"evaluation.episodes": 3})
LAYOUT = RowLayout(11, 3)


def _collector(*seeds: int) -> Collector:
    env = make_env(CONFIG, len(seeds), threads=1)
    initial = InitialStates(LAYOUT.observation_size, streams(*seeds))
    return Collector(env, LAYOUT, initial, seeds, streams(*seeds, purpose="exploration"))


def test_rows_are_gymnasiums_transitions() -> None:
    collector = _collector(4, 9)
    plain = [gymnasium.make("Hopper-v5") for _ in range(2)]
    before = [env.reset(seed=seed)[0] for env, seed in zip(plain, (4, 9), strict=True)]
    for _ in range(120):
        actions = collector.random_actions()
        rows = collector.step(actions)
        for s, env in enumerate(plain):
            after, reward, terminated, truncated, _ = env.step(actions[s].numpy())
            expected = np.concatenate(
                [before[s], actions[s].numpy(), after, [reward, terminated]]
            ).astype(np.float32)
            np.testing.assert_array_equal(rows[s].numpy(), expected)
            before[s] = env.reset()[0] if terminated or truncated else after
    assert collector.metrics()["rollout/ep_len_mean"].min() > 1


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (3, math.nan, r"the observation \[3\] nan in environment 1"),  # of a reset
        (LAYOUT.reward, math.nan, r"Hopper-v5 returned the reward nan in environment 1; allowed"),
        (
            LAYOUT.next_observation.start + 4,
            math.inf,
            r"the observation \[4\] inf in environment 1",
        ),
    ],
)
def test_numbers_that_are_none_are_refused(
    column: int, value: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = _collector(0, 1)
    join = RowLayout.join

    def spoiled(self: RowLayout, *parts: torch.Tensor) -> torch.Tensor:
        rows = join(self, *parts)
        rows[1, column] = value
        return rows

    monkeypatch.setattr(RowLayout, "join", spoiled)
    with pytest.raises(TrainingError, match=words):
        collector.step(collector.random_actions())


def test_actions_that_are_none_are_refused() -> None:
    collector = _collector(0)
    with pytest.raises(TrainingError, match="soft actor-critic has diverged"):
        collector.step(torch.full((1, 3), math.nan))


def test_an_evaluation_of_what_is_no_number_ends() -> None:
    evaluation = Evaluation(make_env(CONFIG, 3, threads=1), CONFIG.evaluation, (0,), CPU)
    with pytest.raises(TrainingError, match="soft actor-critic has diverged"):
        evaluation.run(0, lambda observations: torch.full((1, 3, 3), math.nan))


@pytest.mark.parametrize("index", [0, 1])
def test_an_evaluation_by_what_is_no_number_ends(
    index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an environment's observations (0) and rewards (1)."""
    evaluation = Evaluation(make_env(CONFIG, 3, threads=1), CONFIG.evaluation, (0,), CPU)
    step = evaluation.env.step

    def spoiled(actions: np.ndarray) -> tuple[Any, ...]:
        result = step(actions)
        result[index][1] = math.inf
        return result

    monkeypatch.setattr(evaluation.env, "step", spoiled)
    with pytest.raises(TrainingError, match="Hopper-v5 returned an observation or a reward"):
        evaluation.run(0, lambda observations: torch.zeros(1, 3, 3))


def test_first_states_of_episodes_are_remembered() -> None:
    collector = _collector(0)
    for _ in range(100):
        collector.step(collector.random_actions())
    # Hopper starts within 0.005 of its initial position, height 1.25.
    starts = collector.initial_states.sample(500)[0]
    assert len(starts.unique(dim=0)) > 3
    assert bool(((starts[:, 0] - 1.25).abs() <= 0.005).all())


def test_continues_exactly_from_its_state() -> None:
    first, second = _collector(0, 1), _collector(7, 8)
    for _ in range(37):
        first.step(first.random_actions())
    second.load_state_dict(first.state_dict())
    for _ in range(60):
        assert torch.equal(first.step(first.random_actions()), second.step(second.random_actions()))
    for name, value in first.metrics().items():
        assert torch.equal(value, second.metrics()[name])


def test_evaluation_is_repeatable_and_disturbs_nothing() -> None:
    with_evaluation, without = _collector(0), _collector(0)
    evaluation = Evaluation(make_env(CONFIG, 3, threads=2), CONFIG.evaluation, (0,), CPU)

    def stand_still(observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*observations.shape[:2], 3)

    results = []
    for _ in range(3):
        results.append(evaluation.run(1000, stand_still))
        for _ in range(20):
            a = with_evaluation.step(with_evaluation.random_actions())
            b = without.step(without.random_actions())
            assert torch.equal(a, b)
    assert all(torch.equal(r["eval/mean_reward"], results[0]["eval/mean_reward"]) for r in results)
    other = evaluation.run(2000, stand_still)
    assert not torch.equal(other["eval/mean_reward"], results[0]["eval/mean_reward"])


def test_evaluation_returns_are_those_of_plain_episodes() -> None:
    evaluation = Evaluation(make_env(CONFIG, 6, threads=2), CONFIG.evaluation, (0, 1), CPU)
    result = evaluation.run(500, lambda o: torch.zeros(*o.shape[:2], 3))
    for s, seed in enumerate((0, 1)):
        returns = []
        starts = np.random.SeedSequence([seed, 500, 1]).generate_state(3)
        for start in starts:
            env, total, done = gymnasium.make("Hopper-v5"), 0.0, False
            env.reset(seed=int(start))
            while not done:
                _, reward, terminated, truncated, _ = env.step(np.zeros(3, np.float32))
                total, done = total + float(reward), terminated or truncated
            returns.append(total)
        assert result["eval/mean_reward"][s].item() == np.mean(returns)
