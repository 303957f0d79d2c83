"""What BatchEnv does to the rest of the process: MuJoCo's clock and log, and forked children."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mujoco
import numpy as np
import pytest

from tom.batch_env import BatchEnv


@pytest.fixture
def clock_readers():
    """The threads that read MuJoCo's clock, as often as they did."""
    library = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"))
    callback = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
    usual = callback.value  # `get_mjcb_time` tells of Python functions alone
    readers: list[int] = []

    def clock() -> float:
        readers.append(threading.get_ident())
        return float(len(readers))

    mujoco.set_mjcb_time(clock)
    yield readers
    assert mujoco.get_mjcb_time() is clock
    mujoco.set_mjcb_time(None)
    callback.value = usual


def test_mujocos_timers_are_off_in_the_simulator_alone(clock_readers):
    """They cost a tenth of a step or more; other simulations of the process keep theirs."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    data = mujoco.MjData(model)
    action = np.zeros((4, 3), np.float32)
    done = threading.Event()

    def step_alone() -> None:
        while not done.is_set():
            mujoco.mj_step(model, data)

    with BatchEnv("Hopper-v5", 4, 2) as env:
        clock_readers.clear()
        env.reset(seed=0)
        env.step(action)
        assert not clock_readers
        other = threading.Thread(target=step_alone)
        other.start()
        while not clock_readers:  # it may have to wait for a processor
            time.sleep(0.001)
        for _ in range(200):
            env.step(action)
        done.set()
        other.join()
        assert set(clock_readers) == {other.ident}
        mujoco.mj_step(model, data)
        assert clock_readers[-1] == threading.get_ident()


def test_the_clocks_callback_stays_where_it_is_while_the_simulator_steps():
    """Other threads read it at any time, without a lock."""
    library = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"))
    callback = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
    before, begun, done = callback.value, threading.Event(), threading.Event()
    action = np.zeros((4, 3), np.float32)
    seen = set()

    def watch() -> None:
        while not done.is_set():
            seen.add(callback.value)
            begun.set()

    with BatchEnv("Hopper-v5", 4, 2) as env:
        env.reset(seed=0)
        watcher = threading.Thread(target=watch)
        watcher.start()
        begun.wait()
        for _ in range(300):
            env.step(action)
        done.set()
        watcher.join()
    assert seen == {before}


TIMED = """
def is_timed():
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    return data.timer[mujoco.mjtTimer.mjTIMER_STEP].duration > 0

def simulate():
    env.reset(seed=0)
    env.step(np.zeros((2, 1), np.float32))

def make():
    return tom.BatchEnv("InvertedPendulum-v5", 2, 2)
"""


@pytest.mark.parametrize("imports", ["import mujoco, tom", "import tom, mujoco"])
def test_mujocos_timers_tell_others_the_time_before_and_after_the_simulator(imports):
    """Also with clocks of their own, which may come and go at any time."""
    program = f"""
{imports}
import numpy as np
{TIMED}
assert is_timed()
env = make()
simulate()
assert is_timed() and mujoco.get_mjcb_time() is None
for _ in range(30):
    readings = []
    mujoco.set_mjcb_time(lambda: readings.append(0) or len(readings))
    simulate()
    assert not readings and is_timed() and readings
    mujoco.set_mjcb_time(None)
    seen = len(readings)
    assert is_timed()
    simulate()
    assert is_timed() and len(readings) == seen
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_clock_from_before_the_import_goes_on():
    program = f"""
import mujoco, numpy as np
{TIMED}
readings = []
mujoco.set_mjcb_time(lambda: readings.append(0) or len(readings))
import tom
assert not readings and is_timed() and readings
env = make()
del readings[:]
simulate()
assert not readings and is_timed() and readings
mujoco.set_mjcb_time(None)
seen = len(readings)
simulate()
assert is_timed() and len(readings) == seen
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_callback_that_another_library_keeps_and_calls_makes_no_circle():
    """It puts its own before what it finds, again and again: what it finds is the hook."""
    program = f"""
import ctypes, mujoco, numpy as np, pathlib, tom
{TIMED}
library = next(pathlib.Path(mujoco.__file__).parent.glob("libmujoco.so*"))
present = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
Clock = ctypes.CFUNCTYPE(ctypes.c_double)
kept, calls = [], []

def put_before(what):
    def clock():
        calls.append(1)
        return Clock(what)()
    kept.append(Clock(clock))
    present.value = ctypes.cast(kept[-1], ctypes.c_void_p).value

env = make()
first = present.value
for _ in range(20):  # more than there are hooks
    put_before(present.value)
    assert is_timed()
    simulate()
    del calls[:]
    assert is_timed() and calls
present.value = first
del calls[:]
assert is_timed() and not calls
simulate()
assert is_timed() and not calls
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


FORKING = """
import os, signal, sys, threading
import mujoco, numpy as np, tom

def printed():
    config = mujoco.MjLogConfig.get()
    return config.logto_console and config.logto_file

def loop(actions=np.zeros((200, 1), np.float32)):  # so that nearly all the time is in steps
    with tom.BatchEnv("InvertedPendulum-v5", 200, 1) as env:
        env.reset(seed=0)
        begun.wait()
        while not done.is_set():
            env.step(actions)

# Before that they import modules, under locks of Python's own that a child would wait for.
begun = threading.Barrier(3)
done = threading.Event()
threads = [threading.Thread(target=loop) for _ in range(2)]
for thread in threads:
    thread.start()
begun.wait()
bad = 0
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # should it hang
        before = printed()
        tom.BatchEnv("InvertedPendulum-v5", 1, 1).close()
        os._exit(0 if before and printed() else 1)
    bad = os.waitpid(child, 0)[1]
    if bad:
        break
done.set()
for thread in threads:
    thread.join()
assert printed()
raise SystemExit(f"a child ended with {bad}" if bad else 0)
"""


@pytest.mark.parametrize("times", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_child_that_is_forked_during_steps_can_simulate_and_has_its_log_back(times):
    """Whatever the other threads hold at that moment, they are not there to give it back."""
    options = ["-W", "ignore::DeprecationWarning", "-c", FORKING, str(times)]
    subprocess.run([sys.executable, *options], check=True, timeout=600)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused_and_ends(num_threads):
    """It has none of the threads: it would wait for them for ever, even to free the simulations."""
    env = BatchEnv("Hopper-v5", 2, num_threads)
    env.reset(seed=0)
    action = np.zeros((2, 3), np.float32)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # should it hang
        try:
            with pytest.raises(RuntimeError) as refused:
                env.step(action)
            os.write(writing, str(refused.value).encode())
            env.close()
            del env
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert b"made in another process; make it in" in os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    env.step(action)
    env.close()
