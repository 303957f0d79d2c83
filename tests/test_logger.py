"""Logger, metrics table and progress line: what is written, shown and found again on resume."""

import csv
import io
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tom import checkpoint, metrics
from tom.config import Config
from tom.logger import Logger
from tom.progress import Progress
from tom.run_folder import RunFolder


class Clock:
    """A hand-driven `time.perf_counter`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=100)


def live_console(width: int = 100) -> Console:
    return Console(file=Terminal(), width=width, force_terminal=True, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def config_in(path: Path, seeds: int = 2) -> Config:
    return Config(run_dir=str(path), seeds=seeds, seed=5, steps=1000, exploration_steps=2)


def logger_in(
    path: Path, *, seeds: int = 2, start_step: int = 0, console: Console | None = None
) -> Logger:
    config = config_in(path, seeds)
    return Logger(RunFolder.open(config), config, start_step, console or plain_console())


def table(path: Path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(path: Path, seed: int, name: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(path / "tensorboard" / f"seed_{seed}"))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def test_one_row_per_seed_in_full_precision(tmp_path: Path) -> None:
    with logger_in(tmp_path) as log:
        log.record("eval/mean_reward", [0.1, math.nan])
        log.record("tom/ess", torch.tensor([1 / 3, 2.0], dtype=torch.float64))
        log.record("train/alpha", 0.1 + 0.2)
        log.record("train/updates", torch.tensor(7))
        log.dump(250)
    rows = table(tmp_path)
    assert [(row["step"], row["seed"]) for row in rows] == [("250", "5"), ("250", "6")]
    assert [row["eval/mean_reward"] for row in rows] == ["0.1", "nan"]
    assert [float(row["tom/ess"]) for row in rows] == [1 / 3, 2.0]
    assert [float(row["train/alpha"]) for row in rows] == [0.1 + 0.2] * 2
    assert [row["train/updates"] for row in rows] == ["7", "7"]
    assert {"time/fps", "time/elapsed"} <= set(rows[0])


def test_events_of_each_seed(tmp_path: Path) -> None:
    with logger_in(tmp_path) as log:
        for step in (1, 2):
            log.record("eval/mean_reward", [step, step + 0.5])
            log.dump(step)
    assert events(tmp_path, 5, "eval/mean_reward") == [(1, 1.0), (2, 2.0)]
    assert events(tmp_path, 6, "eval/mean_reward") == [(1, 1.5), (2, 2.5)]


def test_metrics_are_forgotten_after_a_dump(tmp_path: Path) -> None:
    with logger_in(tmp_path, seeds=1) as log:
        log.record("a", 1.0)
        log.record("a", 2.0)
        log.dump(1)
        log.record("b", 3.0)
        log.dump(2)
    rows = table(tmp_path)
    assert [(row["a"], row["b"]) for row in rows] == [("2.0", ""), ("", "3.0")]
    assert list(rows[0]).index("a") < list(rows[0]).index("b")


def test_dump_of_nothing_writes_nothing(tmp_path: Path) -> None:
    with logger_in(tmp_path, seeds=1) as log:
        log.record("a", 1.0)
        log.dump(3)
        log.dump(3)
        log.dump(4)
    assert [row["step"] for row in table(tmp_path)] == ["3"]


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], torch.zeros(2, 2), []])
def test_wrong_number_of_values_is_refused(tmp_path: Path, values: object) -> None:
    with logger_in(tmp_path) as log, pytest.raises(ValueError, match="a/b: given values of shape"):
        log.record("a/b", values)  # type: ignore[arg-type]


def dump_steps(log: Logger, steps: range) -> None:
    for step in steps:
        log.record("eval/mean_reward", [float(step), -float(step)])
        if step > 3:
            log.record("late", float(step))
        log.dump(step)


def stable(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


@pytest.mark.parametrize("start", [0, 2, 3, 5])
def test_resumed_table_equals_an_uninterrupted_one(tmp_path: Path, start: int) -> None:
    with logger_in(tmp_path / "whole") as log:
        dump_steps(log, range(1, 8))
    with logger_in(tmp_path / "cut") as log:
        dump_steps(log, range(1, 6))
        time.sleep(1.1)  # TensorBoard orders event files by the second in their names.
    with logger_in(tmp_path / "cut", start_step=start) as log:
        dump_steps(log, range(start + 1, 8))
    whole, cut = table(tmp_path / "whole"), table(tmp_path / "cut")
    assert stable(cut) == stable(whole)
    assert list(cut[0]) == list(whole[0])
    for name in ("eval/mean_reward", "late"):
        expected = events(tmp_path / "whole", 6, name)
        assert events(tmp_path / "cut", 6, name) == expected


def test_line_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,seed,a\n1,0,0.5\n2,0,0.7")
    metrics.MetricsTable(file, 2).close()
    assert metrics.read(file) == [{"step": "1", "seed": "0", "a": "0.5"}]


def test_phases_count_each_moment_once(tmp_path: Path, clock: Clock) -> None:
    with logger_in(tmp_path, seeds=1) as log:
        with log.phase("outer"):
            clock.now += 1
            with log.phase("inner"):
                clock.now += 2
            clock.now += 3
            with log.phase("outer"):
                clock.now += 4
        clock.now += 10
        log.record("a", 0)
        log.dump(40)
    (row,) = table(tmp_path)
    assert float(row["time/elapsed"]) == 20
    assert float(row["time/fps"]) == 2
    assert float(row["time/phase_share/outer"]) == 8 / 20
    assert float(row["time/phase_share/inner"]) == 2 / 20


def test_phase_ends_when_its_body_fails(tmp_path: Path, clock: Clock) -> None:
    with logger_in(tmp_path, seeds=1) as log:
        with pytest.raises(ZeroDivisionError), log.phase("a"):
            clock.now += 1
            raise ZeroDivisionError
        clock.now += 3
        log.record("a", 0)
        log.dump(1)
    assert float(table(tmp_path)[0]["time/phase_share/a"]) == 1 / 4


def test_time_goes_on_over_a_resume(tmp_path: Path, clock: Clock) -> None:
    with logger_in(tmp_path, seeds=1) as log:
        with log.phase("a"):
            clock.now += 6
        log.record("eval/mean_reward", 3.5)
        log.dump(12)
        state = log.state_dict()
    clock.now += 1000
    console = plain_console()
    log = logger_in(tmp_path, seeds=1, start_step=12, console=console)
    log.load_state_dict(state)
    clock.now += 1000
    with log:
        with log.phase("b"):
            clock.now += 4
        log.record("a", 0)
        log.dump(32)
    row = table(tmp_path)[-1]
    assert float(row["time/elapsed"]) == 10
    assert float(row["time/fps"]) == 20 / 4
    assert float(row["time/phase_share/a"]) == 6 / 10
    assert float(row["time/phase_share/b"]) == 4 / 10
    clock.now += 60
    log.step(33)
    assert "return 3.5 " in written(console)


def test_metrics_between_dumps_survive_a_resume(tmp_path: Path) -> None:
    with logger_in(tmp_path) as log:
        log.record("a", [1.0, 2.0])
        log.record("b", torch.tensor(3.5))
        state = log.state_dict()
    checkpoint.save(tmp_path / "checkpoints", 7, {"shared": state})
    found = checkpoint.load(tmp_path / "checkpoints")
    assert found is not None and found[1]["shared"] == state
    with logger_in(tmp_path, start_step=7) as log:
        log.load_state_dict(found[1]["shared"])
        log.dump(8)
    assert [(row["step"], row["a"], row["b"]) for row in table(tmp_path)] == [
        ("8", "1.0", "3.5"),
        ("8", "2.0", "3.5"),
    ]


def test_plain_output_has_a_line_per_evaluation_and_few_others(
    tmp_path: Path, clock: Clock
) -> None:
    console = plain_console()
    with logger_in(tmp_path, console=console) as log:
        for step in range(1, 101):
            clock.now += 0.5
            log.step(step)
            if step % 25 == 0:
                if step != 50:
                    log.record("eval/mean_reward", [100.0 * step, 100.0 * step + 2])
                log.dump(step)
        log.message("a [message] of its own")
    lines = written(console).splitlines()
    assert "\x1b" not in written(console)
    assert lines[-1] == "a [message] of its own"
    assert lines[1].startswith("step 25/1,000  return 2501 ± 1  2.00 steps/s  8:08 left")
    starts = [int(line.split()[1].split("/")[0]) for line in lines[:-1]]
    assert starts == [20, 25, 45, 65, 75, 95, 100]


def test_live_line_is_one_line_of_the_terminals_width(tmp_path: Path, clock: Clock) -> None:
    for width in (10, 30, 50, 70, 80, 100, 200):
        console = live_console(width)
        with logger_in(tmp_path / str(width), console=console) as log:
            phases = {"dynamics": 20, "sac": 50, "dual_q": 15, "act": 10, "rollout": 4.9}
            for name, seconds in {**phases, "evaluation": 0.1}.items():
                with log.phase(name):
                    clock.now += seconds
            log.record("eval/mean_reward", [1234.5, 2000.0])
            log.dump(500)
        text = written(console)
        last = [line for line in text.replace("\r", "\n").split("\n") if "step" in line][-1]
        line = "".join(last.split("\x1b[2K")).replace("\x1b[?25h", "").rstrip()
        assert len(line) < width + 1
        if width == 200:
            assert "step 500/1,000  return 1617 ± 383" in line
            assert line.endswith("1:40 left  sac 50%  dynamics 20%  dual_q 15%  act 10%")
        if width == 80:
            assert line.endswith("5.00 steps/s  1:40 left  sac 50%")


def test_live_line_is_drawn_at_most_four_times_a_second(tmp_path: Path, clock: Clock) -> None:
    console = live_console()
    with logger_in(tmp_path, console=console) as log:
        before = written(console).count("step ")
        for step in range(1, 501):
            clock.now += 0.01
            log.step(step)
        assert written(console).count("step ") - before <= 21


def test_message_goes_above_the_live_line(tmp_path: Path) -> None:
    console = live_console()
    with logger_in(tmp_path, console=console) as log:
        log.message("hello")
    text = written(console)
    assert text.index("hello") < text.rindex("step 0/1,000")
    assert text.endswith("\x1b[?25h")


def test_colour_settings_do_not_make_a_live_line_of_a_file(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with logger_in(tmp_path, console=console):
        pass
    assert "\x1b" not in written(console)


def test_speed_is_recent_but_spans_two_iterations(clock: Clock) -> None:
    progress = Progress(plain_console(), 10_000, 0, period=100)
    assert math.isnan(progress.steps_per_second)
    for step in range(1, 1001):  # Fast at first, as exploration is.
        clock.now += 0.01
        progress.update(step, None, {})
    assert progress.steps_per_second == pytest.approx(100)
    for step in range(1001, 1501):
        clock.now += 1
        progress.update(step, None, {})
    assert progress.steps_per_second == pytest.approx(1)


def test_exploration_says_nothing_about_the_time_left(clock: Clock) -> None:
    console = plain_console()
    progress = Progress(console, 1000, 0, period=100, begin=200)
    clock.now += 1
    progress.update(200, None, {}, force=True)
    progress.measure_from(200)
    clock.now += 2
    progress.update(201, None, {}, force=True)
    assert written(console).splitlines() == [
        "step 200/1,000  return -  200 steps/s",
        "step 201/1,000  return -  0.50 steps/s  26:38 left",
    ]


def test_a_run_goes_on_when_its_terminal_is_gone() -> None:
    """The live line is on a terminal that is closed meanwhile: each write to it then fails."""
    program = """
import os, sys
from tom.console import make_console
from tom.progress import Progress
console = make_console()
progress = Progress(console, 1000, 0, period=100)
progress.start()
progress.update(1, None, {})
progress.print("read by somebody")
sys.stdin.readline()  # until it is closed
progress.update(2, None, {}, force=True)
progress.print("not read by anybody")
progress.stop()
console.print("nor this")
os.write(int(sys.argv[1]), b"went on")
"""
    ours, theirs = os.openpty()
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(write)], stdin=subprocess.PIPE, stdout=theirs,
        stderr=subprocess.PIPE, pass_fds=[write],
    )  # fmt: skip
    os.close(theirs), os.close(write)
    seen = b""
    while b"read by somebody" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    _, errors = child.communicate(b"closed\n", timeout=60)
    assert os.read(read, 100) == b"went on" and child.returncode == 0, errors
    os.close(read)
    assert errors == b""


def test_step_costs_less_than_five_microseconds(tmp_path: Path) -> None:
    with logger_in(tmp_path) as log:
        cost = math.inf
        for _ in range(20):
            began = time.perf_counter()
            for step in range(1000):
                log.step(step)
            cost = min(cost, (time.perf_counter() - began) / 1000)
    assert cost < 5e-6


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,seed,x\n\n100,5,1.0\ngarbage\n")
    with pytest.raises(ValueError, match=r"metrics.csv is damaged: line 4 has no step and seed"):
        metrics.read(file)
