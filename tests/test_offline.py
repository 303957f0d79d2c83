"""The command tom.offline, end to end at debug sizes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import load_file

from helpers import assert_refused, interrupt_at, streams
from tom import cli
from tom.cloning import clone_policy
from tom.collection import collect
from tom.config import SACConfig
from tom.datasets import load_dataset
from tom.offline import main, parse
from tom.offline_config import OfflineConfig, defaults
from tom.offline_task import OfflineTask
from tom.rows import RowLayout
from tom.settings import from_dict, override, to_dict, types, validate
from tom.task_env import make_env
from tom.tasks import PRESETS, TASKS

DEBUG = ["--preset", "debug", "--threads", "1"]
HOPPER = RowLayout(11, 3)


def _run(folder: Path, *arguments: str, env: str = "hopper") -> Path:
    main(["--env", env, "--run-dir", str(folder), *DEBUG, *arguments])
    return folder


def _bins(folder: Path) -> list[dict[str, str]]:
    with (folder / "bins.csv").open() as file:
        return list(csv.DictReader(file))


def _weights(folder: Path) -> torch.Tensor:
    return load_file(folder / "weights.safetensors")["weights"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run."""
    return _run(tmp_path_factory.mktemp("offline") / "run")


def test_kl_which_has_no_balance_of_flows_ends_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path / "run", "--divergence", "kl", env="inverted_pendulum")
    said = " ".join(capsys.readouterr().out.split())
    assert "effective sample size" in said and "Spearman's correlation" in said
    assert "as the dual Q's steps left it" not in said


def test_run_writes_weights_bins_and_plot(finished: Path) -> None:
    bins, weights = _bins(finished), _weights(finished)
    assert weights.shape == (1200,) and bool((weights >= 0).all())
    assert [(b["half"], b["bin"]) for b in bins] == [
        (half, str(i)) for half in ("random", "replay") for i in range(1, 6)
    ]
    means = weights.double().view(10, 120).mean(1)
    assert [float(b["mean_weight"]) for b in bins] == pytest.approx(means.tolist(), rel=1e-4)
    assert (finished / "plots" / "weight_progression.png").read_bytes().startswith(b"\x89PNG")
    saved = from_dict(OfflineConfig, json.loads((finished / "config.json").read_text()))
    assert saved == parse(["--run-dir", str(finished), "--env", "hopper", *DEBUG])


def test_replay_half_is_the_agents_whole_replay_in_order(finished: Path) -> None:
    dataset = load_dataset("replay_half", str(finished), HOPPER)
    rows = dataset.rows
    assert len(rows) == 600
    follows = (rows[1:, HOPPER.observation] == rows[:-1, HOPPER.next_observation]).all(1)
    # Every row follows the one before, except the first ones of episodes.
    assert int((~follows).sum()) + 1 == len(dataset.initial_states)


def test_same_command_reuses_the_training_and_repeats_the_weights(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    _run(finished)
    assert "the finished run in" in capsys.readouterr().out
    after = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    assert before == after


def test_settings_of_the_weights_may_change_and_those_of_the_data_may_not(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A run of its own: later tests read the other.
    folder = _run(tmp_path / "run")
    first = _weights(folder)
    assert first.equal(_weights(finished))
    _run(folder, "--dual-q.steps", "50", "--bins", "3")
    assert not first.equal(_weights(folder)) and len(_bins(folder)) == 6
    for argument in ("--seed 1", "--sac.tau 0.1", "--transitions 700", "--env halfcheetah"):
        capsys.readouterr()
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(SystemExit):
            _run(folder, *argument.split())
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "another folder with --run-dir" in error
        assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_interrupted_training_goes_on_and_ends_with_the_same_weights(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    interrupt_at(monkeypatch, 350)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match="130"):
        _run(folder)
    output = capsys.readouterr().out.replace("\n", " ")
    assert "stopped at step 350 of 600" in output and "python -m tom.offline --env" in output
    assert not (folder / "bins.csv").exists()
    _run(folder)
    assert _weights(folder).equal(_weights(finished))


def test_interrupted_weighting_ends_in_a_line(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt  # not by a signal, which a shell's background jobs ignore

    monkeypatch.setattr("tom.offline.dataset_weights", interrupted)
    before = _weights(finished)
    with pytest.raises(SystemExit) as ending:
        _run(finished)
    assert ending.value.code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from what is saved\n"
    assert _weights(finished).equal(before)


def _write_hdf5(file: str, run: Path) -> torch.Tensor:
    """The replay of a run as a D4RL-style file; its rows."""
    rows = load_dataset("replay_half", str(run), HOPPER).rows
    with h5py.File(file, "w") as out:
        out["observations"] = rows[:, HOPPER.observation].numpy()
        out["actions"] = rows[:, HOPPER.action].numpy()
        out["next_observations"] = rows[:, HOPPER.next_observation].numpy()
        out["rewards"] = rows[:, HOPPER.reward].numpy()
        out["terminals"] = rows[:, HOPPER.terminated].bool().numpy()
    return rows


def test_files_as_halves_and_a_policy_fitted_to_the_newest_rows(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(tmp_path / "hopper.hdf5")
    _write_hdf5(source, finished)
    halves = ["--random-half", source, "--replay-half", source]
    folder = _run(tmp_path / "files", *halves, "--transitions", "400")
    assert "fitted to the newest transitions" in capsys.readouterr().out
    assert len(_weights(folder)) == 800 and not (folder / "sac").exists()
    with_policy = _run(tmp_path / "policy", *halves, "--policy", str(finished))
    assert "fitted" not in capsys.readouterr().out
    assert len(_weights(with_policy)) == 1200


def test_the_policy_is_fitted_to_the_newest_rows_of_a_longer_file(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the newest of those that are weighed, which lie far apart."""
    fitted: list[torch.Tensor] = []

    def fit(rows: torch.Tensor, *rest: object) -> object:
        fitted.append(rows)
        return clone_policy(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("tom.offline_task.clone_policy", fit)
    source = str(tmp_path / "hopper.hdf5")
    rows = _write_hdf5(source, finished)
    folder = _run(tmp_path / "run", "--replay-half", source, "--transitions", "300")
    assert fitted[0].equal(rows[-200:])
    assert len(_weights(folder)) == 600


def test_run_folders_as_halves_bring_their_policy(finished: Path, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", "--replay-half", str(finished / "sac"))
    assert _weights(folder).equal(_weights(finished))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replay-half", "gone.hdf5"], ["replay_half", "gone.hdf5", "no file"]),
        (["--policy", "gone"], ["policy", "gone", "holds no run"]),
        (["--env", "Hoper-v5"], ["Hoper-v5", "Hopper-v5"]),
        (["--transitions", "0"], ["transitions", "given 0", "at least 1"]),
        (["--transition", "5"], ["--transition", "did you mean --transitions"]),
        (["--env", ""], ["env", "short task name"]),
        (["--bins", "1"], ["bins", "given 1", "at least 2"]),
        (["--transitions", "200"], ["transitions", "given 200", "exploration_steps = 200"]),
        (["--discount", "1"], ["discount", "given 1", "below 1"]),
        (["--divergence", "kl", "--dual-q.conjugate", "quadratic"], ["dual_q.conjugate"]),
        (["--steps", "5"], ["did you mean --transitions, --discriminator.steps or --dual-q.ste"]),
        (["--threads", "1", "ant"], ["ant: given without the name", "allowed is --env ant"]),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert_refused(main, [*DEBUG, "--run-dir", str(folder), *arguments], words, folder, capsys)


def test_policy_of_another_task_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run(tmp_path / "run", "--policy", str(finished), env="halfcheetah")
    assert "a run of hopper, allowed is a run folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _run(tmp_path / "run", "--replay-half", str(finished), env="halfcheetah")
    assert "a run of hopper, allowed is a run folder" in capsys.readouterr().err
    # The task's own name is another name for it.
    _run(tmp_path / "run", "--policy", str(finished), env="Hopper-v5")


def test_an_environment_of_the_current_folder_under_either_name(user_folder: Path) -> None:
    run = _run(user_folder / "run", env="points:My/Point-v0")
    again = _run(user_folder / "again", "--policy", str(run), env="My/Point-v0")
    assert _weights(run).equal(_weights(again))


def test_every_task_and_preset_is_valid() -> None:
    for env in (*TASKS, "Pusher-v5"):
        for preset in PRESETS:
            config = defaults(env, preset)
            validate(config)
            validate(config.training())
            validate(config.weighting())
            assert from_dict(OfflineConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in ("preset", *types(OfflineConfig)):
        assert "--" + name.replace("_", "-") in text
    words = " ".join(text.replace("│", " ").split())
    assert all(doc in words for doc in cli.field_docs(OfflineConfig).values())
    assert set(cli.field_docs(OfflineConfig)) == {
        name for name in types(OfflineConfig) if "." not in name
    }


def test_default_folder_names_task_size_and_seed() -> None:
    assert parse(["--env", "ant", "--seed", "2"]).run_dir == "runs/ant-offline-1000000-seed2"
    custom = parse(["--env", "points:My/Point-v0"]).run_dir
    assert custom == "runs/points-My-Point-v0-offline-1000000-seed0"
    assert parse(DEBUG).run_dir == "runs/halfcheetah-offline-600-seed0-debug"


def test_collected_rows_form_episodes_side_by_side() -> None:
    env = make_env(defaults("hopper"), 3, 1)
    dataset = collect(env, HOPPER, lambda s: torch.rand(len(s), 3) * 2 - 1, 500, seed=0, purpose=0)
    env.close()
    assert dataset.rows.shape == (500, HOPPER.width)
    starts = 0
    for i in range(3):
        rows = dataset.rows[i::3]
        follows = (rows[1:, HOPPER.observation] == rows[:-1, HOPPER.next_observation]).all(1)
        # Within 170 steps an episode of Hopper ends by a fall alone.
        assert follows.equal(rows[:-1, HOPPER.terminated] == 0)
        starts += 1 + int((~follows).sum())
    assert starts <= len(dataset.initial_states) <= starts + 3
    ended = int(dataset.rows[:, HOPPER.terminated].sum())
    assert len(dataset.returns) in range(ended, ended + 3)
    assert dataset.mean_return is not None and 5 < dataset.mean_return < 60


@pytest.mark.parametrize(
    ("rows", "num_envs", "ended"), [(1000, 10, 1), (2500, 10, 2), (3000, 2, 2)]
)
def test_the_policys_own_rows_are_whole_episodes(rows: int, num_envs: int, ended: int) -> None:
    """HalfCheetah's have 1000 steps each: beginnings alone would be of another distribution."""
    config = override(
        defaults("halfcheetah"), {"discriminator.current_rows": rows, "num_envs": num_envs}
    )
    task = OfflineTask(config)
    own = task.policy_rows(lambda observations: torch.zeros(*observations.shape[:2], 6))
    task.close()
    assert own.rows.shape == (rows, task.layout.width) and len(own.returns) == ended


def test_cloned_policy_acts_as_the_recorded_one() -> None:
    """Actions 2 tanh(s₀ + 0.2 n): the mean and the spread come back."""
    layout = RowLayout(2, 1)
    s = torch.randn(4000, 2)
    a = 2 * torch.tanh(s[:, :1] + 0.2 * torch.randn(4000, 1))
    rows = layout.join(s, a, s, torch.zeros(4000), torch.zeros(4000))
    config = SACConfig(hidden=(32, 32), learning_rate=3e-3)
    bounds = torch.tensor([-2.0]), torch.tensor([2.0])
    policy = clone_policy(rows, layout, *bounds, config, streams(0), steps=800)
    drawn = torch.atanh(policy(torch.zeros(1, 5000, 2) + torch.tensor([0.5, 0.0])) / 2)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.1)
    assert drawn.std().item() == pytest.approx(0.2, abs=0.06)
