"""Steps per second of BatchEnv beside everything else that runs these tasks.

    pytest bench/test_bench_env.py --benchmark-only -s

All contestants have 16 sub-environments and, where they have any, two threads. They take turns in
one process, each with a whole chunk of steps at a time, and the median chunk counts, so that what
else the machine does hits all of them. An untimed step precedes each chunk: the threads of whoever
came before have gone to sleep by then, and its own are awake. EnvPool takes part where it is
installed (`pip install '.[bench]'`).

Bare physics is MuJoCo's own `mujoco.batch` on the states of BatchEnv: those before each step are
kept, and bare physics, of which the steps alone are timed, starts each of its steps from them with
the same actions. It is the ceiling: no observations, rewards or episodes, and it leaves out the
simulations that BatchEnv restarts, while BatchEnv is timed with its restarts. It takes part twice:
as it comes, and without the clock that the `mujoco` package makes MuJoCo read (BatchEnv switches it
off for its own steps). All others run their own episodes under the same distribution of actions.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from mujoco.batch import Batch

from timing import alternate
from tom import task_arguments
from tom.batch_env import BatchEnv
from tom.replay import ReplayBuffer

try:
    import envpool
except ImportError:
    envpool = None

ENVS, THREADS, CHUNK, ROUNDS = 16, 2, 50, 11
TASKS = ["Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Walker2d-v5", "Humanoid-v5"]


@pytest.fixture(autouse=True)
def _mujoco_log_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Gymnasium's simulations write MUJOCO_LOG.TXT where they run


@contextmanager
def quietly() -> Iterator[None]:
    """Throw away what MuJoCo prints of deprecated attributes in the peers' models, one by one."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextmanager
def without_clock() -> Iterator[None]:
    """Take MuJoCo its clock away, by which it times the parts of every mj_step."""
    library = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"))
    callback = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
    clock, callback.value = callback.value, None
    try:
        yield
    finally:
        callback.value = clock


class Contest:
    """The contestants on one task, each a function that takes actions [CHUNK, N, A]."""

    def __init__(self, env_id: str) -> None:
        self.env = BatchEnv(env_id, ENVS, THREADS)
        self.env.reset(seed=0)
        task = task_arguments.resolve(env_id, {})
        self._frame_skip = task.frame_skip
        self._physics = Batch(mujoco.MjModel.from_xml_path(task.xml_path), ENVS, THREADS)
        self._rng = np.random.default_rng(0)
        make = [lambda: gymnasium.make(env_id)] * ENVS
        self._others: dict[str, Any] = {"Gymnasium sync": SyncVectorEnv(make)}
        self._others["Gymnasium async"] = AsyncVectorEnv(make)
        if envpool is not None:
            self._others["EnvPool"] = envpool.make_gymnasium(
                env_id, num_envs=ENVS, num_threads=THREADS
            )
        for other in self._others.values():
            other.reset()

    def chunk(self) -> np.ndarray:
        space = self.env.single_action_space
        size = (CHUNK, *self.env.action_space.shape)
        return self._rng.uniform(space.low, space.high, size).astype(np.float32)

    def seconds(self) -> dict[str, float]:
        """Seconds that each contestant needs for one chunk."""
        actions = self.chunk()
        taken = {"BatchEnv": 0.0}
        states, stepped = [], []
        self.env.step(actions[0])
        for action in actions:
            simulation = self.env._simulation
            states.append(simulation.native.physics.copy())
            goes_on = np.flatnonzero(~simulation.episode_over)
            stepped.append(None if goes_on.size == ENVS else goes_on.astype(np.int32))
            taken["BatchEnv"] += timed(lambda a=action: self.env.step(a))
        taken["bare physics"] = self._bare_seconds(states, actions, stepped)
        with without_clock():
            taken["bare, no clock"] = self._bare_seconds(states, actions, stepped)
        for name, other in self._others.items():
            other.step(actions[0])
            taken[name] = timed(lambda o=other: [o.step(action) for action in actions])
        return taken

    def _bare_seconds(self, states: list, actions: np.ndarray, stepped: list) -> float:
        """Of one step from each of `states`, for the simulations `stepped` (None: all)."""
        physics, control, taken = self._physics, self._physics.bind("ctrl"), 0.0
        physics.step(nstep=self._frame_skip)
        for state, action, ids in zip(states, actions, stepped, strict=True):
            physics.state[:] = state
            control[:] = action
            taken += timed(lambda ids=ids: physics.step(ids, nstep=self._frame_skip))
        return taken

    def close(self) -> None:
        self.env.close()
        for other in self._others.values():
            other.close()


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("env_id", TASKS)
def test_steps_per_second(env_id, benchmark, capsys):
    with quietly():
        contest = Contest(env_id)
    contest.seconds()  # everyone's first steps
    rounds = [contest.seconds() for _ in range(ROUNDS)]
    median = {name: float(np.median([taken[name] for taken in rounds])) for name in rounds[0]}
    ours = median["BatchEnv"]
    with capsys.disabled():
        print(f"\n{env_id}, {ENVS} environments, {contest.env.num_threads} threads")
        for name, taken in sorted(median.items(), key=lambda item: item[1]):
            rate = CHUNK * ENVS / taken
            print(f"  {name:16s} {rate:9,.0f} steps/s   BatchEnv is {taken / ours:5.2f} times it")
        if envpool is None:
            print("  EnvPool is not installed: pip install '.[bench]'")
    benchmark.extra_info.update({name: CHUNK * ENVS / taken for name, taken in median.items()})
    actions = contest.chunk()
    benchmark.pedantic(lambda: [contest.env.step(a) for a in actions], rounds=ROUNDS, iterations=1)
    contest.close()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5"])
def test_a_million_random_transitions_into_replay(env_id, benchmark, capsys):
    """Straight into the buffer, and by way of Python: rows joined there and appended."""
    million = 1_000_000
    with BatchEnv(env_id, ENVS, THREADS, autoreset_mode="SameStep") as env:
        (size,), (action_size,) = env.single_observation_space.shape, env.single_action_space.shape
        buffer = ReplayBuffer(million, 2 * size + action_size + 2)
        aside = ReplayBuffer(100_000, buffer.width)
        rng = np.random.default_rng(0)
        low, high = env.single_action_space.low, env.single_action_space.high
        actions = rng.uniform(low, high, (1000, ENVS, action_size)).astype(np.float32)
        env.reset(seed=0)

        def by_python() -> None:
            before = env.observations
            for action in actions:
                observations, rewards, terminated, _, _ = env.step(action)
                end = np.stack((rewards, terminated), axis=1)
                rows = np.concatenate((before, action, env.final_observations, end), axis=1)
                aside.append(rows.astype(np.float32))
                before = observations

        def straight() -> None:
            for action in actions:
                env.step(action, into=buffer)

        ours: list[float] = []
        baseline: list[float] = []

        def collect() -> None:
            while buffer.total_appended < million:
                ours.append(timed(straight))
                if len(ours) % 8 == 1:
                    baseline.append(timed(by_python))

        benchmark.pedantic(collect, rounds=1, iterations=1)
    assert len(buffer) == million
    rows = len(actions) * ENVS
    with capsys.disabled():
        print(
            f"\n{env_id}, {ENVS} environments, {THREADS} threads, medians of {rows:,} transitions"
        )
        print(f"  rows joined in Python  {rows / np.median(baseline):9,.0f} transitions/s")
        print(f"  step(into=buffer)      {rows / np.median(ours):9,.0f} transitions/s")
        print(f"  one million            {len(ours) * rows / sum(ours):9,.0f} transitions/s")


def test_termination_rule_on_many_predictions(benchmark, capsys):
    """`env.terminated` beside the same rule as one would write it for a batch in NumPy."""
    n = 100_000
    rows = np.random.default_rng(0).normal([1.25, *[0.0] * 10], 0.3, (n, 11)).astype(np.float32)

    def numpy_rule() -> np.ndarray:
        healthy = np.isfinite(rows).all(1) & (np.abs(rows[:, 1:]) < 100.0).all(1)
        return ~(healthy & (rows[:, 0] > 0.7) & (np.abs(rows[:, 1]) < 0.2))

    with BatchEnv("Hopper-v5", 1) as env:
        assert (env.terminated(rows) == numpy_rule()).mean() > 0.9999  # 0.2 in float32 or float64
        baseline, ours = alternate(numpy_rule, lambda: env.terminated(rows), rounds=30)
        benchmark(env.terminated, rows)
    with capsys.disabled():
        print(
            f"\nHopper's rule on {n:,} rows: NumPy {1e3 * baseline:.2f} ms, "
            f"env.terminated {1e3 * ours:.2f} ms ({baseline / ours:.1f} x)"
        )
