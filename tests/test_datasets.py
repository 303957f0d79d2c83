"""Transitions from HDF5 files, Minari datasets and run folders."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
import torch
from minari.data_collector import EpisodeBuffer

from helpers import LAYOUT, linear_world
from tom.config import Config
from tom.datasets import Dataset, load_dataset
from tom.experiment import Experiment
from tom.run_folder import RunFolder
from tom.settings import ConfigError, override
from tom.tasks import PRESETS


def _arrays(n: int = 12) -> dict[str, np.ndarray]:
    """Twelve transitions: an episode of four that terminates, one of five cut off, three more."""
    rows = linear_world(1, n)[0]
    terminals, timeouts = np.zeros(n, bool), np.zeros(n, bool)
    terminals[3], timeouts[8] = True, True
    return {
        "observations": rows[:, LAYOUT.observation].numpy(),
        "actions": rows[:, LAYOUT.action].numpy(),
        "next_observations": rows[:, LAYOUT.next_observation].numpy(),
        "rewards": rows[:, LAYOUT.reward].numpy(),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def _write(path: Path, arrays: dict[str, np.ndarray]) -> str:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return str(path)


def test_hdf5_becomes_rows_and_first_states(tmp_path: Path) -> None:
    arrays = _arrays()
    dataset = load_dataset("random_half", _write(tmp_path / "x.hdf5", arrays), LAYOUT)
    rows = dataset.rows
    assert rows.shape == (12, LAYOUT.width) and rows.dtype == torch.float32
    np.testing.assert_array_equal(rows[:, LAYOUT.observation], arrays["observations"])
    np.testing.assert_array_equal(rows[:, LAYOUT.action], arrays["actions"])
    np.testing.assert_array_equal(rows[:, LAYOUT.next_observation], arrays["next_observations"])
    np.testing.assert_array_equal(rows[:, LAYOUT.reward], arrays["rewards"])
    # A time limit ends an episode without terminating it.
    np.testing.assert_array_equal(rows[:, LAYOUT.terminated], arrays["terminals"])
    np.testing.assert_array_equal(dataset.initial_states, arrays["observations"][[0, 4, 9]])


def test_hdf5_with_columns_and_without_timeouts(tmp_path: Path) -> None:
    arrays = _arrays()
    del arrays["timeouts"]
    arrays |= {name: arrays[name][:, None] for name in ("rewards", "terminals")}
    dataset = load_dataset("random_half", _write(tmp_path / "x.h5", arrays), LAYOUT)
    np.testing.assert_array_equal(dataset.initial_states, arrays["observations"][[0, 4]])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for descriptions.
def test_minari_becomes_rows_and_first_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    lengths, episodes = (4, 3), []
    for i, length in enumerate(lengths):
        flags = np.zeros(length, bool)
        flags[-1] = True
        episodes.append(
            EpisodeBuffer(
                id=i,
                observations=list(np.random.default_rng(i).normal(size=(length + 1, 2))),
                actions=list(np.random.default_rng(9 + i).normal(size=(length, 1))),
                rewards=list(np.arange(length, dtype=float)),
                terminations=list(flags if i == 0 else ~flags & False),
                truncations=list(flags if i == 1 else ~flags & False),
            )
        )
    from gymnasium.spaces import Box

    minari.create_dataset_from_buffers(
        "tom/test-v0", episodes, action_space=Box(-9, 9, (1,)), observation_space=Box(-9, 9, (2,)),
        algorithm_name="test", author="test", author_email="a@example.org", code_permalink="test",
    )  # fmt: skip
    dataset = load_dataset("replay_half", "tom/test-v0", LAYOUT)
    assert len(dataset.rows) == 7
    assert dataset.rows[:, LAYOUT.terminated].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert dataset.rows[:, LAYOUT.reward].tolist() == [0, 1, 2, 3, 0, 1, 2]
    inside = [0, 1, 2, 4, 5]
    following = dataset.rows[inside][:, LAYOUT.next_observation]
    assert following.equal(dataset.rows[1:][inside][:, LAYOUT.observation])
    assert dataset.initial_states.equal(dataset.rows[[0, 4]][:, LAYOUT.observation])

    with pytest.raises(ConfigError) as caught:
        load_dataset("replay_half", "tom/other-v0", LAYOUT)
    assert "tom/test-v0" in str(caught.value) and "minari download" in str(caught.value)


def test_run_folder_gives_its_replay_oldest_first(tmp_path: Path) -> None:
    config = override(
        Config(env="inverted_pendulum", run_dir=str(tmp_path)),
        {**PRESETS["debug"], "algorithm": "sac", "replay.capacity": 100},
    )
    folder, run = RunFolder.open(config), Experiment(config)
    for _ in range(130):  # The ring wraps.
        run.replays.append(run.collector.step(run.collector.random_actions()))
        run.step += 1
    run.save(folder, {})
    dataset = load_dataset("replay_half", str(tmp_path), run.replays.layout)
    assert dataset.rows.equal(run.replays.newest(100)[0])
    assert len(dataset.initial_states) == run.initial_states.counts[0] > 1
    run.close()


def _wrong_timeouts(arrays: dict[str, np.ndarray]) -> None:
    arrays["timeouts"] = arrays["timeouts"][:5]


def _wrong_terminals(arrays: dict[str, np.ndarray]) -> None:
    arrays["terminals"] = arrays.pop("timeouts")[:5]


def _not_finite(arrays: dict[str, np.ndarray]) -> None:
    arrays["observations"][7, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("next_observations"), ["no dataset 'next_observations'", "terminals"]),
        (lambda a: a.update(actions=np.zeros((12, 3))), ["actions", "[12, 3]", "[12, 1]"]),
        (lambda a: a.update(rewards=np.zeros(5)), ["shape"]),
        (lambda a: a.update({k: v[:0] for k, v in a.items()}), ["no transition"]),
        (_wrong_timeouts, ["timeouts", "[5]", "[12]"]),
        (_wrong_terminals, ["terminals", "[5]", "[12]"]),
        (_not_finite, ["transition 7 is not finite"]),
    ],
)
def test_unfit_files_are_refused_in_one_sentence(change, words, tmp_path: Path) -> None:
    arrays = _arrays()
    change(arrays)
    source = _write(tmp_path / "x.hdf5", arrays)
    with pytest.raises(ConfigError) as caught:
        load_dataset("random_half", source, LAYOUT)
    message = str(caught.value)
    assert message.startswith(f"random_half: given {source}") and "\n" not in message
    assert all(word in message for word in words), message


def test_other_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.hdf5").write_text("no HDF5")
    with pytest.raises(ConfigError, match="cannot be read as HDF5"):
        load_dataset("random_half", str(tmp_path / "notes.hdf5"), LAYOUT)
    with pytest.raises(ConfigError, match="holds no run"):
        load_dataset("random_half", str(tmp_path), LAYOUT)
    with pytest.raises(ConfigError, match="home folder is not known, allowed is an HDF5 file"):
        load_dataset("random_half", "~nobody-of-this-name/x.hdf5", LAYOUT)
    with pytest.raises(ConfigError, match="no file, no run folder and no Minari dataset"):
        load_dataset("random_half", str(tmp_path / "gone.hdf5"), LAYOUT)


@pytest.mark.parametrize("package", ["h5py", "minari"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _write(tmp_path / "x.hdf5", _arrays()) if package == "h5py" else "tom/test-v0"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        load_dataset("random_half", source, LAYOUT)
    assert f"package {package} is needed: pip install 'tom-rl[datasets]'" in str(caught.value)


def test_thinning_keeps_order_and_both_ends() -> None:
    dataset = Dataset(torch.arange(1000.0).unsqueeze(1), torch.zeros(1, 1))
    thin = dataset.thinned(10).rows[:, 0]
    assert thin[0] == 0 and thin[-1] == 999 and len(thin) == 10
    assert thin.diff().min() >= 110 and thin.diff().max() <= 112
    assert dataset.thinned(1000) is dataset
