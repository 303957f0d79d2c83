"""The command line: precedence, errors of one sentence, help, and the printed configuration."""

import dataclasses
import io
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

import tom
from tom import cli
from tom.config import Config, ConfigError
from tom.devices import check_device
from tom.run_folder import RunFolder
from tom.settings import types
from tom.tasks import defaults
from tom.termination import termination_rule
from tom.user_code import see_current_folder


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What `argv` makes the program say, after checking the manner of saying it."""
    with pytest.raises(SystemExit) as caught:
        cli.parse(argv)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


def test_no_arguments_give_the_defaults_on_hopper() -> None:
    assert cli.parse([]) == dataclasses.replace(defaults("hopper"), run_dir="runs/hopper-tom-seed0")


def test_flags_reach_every_level() -> None:
    argv = (
        "--env ant --algorithm mbpo --seeds 5 --seed 7 --updates-per-step 5 --sac.batch-size 128 "
        "--dual_q.l2=0.5 --sac.hidden 64 64 32 --discriminator.no-reinitialize "
        "--sac.target-entropy -3 --run-dir x/y"
    )
    config = cli.parse(argv.split())
    assert (config.env, config.algorithm, config.seeds, config.seed) == ("ant", "mbpo", 5, 7)
    assert (config.updates_per_step, config.run_dir) == (5, "x/y")
    assert (config.sac.batch_size, config.sac.hidden) == (128, (64, 64, 32))
    assert (config.sac.target_entropy, config.dual_q.l2) == (-3.0, 0.5)
    assert config.discriminator.reinitialize is False


def test_command_line_wins_over_preset_over_task_over_defaults() -> None:
    assert cli.parse(["--env", "halfcheetah"]).updates_per_step == 40
    assert cli.parse(["--env", "halfcheetah", "--preset", "debug"]).updates_per_step == 2
    config = cli.parse(["--updates-per-step=3", "--preset=debug", "--env=halfcheetah"])
    assert config.updates_per_step == 3
    assert config.sac.target_entropy == -3.0


@pytest.mark.parametrize(
    ("argv", "folder"),
    [
        ("--env ant --seed 3", "runs/ant-tom-seed3"),
        ("--env ant --seeds 5 --algorithm pmac", "runs/ant-pmac-seed0to4"),
        ("--env ant --seeds 2 --seed 7", "runs/ant-tom-seed7to8"),
        ("--env ALE/Pong-v5", "runs/ALE-Pong-v5-tom-seed0"),
        ("--env my.tasks:Reach-v0", "runs/my.tasks-Reach-v0-tom-seed0"),
        ("--preset debug", "runs/hopper-tom-seed0-debug"),
        ("--preset paper", "runs/hopper-tom-seed0-paper"),
        ("--env ant --env-args contact_cost_weight=0", "runs/ant-contact_cost_weight-0-tom-seed0"),
    ],
)
def test_default_run_dir(argv: str, folder: str) -> None:
    assert cli.parse(argv.split()).run_dir == folder


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--evn ant", "--evn: no such setting; did you mean --env?"),
        ("--sac.batch-siz 3", "--sac.batch-siz: no such setting; did you mean --sac.batch-size?"),
        ("--tau 0.1", "--tau: no such setting; did you mean --sac.tau?"),
        ("--patienc 3", "--patienc: no such setting; did you mean --dynamics.patience?"),
        (
            "--lr 1",
            "--lr: no such setting; did you mean --sac.learning-rate or --dynamics.learning-rate?",
        ),
        ("--dual-q.lr 1", "--dual-q.lr: no such setting; did you mean --dual-q.learning-rate?"),
        ("--gamma 1", "--gamma: no such setting; did you mean --discount?"),
        (
            "--env-args a=1 a=2",
            "env_args: given 'a=2', allowed are NAME=VALUE, such as contact_cost_weight=0, with "
            "each name once",
        ),
        ("--xyzzy 3", "--xyzzy: no such setting; --help lists them all"),
        ("-x", "-x: no such setting; --help lists them all"),
        ("ant", "ant: given without the name of its setting, allowed is --env ant"),
        ("--threads 1 ant", "ant: given without the name of its setting, allowed is --env ant"),
        ("--profile ant", "ant: given without the name of its setting, allowed is --env ant"),
        (
            "--sac.hidden 8 8 ant",
            "ant: given without the name of its setting, allowed is --env ant",
        ),
        ("--device cpu ant", "ant: given without the name of its setting, allowed is --env ant"),
        ("--env hopper ant", "env: given hopper ant, allowed is one word"),
        ("--transitions 5", "--transitions: no such setting; did you mean --steps?"),
        ("5", "5: given without the name of its setting, allowed is --NAME VALUE"),
        ("--steps", "steps: given nothing, allowed is one whole number in digits"),
        ("--steps --seeds 3", "steps: given nothing, allowed is one whole number in digits"),
        ("--steps 5 6", "steps: given 5 6, allowed is one whole number in digits"),
        ("--steps 1e5", "steps: given '1e5', allowed is a whole number in digits"),
        ("--steps=", "steps: given '', allowed is a whole number in digits"),
        ("--steps nan", "steps: given 'nan', allowed is a whole number in digits"),
        ("--steps -5", "steps: given -5, allowed is a whole number of at least 1"),
        ("--discount abc", "discount: given 'abc', allowed is a number"),
        ("--discount nan", "discount: given nan, allowed is a number of at least 0 and at most 1"),
        ("--sac.tau -inf", "sac.tau: given -inf, allowed is a number above 0 and at most 1"),
        ("--sac.hidden 64 a", "sac.hidden: given 'a', allowed are whole numbers such as 256 256"),
        ("--sac.hidden", "sac.hidden: given (), allowed are widths of at least 1"),
        ("--sac.target-entropy no", "sac.target_entropy: given 'no', allowed is a number or None"),
        (
            "--algorithm ppo",
            "algorithm: given 'ppo', allowed are tom, mbpo, pmac, sac or module:function",
        ),
        ("--algorithm", "algorithm: given nothing, allowed is one word"),
        ("--divergence", "divergence: given nothing, allowed is one of chi2, chi2_bound, kl"),
        ("--preset fast", "preset: given 'fast', allowed are default, paper, debug"),
        ("--device gpu", "device: given 'gpu', allowed are cpu, cuda and cuda:N"),
        ("--device cuda:x", "device: given 'cuda:x', allowed are cpu, cuda and cuda:N"),
        (
            "--discriminator.reinitialize no",
            "discriminator.reinitialize: given 'no', allowed is --discriminator.reinitialize or "
            "--discriminator.no-reinitialize, no value",
        ),
        (
            "--batch-size 3",
            "--batch-size: no such setting; did you mean --discriminator.batch-size, "
            "--dual-q.batch-size, --dynamics.batch-size or --sac.batch-size?",
        ),
    ],
)
def test_mistakes_come_back_as_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error_of(capsys, *argv.split()) == message
    assert list(tmp_path.iterdir()) == []


def a_rule(observations: torch.Tensor) -> torch.Tensor:
    return observations[:, 0] > 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--termination", a_rule],
         "--termination: given <function a_rule at .*>, which is no string, allowed are strings; a "
         "function is module:function, or __main__:function in the script that runs"),
        (["--steps", 5], "--steps: given 5, which is no string, allowed are strings, such as '5'"),
        ([5], "arguments: given 5, which is no string, allowed are strings, such as '5'"),
    ],
)  # fmt: skip
def test_arguments_of_a_script_are_strings(
    capsys: pytest.CaptureFixture[str], argv: list[Any], message: str
) -> None:
    assert re.fullmatch(message, error_of(capsys, *argv))


def test_a_rule_of_the_script_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "a_rule", a_rule, raising=False)
    config = cli.parse(["--termination", "__main__:a_rule"])
    assert termination_rule(config.termination) is a_rule


def test_every_number_refuses_words_and_nan(capsys: pytest.CaptureFixture[str]) -> None:
    for name, hint in types(Config).items():
        flag = "--" + name.replace("_", "-")
        if hint in (int, float) or name.endswith(("hidden", "target_entropy")):
            for word in ("nan", "word"):
                assert error_of(capsys, flag, word).startswith(f"{name}: given ")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_gpus_that_torch_does_not_find_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    check_device("cpu")
    for device, needed in (("cuda", 1), ("cuda:0", 1), ("cuda:1", 2), ("cuda:7", 8)):
        if count >= needed:
            check_device(device)
        else:
            with pytest.raises(ConfigError, match=f"device: given '{device}', allowed"):
                check_device(device)


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(["--help", "--env", "ant"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in ("preset", *types(Config)):
        assert "--" + name.replace("_", "-") in text
    assert "(default: ant)" in text and "300000" in text
    words = " ".join(text.replace("│", " ").split())
    groups = [type(v) for v in vars(Config()).values() if dataclasses.is_dataclass(v)]
    docs = [doc for kind in (Config, *groups) for doc in cli.field_docs(kind).values()]
    assert len(docs) == len(types(Config))
    assert [doc for doc in docs if doc not in words] == []


def test_a_runs_own_settings_are_the_defaults_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--env", "ant", "--seeds", "2", "--sac.hidden", "64", "64", "--preset", "debug"]
    first = cli.parse([*argv, "--run-dir", str(tmp_path)])
    RunFolder.open(first)
    assert cli.parse(["--run-dir", str(tmp_path)]) == first
    assert cli.parse(["--run-dir", str(tmp_path), "--env", "ant"]) == first
    longer = cli.parse(["--run-dir", str(tmp_path), "--steps", "700"])
    assert longer == dataclasses.replace(first, steps=700)
    # A preset's are those for the folder's task.
    preset = cli.parse(["--run-dir", str(tmp_path), "--preset", "debug"])
    assert preset == dataclasses.replace(defaults("ant", "debug"), run_dir=str(tmp_path))
    # Another task has its own, and the folder will not fit.
    other = cli.parse(["--run-dir", str(tmp_path), "--env", "hopper"])
    assert other == dataclasses.replace(defaults("hopper"), run_dir=str(tmp_path))
    monkeypatch.chdir(tmp_path)  # in which no name is no folder
    assert cli.parse(["--run-dir", ""]).run_dir == "runs/hopper-tom-seed0"
    (tmp_path / "config.json").write_text("{")
    assert "config.json is damaged" in error_of(capsys, "--run-dir", str(tmp_path))
    assert "which cannot be read (File name too long)" in error_of(capsys, "--run-dir", 300 * "x")
    assert "home folder is not known" in error_of(capsys, "--run-dir", "~nobody-here/x")


def test_a_preset_in_a_runs_folder_keeps_the_arguments_of_its_task(tmp_path: Path) -> None:
    run = ["--run-dir", str(tmp_path), "--preset", "debug"]
    first = cli.parse([*run, "--env", "ant", "--env-args", "frame_skip=2"])
    RunFolder.open(first)
    assert cli.parse(run) == first


def test_the_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.parse(["--version"])
    assert not ending.value.code and capsys.readouterr().out == f"tom {tom.__version__}\n"
    runpy.run_module("tom", run_name="__main__")
    assert "python -m tom.train " in capsys.readouterr().out


def screen_of(*argv: str) -> str:
    """What is printed of this command line."""
    config = cli.parse(argv)
    console = Console(file=io.StringIO(), width=80)
    cli.print_config(config, console, defaults(config.env))
    cli.print_unused(config, console, argv)
    return console.file.getvalue()


def test_rollouts_that_are_to_grow_and_do_not_are_named() -> None:
    growing = "--env hopper --rollout.final-length 15 --steps"
    assert (
        "rollouts do not grow in 20,000 steps: from 1 to 15 between rollout.growth_start = 20,000"
    ) in " ".join(screen_of(*growing.split(), "20000").split())
    for argv in ([*growing.split(), "26000"], ["--env", "hopper"]):
        assert "do not grow" not in screen_of(*argv)


def test_printed_configuration_names_everything_used_and_marks_changes() -> None:
    text = screen_of("--env", "ant", "--seeds=3", "--sac.hidden", "64", "64")
    words = text.split()
    assert {"env=ant", "seeds=3*", "hidden=64,64*", "target_entropy=-4.0"} <= set(words)
    assert {"algorithm=tom", "tau=0.005", "reinitialize=True"} <= set(words)
    assert sum("=" in word for word in words) == len(types(Config)) - len(Config().unused)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "unused"),
    [
        ("--algorithm tom --weights.decay=0.5 --divergence kl", "weights.decay"),
        ("--algorithm pmac --weights.decay 0.5 --dual-q.l2 0 --divergence kl",
         "dual_q.l2, divergence"),
        ("--algorithm mbpo --divergence kl --weights.decay 0.5 --sac.tau 0.1",
         "divergence, weights.decay"),
        ("--algorithm mbpo --preset debug --discriminator.current-rows 5 --rollout.length 2", ""),
        ("--algorithm my:weights --weights.decay 0.5 --divergence kl", ""),
        ("--algorithm sac --rollout.length 2 --sac.tau 0.1", "rollout.length"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_to_the_algorithm_are_said_to(argv: str, unused: str) -> None:
    text, algorithm = screen_of(*argv.split()), argv.split()[1]
    assert ("not used by" in text) == bool(unused)
    assert f"not used by {algorithm}: {unused}\n" in text or not unused


def test_only_groups_that_the_algorithm_uses_are_printed() -> None:
    def groups(algorithm: str) -> set[str]:
        lines = screen_of("--algorithm", algorithm).splitlines()
        return {line.split()[0] for line in lines if line[0] not in " *"}

    everything = {"run", *(type_.split(".")[0] for type_ in types(Config) if "." in type_)}
    assert groups("tom") == everything
    assert groups("pmac") == everything - {"dual_q"}
    assert groups("mbpo") == everything - {"dual_q", "weights"}
    assert groups("sac") == {"run", "replay", "sac", "evaluation"}


def test_the_current_folder_comes_last_and_not_against_pythons_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", ["site-packages"])
    see_current_folder()
    see_current_folder()
    assert sys.path == ["site-packages", ""]
    monkeypatch.setattr(sys, "path", ["site-packages"])
    monkeypatch.setattr(sys, "flags", SimpleNamespace(safe_path=True))
    see_current_folder()
    assert sys.path == ["site-packages"]
