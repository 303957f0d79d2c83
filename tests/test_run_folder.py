"""The run folder: new, resumed, refused; refusing changes nothing."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tom.config import Config, ConfigError, DiscriminatorConfig, EvaluationConfig, SACConfig
from tom.run_folder import RunFolder, find_folder
from tom.settings import from_dict


def config_in(path: Path, **changes: object) -> Config:
    return dataclasses.replace(Config(run_dir=str(path)), **changes)


def contents(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_new_folder_holds_the_configuration(tmp_path: Path) -> None:
    config = config_in(tmp_path / "a" / "b")
    folder = RunFolder.open(config)
    assert not folder.resuming
    assert from_dict(Config, json.loads((folder.path / "config.json").read_text())) == config
    assert folder.checkpoints.is_dir() and folder.plots.is_dir() and folder.tensorboard.is_dir()
    assert not folder.metrics.exists()


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder.open(Config(run_dir="~/run")).path == tmp_path / "run"
    with pytest.raises(ConfigError, match="run_dir: given ~nobody-of-this-name/run, whose home"):
        RunFolder.open(Config(run_dir="~nobody-of-this-name/run"))


def test_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="run_dir: given '', allowed is the path of a folder"):
        RunFolder.open(Config())


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    assert not RunFolder.open(config_in(tmp_path)).resuming


def test_same_configuration_resumes(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path / "run"))
    before = contents(tmp_path)
    assert RunFolder.open(config_in(tmp_path / "run")).resuming
    assert contents(tmp_path) == before


def test_what_changes_no_result_is_free(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path / "run", device="cuda"))
    (tmp_path / "run").rename(tmp_path / "moved")
    folder = RunFolder.open(
        config_in(
            tmp_path / "moved",
            device="cuda:1",
            threads=3,
            cuda_graphs=False,
            checkpoint_interval=7,
            evaluation=EvaluationConfig(episodes=3),
        )
    )
    assert folder.resuming
    folder.take_up()
    assert json.loads((folder.path / "config.json").read_text())["device"] == "cuda:1"


def test_another_kind_of_device_is_refused(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path / "run"))
    with pytest.raises(ConfigError, match="device: given cuda"):
        RunFolder.open(config_in(tmp_path / "run", device="cuda"))


def test_longer_run_continues_and_shorter_is_refused(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path, steps=6000))
    longer = RunFolder.open(config_in(tmp_path, steps=7000))
    assert longer.resuming
    # Until it has been seen that the run can go on, the folder keeps what it held.
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 6000
    longer.take_up()
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 7000
    with pytest.raises(ConfigError, match=r"steps: given 6000, but .* a run with 7000; allowed is"):
        RunFolder.open(config_in(tmp_path, steps=6000))


def test_other_configuration_is_refused_by_name(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(config_in(tmp_path, sac=SACConfig(batch_size=128)))
    assert str(caught.value) == (
        f"sac.batch_size: given 128, but {tmp_path} holds a run with 256; allowed is the same, or "
        f"another folder with --run-dir"
    )
    assert contents(tmp_path) == before


def test_more_seeds_are_sent_to_another_folder(tmp_path: Path) -> None:
    RunFolder.open(config_in(tmp_path, seed=4, seeds=2))
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(config_in(tmp_path, seed=4, seeds=5))
    assert str(caught.value) == (
        f"seeds: given 5, but {tmp_path} holds a run with 2; allowed is the same, or the others in "
        f"another folder (--seed 6 --seeds 3), which tom.compare pools with these"
    )
    for other in ({"seed": 4, "seeds": 1}, {"seed": 3, "seeds": 5}):
        with pytest.raises(ConfigError, match="the same, or another folder with --run-dir"):
            RunFolder.open(config_in(tmp_path, **other))


def test_settings_of_a_model_are_free_without_one(tmp_path: Path) -> None:
    other = DiscriminatorConfig(steps=7)
    RunFolder.open(config_in(tmp_path / "sac", algorithm="sac"))
    assert RunFolder.open(
        config_in(tmp_path / "sac", algorithm="sac", discriminator=other)
    ).resuming
    RunFolder.open(config_in(tmp_path / "tom"))
    with pytest.raises(ConfigError, match=r"discriminator.steps: given 7"):
        RunFolder.open(config_in(tmp_path / "tom", discriminator=other))


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="which is not empty and holds no run"):
        RunFolder.open(config_in(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="which is a file, allowed is a folder"):
        RunFolder.open(config_in(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"cannot be written \(Not a directory\)"):
        RunFolder.open(config_in(tmp_path / "file" / "below"))


def test_a_folder_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refuse)  # root may read everything
    with pytest.raises(ConfigError, match=r"policy: given x, which cannot be read .*Permission"):
        find_folder(tmp_path, "policy: given x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"env": "ho', "config.json is damaged"),
        ('{"stpes": 3}', "does not fit this version of tom .*stpes: no such setting"),
        ('{"steps": "3"}', "does not fit this version of tom .*steps: given '3'"),
        ("[]", "does not fit this version of tom"),
    ],
)
def test_unreadable_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        RunFolder.open(config_in(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "config.json").read_text() == text


def test_folder_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; from tom.config import Config; from tom.run_folder import RunFolder;"
        "RunFolder.open(Config(run_dir=sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match="in which another process is running"):
            RunFolder.open(config_in(tmp_path / "run", steps=10**9))
        other.communicate()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == Config().steps
    assert RunFolder.open(config_in(tmp_path / "run")).resuming
