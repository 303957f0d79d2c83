"""The whole command, end to end: every algorithm runs, stops, resumes and repeats exactly."""

from __future__ import annotations

import io
import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from helpers import assert_refused, interrupt_at
from tom import cli, load_agent, metrics
from tom.config import Config, ConfigError
from tom.plots import plot_returns
from tom.returns import evaluations
from tom.settings import from_dict, override, to_dict
from tom.train import main, open_run

needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the processor lacks AVX512-BF16"
)

DEBUG = ["--preset", "debug", "--threads", "1"]


def _run(folder: Path, *arguments: str, steps: int = 600, env: str = "hopper") -> Path:
    command = ["--env", env, "--run-dir", str(folder), "--steps", str(steps)]
    main([*command, *DEBUG, *arguments])
    return folder


def _rows(folder: Path) -> list[dict[str, str]]:
    """The table's rows without the columns that tell the time."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in metrics.read(folder / "metrics.csv")
    ]


def test_an_iteration_has_its_row_whenever_the_exploration_ends(tmp_path: Path) -> None:
    arguments = ["--exploration-steps", "210", "--updates-per-step", "0", "--algorithm", "mbpo"]
    rows = _rows(_run(tmp_path / "run", *arguments, steps=350))
    fitted = [int(row["step"]) for row in rows if row.get("model/holdout_nll")]
    assert fitted == [210, 310]


@pytest.mark.parametrize("algorithm", ["tom", "mbpo", "pmac"])
def test_algorithm_runs_and_its_metrics_are_finite(algorithm: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", "--algorithm", algorithm, "--seeds", "2")
    rows = _rows(folder)
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert {int(row["step"]) for row in rows} == {100, 200, 300, 400, 500, 600}
    trained = [row for row in rows if int(row["step"]) > 200]
    assert all(math.isfinite(float(v)) for row in trained for v in row.values() if v)
    for row in trained:
        n, ess = int(row["step"]), float(row["tom/ess"])
        # Only uniform weights are all equal.
        assert (ess == n) if algorithm == "mbpo" else (1 < ess < n)
    assert {"eval/mean_reward", "model/holdout_nll", "train/critic_loss"} <= set(rows[-1])
    for picture in ("returns.png", "weight_age_seed_0.png", "weight_age_seed_1.png"):
        assert (folder / "plots" / picture).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "config.json").read_text())["algorithm"] == algorithm


def test_sac_learns_from_real_rows_without_a_model(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", "--algorithm", "sac", steps=400)
    rows = _rows(folder)
    assert {int(row["step"]) for row in rows} == {100, 200, 300, 400}
    assert float(rows[-1]["train/critic_loss"]) > 0
    assert not [name for name in rows[-1] if name.startswith(("tom/", "model/"))]
    assert {p.name for p in (folder / "plots").iterdir()} == {"returns.png"}


@pytest.mark.parametrize(
    ("algorithm", "precision"),
    [("tom", "fp32"), ("sac", "fp32"), pytest.param("tom", "bf16", marks=needs_bfloat16)],
)
def test_resumed_run_equals_an_uninterrupted_one(
    algorithm: str, precision: str, tmp_path: Path
) -> None:
    arguments = ["--algorithm", algorithm, "--precision", precision, "--seeds", "2"]
    whole = _run(tmp_path / "whole", *arguments)
    parts = _run(tmp_path / "parts", *arguments, steps=350)
    _run(parts, *arguments)
    for seed in (0, 1):
        name = f"checkpoints/step_00000600/seed_{seed}.safetensors"
        first, second = load_file(whole / name), load_file(parts / name)
        assert first.keys() == second.keys()
        assert all(first[k].equal(second[k]) for k in first)
    # Row 350 is there because the first part ended at that step.
    assert _rows(whole) == [row for row in _rows(parts) if row["step"] != "350"]


def test_settings_of_a_model_may_change_where_there_is_none(tmp_path: Path) -> None:
    arguments = ["--algorithm", "sac"]
    folder = _run(tmp_path / "run", *arguments, steps=300)
    _run(folder, *arguments, "--dynamics.hidden", "64", "64", "--dual-q.hidden", "8", steps=400)
    assert {int(row["step"]) for row in _rows(folder)} == {100, 200, 300, 400}
    saved = load_file(folder / "checkpoints/step_00000400/seed_0.safetensors")
    assert not [name for name in saved if name.startswith(("dynamics", "weighting", "model_buff"))]


def test_a_folder_that_cannot_be_resumed_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "run", steps=300)
    (folder / "checkpoints/step_00000300/run.safetensors").write_bytes(b"damaged")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit):
        _run(folder, steps=400)
    assert "is damaged" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_that_does_not_fit_an_edited_configuration_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "run", steps=300)
    file = folder / "config.json"
    config = from_dict(Config, json.loads(file.read_text()))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"sac.hidden": (16,)}, "RuntimeError"),
        ({"dynamics.members": 2}, "RuntimeError"),
        ({"dual_q.hidden": (8, 8)}, "RuntimeError"),
        ({"replay.capacity": 500}, "capacity"),
        ({"env": "walker2d"}, "size"),
        ({"seeds": 2}, "its seeds are [0], and config.json's [0, 1]"),
        ({"seed": 1}, "its seeds are [0], and config.json's [1]"),
    ]
    for changed, words in changes:
        file.write_text(json.dumps(to_dict(override(config, changed))))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main(["--run-dir", str(folder), "--steps", "400"])
        error = capsys.readouterr().err
        assert ending.value.code == 2 and error.count("\n") == 1
        assert error.startswith(f"error: run_dir: given {folder}, whose checkpoint of step 300 ")
        assert "does not fit config.json" in error and words in error
    with pytest.raises(ConfigError, match=r"does not fit config\.json \(it has no seed 1\)"):
        load_agent(folder)


def test_a_run_whose_checkpoints_are_gone_keeps_its_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "run", steps=300)
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(SystemExit):
        _run(folder, steps=400)
    assert "metrics go to step 300 but which has no checkpoint" in capsys.readouterr().err
    assert (folder / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("part", ["dual_q", "sac"])
def test_a_run_that_diverges_ends_in_one_sentence(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        _run(tmp_path / "run", f"--{part.replace('_', '-')}.learning-rate", "1e30")
    error = capsys.readouterr().err
    assert ending.value.code == 1
    assert error.startswith("error: step ") and "diverged" in error and error.count("\n") == 1


def test_the_learning_curve_is_drawn_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = plot_returns

    def count(run: Path) -> Path:
        steps = evaluations(metrics.read(run / "metrics.csv"))[0]
        drawn.append(max(steps))
        return draw(run)

    monkeypatch.setattr("tom.live_curve.plot_returns", count)
    monkeypatch.setattr("tom.live_curve.SECONDS", 0.0)
    _run(tmp_path / "often")
    assert drawn == [200, 400, 600]
    drawn.clear()
    monkeypatch.setattr("tom.live_curve.SECONDS", 60.0)
    _run(tmp_path / "seldom")
    assert drawn == [200]


def test_a_curve_that_cannot_be_drawn_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(run: Path) -> Path:
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr("tom.live_curve.plot_returns", fail)
    monkeypatch.setattr("tom.live_curve.SECONDS", 0.0)
    folder = _run(tmp_path / "run")
    out = capsys.readouterr().out
    assert out.count("the learning curve cannot be drawn until the end: RuntimeError") == 1
    assert (folder / "plots" / "returns.png").exists()


def test_a_folder_with_brackets_is_named_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "a [lr=3e-4] [/b]", steps=250)
    out = capsys.readouterr().out
    assert f"the learning curve is {folder}/plots/returns.png" in out
    assert f"metrics, checkpoints and plots are in {folder}" in out


def test_want_of_memory_ends_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        _run(tmp_path / "run", "--rollout.starts", str(10**12))
    assert ending.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the memory does not suffice") and error.count("\n") == 1


def test_a_run_keeps_the_arguments_of_its_task(tmp_path: Path) -> None:
    arguments = ["--algorithm", "mbpo", "--env-args", "healthy_reward=0", "frame_skip=2"]
    folder = _run(tmp_path / "run", *arguments, steps=250)
    with load_agent(folder).make_env() as env:
        assert env.unwrapped.frame_skip == 2 and env.unwrapped._healthy_reward == 0
    main(["--run-dir", str(folder), "--steps", "300"])
    assert {int(row["step"]) for row in _rows(folder)} == {100, 200, 250, 300}


def test_a_finished_run_is_not_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "run", steps=300)
    before = {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").rglob("*")}
    _run(folder, steps=300)
    assert "is finished at step 300; a larger --steps goes on" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").rglob("*")}


def test_the_same_command_repeats_the_same_numbers(tmp_path: Path) -> None:
    first = _run(tmp_path / "first", steps=300)
    assert _rows(first) == _rows(_run(tmp_path / "second", steps=300))
    assert _rows(first) != _rows(_run(tmp_path / "third", "--seed", "1", steps=300))


def test_interrupt_writes_a_checkpoint_and_says_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 250)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match="130"):
        _run(folder)
    output = capsys.readouterr().out.replace("\n", " ")
    assert (folder / "checkpoints" / "step_00000250").is_dir()
    assert "stopped at step 250 of 600" in output
    assert "--env hopper" in output
    _run(folder)
    assert "resuming" in capsys.readouterr().out
    assert (folder / "checkpoints" / "step_00000600").is_dir()


def test_a_second_interrupt_ends_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt  # not by a signal, which a shell's background jobs ignore

    monkeypatch.setattr("tom.train.train", interrupted)
    with pytest.raises(SystemExit) as ending:
        _run(tmp_path / "run")
    assert ending.value.code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from what is saved\n"


def test_the_figure_of_weights_leaves_out_rows_that_have_none_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[torch.Tensor, torch.Tensor, str]] = []
    monkeypatch.setattr("tom.train.plot_weight_age", lambda _, *shown: drawn.append(shown))
    # Each row after the exploration weighs 0.98 times what the next one does.
    _run(tmp_path / "run", "--algorithm", "pmac", "--weights.decay", "0.98", steps=490)
    ages, weights, title = drawn[0]
    assert title.endswith("step 400") and sorted(ages.tolist()) == list(range(400))
    newest = weights[ages.argsort()][:200].double()
    torch.testing.assert_close(newest[1:] / newest[:-1], torch.full((199,), 0.98).double())


@pytest.mark.parametrize("option", [
    ["--weighting", "loss"],
    ["--divergence", "kl"],
    ["--divergence", "chi2_bound", "--dual-q.conjugate", "quadratic"],
    ["--reward-transform", "log"],
    ["--rollout.length", "3"],
    ["--rollout.final-length", "4", "--rollout.growth-start", "0", "--rollout.growth-end", "400"],
    ["--dynamics.members", "1", "--dynamics.elites", "1"],
    ["--sac.real-fraction", "1"],
])  # fmt: skip
def test_options_train(option: list[str], tmp_path: Path) -> None:
    rows = _rows(_run(tmp_path / "run", *option, steps=400))
    assert all(
        math.isfinite(float(v)) for row in rows if row["step"] >= "300" for v in row.values() if v
    )


def test_any_gymnasium_id_trains_and_resumes_with_a_new_episode(tmp_path: Path) -> None:
    arguments = ["--termination", "none"]
    folder = _run(tmp_path / "run", *arguments, env="Pendulum-v1", steps=300)
    _run(folder, *arguments, env="Pendulum-v1", steps=400)
    assert {row["step"] for row in _rows(folder)} >= {"100", "200", "300", "400"}


def test_an_environment_of_the_current_folder_trains_stops_and_resumes(
    user_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 250)
    rule = ["--termination", "points:arrived"]
    with pytest.raises(SystemExit, match="130"):
        main(["--env", "points:My/Point-v0", *rule, *DEBUG, "--steps", "300"])
    output = capsys.readouterr().out
    assert "without a time limit" not in output
    command = re.search(r"resume with: python -m tom.train (.*)", output)
    assert command
    main(shlex.split(command[1]))
    folder = user_folder / "runs" / "points-My-Point-v0-tom-seed0-debug"
    assert {row["step"] for row in _rows(folder)} >= {"100", "200", "300"}
    assert json.loads((folder / "config.json").read_text())["env"] == "points:My/Point-v0"


@pytest.mark.filterwarnings("ignore")  # Gymnasium's own, about the same
def test_an_environment_that_returns_too_little_ends_the_run_in_one_sentence(
    user_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(user_folder)
    source = (user_folder / "points.py").read_text()
    (user_folder / "old.py").write_text(source.replace(", False, {}", ", {}"))
    with pytest.raises(SystemExit) as ending:
        main(["--env", "old:My/Point-v0", "--termination", "none", *DEBUG])
    assert ending.value.code == 1
    assert capsys.readouterr().err == (
        "error: step 0: env old:My/Point-v0: step returned 4 values, allowed are 5: observation, "
        "reward, terminated, truncated, info\n"
    )


def test_a_run_without_a_time_limit_says_where_its_evaluation_is_cut(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(user_folder)
    source = (user_folder / "points.py").read_text()
    (user_folder / "endless.py").write_text(source.replace(", max_episode_steps=200", ""))
    config = cli.parse(["--env", "endless:My/Point-v0", "--termination", "none", *DEBUG])
    console = Console(file=io.StringIO())
    run, _, log = open_run(config, console)
    with log:
        run.close()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "endless:My/Point-v0 is registered without a time limit" in text
    assert "100,000 steps" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "Hoper-v5"], ["env", "Hoper-v5", "Hopper-v5"]),
        (["--env", "hoper"], ["env", "hoper", "did you mean hopper or Hopper-v5?"]),
        (["--env", "Hopper"], ["env", "Hopper", "did you mean hopper or Hopper-v5?"]),
        (["--env", "nosuch"], ["env", "nosuch", "hopper, walker2d, halfcheetah", "module:id"]),
        (["--env", "no_such:My/Point-v0"], ["env", "finds no module 'no_such'"]),
        (["--env", "CartPole-v1"], ["env", "CartPole-v1", "Discrete", "Box"]),
        (["--env-args", "xml_file=gone.xml"], ["env_args: given xml_file=gone.xml", "does not"]),
        (["--env-args", "max_episode_steps=1.5"], ["env_args: max_episode_steps is 1.5, but"]),
        (["--env", "Pendulum-v1"], ["termination", "Pendulum-v1", "--termination none"]),
        (["--env", "hopper", "--termination", "no_such:rule"], ["finds no module 'no_such'"]),
        (["--env", "hopper", "--termination", "math:rule"], ["math has no function 'rule'"]),
        (["--env", "hopper", "--termination", "torch:numel"], ["termination", "torch:numel"]),
        (["--env", "hopper", "--termination", "torch:inverse"], ["termination", "torch:inverse"]),
        (["--env", "hopper", "--algorithm", "ppo"], ["algorithm", "ppo", "tom, mbpo, pmac"]),
        (["--env", "hopper", "--discount", "nan"], ["discount", "nan"]),
        (["--env", "hopper", "--steps", "-5"], ["steps", "-5", "at least 1"]),
        (["--env", "hopper", "--device", "tpu"], ["device", "tpu", "cpu"]),
        (["--env", "hopper", "--replay.capacity", "100000000000"], ["replay.capacity", "GiB"]),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert_refused(main, [*DEBUG, "--run-dir", str(folder), *arguments], words, folder, capsys)


def test_another_configurations_folder_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path / "run", steps=300)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        _run(folder, "--discount", "0.9", steps=300)
    assert "discount: given 0.9" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
