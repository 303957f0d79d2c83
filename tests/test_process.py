"""Settings of the whole process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
import torch

from tom import cli
from tom.process import DEFAULT_THREADS, use_threads


def test_threads_are_those_requested() -> None:
    assert use_threads(3) == 3
    assert torch.get_num_threads() == 3


def test_by_default_as_many_threads_as_processors_but_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    assert use_threads(0) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert use_threads(0) == DEFAULT_THREADS


@pytest.mark.parametrize(
    ("variable", "requested", "expected"),
    [("1", 0, 1), ("3,2", 0, 3), ("1", 2, 2), ("many", 0, 2), ("0", 0, 2), ("", 0, 2)],
)
def test_omp_num_threads_is_the_default_and_a_request_overrides_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, requested: int, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    assert use_threads(requested) == expected
    assert torch.get_num_threads() == expected


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_waiting_threads_soon_give_up_the_processor(
    given: dict[str, str], spins: str | None
) -> None:
    """And programs that this one starts find the environment as it was."""
    program = """
import os, sys
from importlib.abc import MetaPathFinder
class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch": print(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
import tom
print(os.environ.get("GOMP_SPINCOUNT"))
"""
    chosen = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    inherited = {k: v for k, v in os.environ.items() if k not in chosen}
    done = subprocess.run(
        [sys.executable, "-c", program], env=inherited | given, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(spins), str(given.get("GOMP_SPINCOUNT"))]


def test_one_pool_of_threads_serves_torch_and_the_operators() -> None:
    """With 4 threads asked for, products and fused kernels make 3 beside the main one, not 6."""
    program = """
import os
import torch
from tom.process import use_threads
use_threads(4)
before = len(os.listdir("/proc/self/task"))
x, w = torch.randn(1, 4, 512, 256), [torch.randn(1, 4, 256, 256)] * 3
for _ in range(3):
    torch.ops.tom.stacked_mlp(x, w, [torch.zeros(1, 4, 256)] * 3, "silu")
    torch.bmm(x[0], w[0][0])
    torch.randn(1 << 20).exp().sum()
print(len(os.listdir("/proc/self/task")) - before)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 3


def test_the_two_pools_of_threads_sleep_while_the_other_works() -> None:
    """In half a second each: the simulator's threads while torch's work, and the other way round.

    torch's may look for more work for some milliseconds before they sleep. Control: those at work
    are seen to be.
    """
    program = """
import os, time
import numpy as np
import torch
import tom
from tom.process import use_threads

def tasks():
    return set(os.listdir("/proc/self/task"))

def ticks(of):  # of processor time; 14 and 15 are the user's and the system's
    stats = [open(f"/proc/self/task/{task}/stat").read().rsplit(")")[1].split() for task in of]
    return sum(int(s[11]) + int(s[12]) for s in stats)

def spent(work):
    work(0.1)
    before = ticks(simulator), ticks(networks)
    work(0.5)
    print(ticks(simulator) - before[0], ticks(networks) - before[1])

def train(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        torch.bmm(x, x)

def simulate(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        env.step(actions)

use_threads(2)
x = torch.randn(8, 256, 256)
first = tasks()
train(0.01)
networks = tasks() - first
env = tom.BatchEnv("Hopper-v5", num_envs=16, num_threads=2)
env.reset(seed=0)
actions = np.zeros(env.action_space.shape, np.float32)
simulate(0.01)
simulator = tasks() - networks - first
spent(train)
spent(simulate)
print(os.sysconf("SC_CLK_TCK") // 2)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    simulator_idle, networks_busy, simulator_busy, networks_idle, all_ticks = map(
        int, done.stdout.split()
    )
    assert simulator_idle <= 0.1 * all_ticks
    assert networks_idle <= 0.1 * all_ticks
    assert simulator_busy > 0 and networks_busy > 0


@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept_for_the_next_step(kept: bool) -> None:
    """What glibc has given back to the system comes again page by page, each of them a fault."""
    program = f"""
import resource, torch
from tom import process

def step():
    held = [torch.ones(1_000_000) for _ in range(16)]

if not {kept}:
    process.KEPT_BYTES = 1 << 17  # what glibc begins with
process.keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    pages = 20 * 16 * 4_000_000 / resource.getpagesize()
    faults = int(done.stdout)
    assert faults < 0.01 * pages if kept else faults > 0.9 * pages


@pytest.mark.parametrize("part", ["sac", "dynamics", "dual-q", "discriminator"])
def test_each_fast_path_can_be_switched_off(part: str) -> None:
    config = cli.parse(["--env", "hopper", f"--{part}.no-native"])
    assert not getattr(config, part.replace("-", "_")).native
    assert config.sac.native or part == "sac"
