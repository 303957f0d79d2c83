"""Checkpoints: exact round trips, atomic writes, and damage that is noticed."""

import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tom import checkpoint
from tom.checkpoint import CheckpointError


def same(a: Any, b: Any) -> bool:
    """Equal in type and, bit for bit, in value."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        raw = [t.contiguous().flatten().view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return bool(a == b)


def round_trip(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    checkpoint.save(folder, 1, {"seed_0": state})
    loaded = checkpoint.load(folder)
    assert loaded is not None
    return loaded[1]["seed_0"]


def test_none_before_the_first(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "missing") is None


def test_values_come_back_exactly(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "agent": {"actor": [torch.randn(2, 3), torch.randn(3)], "steps": 7, "name": "é/~\n"},
        "float64": torch.randn(2, dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "uint64": torch.tensor([2**63 + 5], dtype=torch.uint64),
        "half": torch.randn(3).to(torch.bfloat16),
        "scalar": torch.tensor(3),
        "nan": torch.tensor([math.nan, -0.0, math.inf]),
        "empty": torch.empty(0, 5),
        "whole": base,
        "part": base[1:, ::2],
        "turned": base.T,
        "again": base,
        "grown": torch.ones(1).expand(4),
        "parameter": torch.ones(2, requires_grad=True).detach(),
        "floats": [math.nan, math.inf, -math.inf, -0.0, 0.1, 5e-324, 1.7976931348623157e308],
        "ints": [0, -1, 2**64 - 1, 2**200, -(2**70)],
        "words": [True, False, None, "", "nan"],
        "containers": [{}, [], (), {"": {"": 1}}, (1, [2, (3,)])],
        "a/b": {"c": torch.zeros(1)},
        "a": {"b/c": torch.ones(1), "b": {"c": torch.full((1,), 2.0)}},
        "": {"": torch.full((1,), 3.0)},
        "dict": {"dict": {"tensor": "tensor", "float": "nan", "tuple": [1]}},
    }
    assert same(round_trip(tmp_path, state), state)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.integers(0, 3).map(lambda n: torch.arange(n, dtype=torch.int16))
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(alphabet="a/~é0", max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(state=st.dictionaries(st.text(alphabet="a/~é0", max_size=3), trees, max_size=4))
def test_any_nesting_comes_back_exactly(tmp_path: Path, state: dict[str, Any]) -> None:
    assert same(round_trip(tmp_path, state), state)


def test_loaded_tensors_are_independent_and_writable(tmp_path: Path) -> None:
    shared = torch.ones(3)
    loaded = round_trip(tmp_path, {"a": shared, "b": shared})
    loaded["a"].add_(1)
    assert loaded["b"].tolist() == [1, 1, 1]
    assert round_trip(tmp_path, loaded)["a"].tolist() == [2, 2, 2]


def test_tensors_over_native_memory_are_saved(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert round_trip(tmp_path, {"rows": torch.from_numpy(rows)})["rows"].tolist() == rows.tolist()


@pytest.mark.parametrize("device", ["cpu", "cuda"][: 1 + torch.cuda.is_available()])
def test_tensors_of_any_device_come_back_on_the_cpu(tmp_path: Path, device: str) -> None:
    state = {"x": torch.ones(2, device=device)}
    assert same(round_trip(tmp_path, state), {"x": torch.ones(2)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, "seed_0/a/1: set, a checkpoint holds tensors"),
        ({"a": {0: 1}}, "seed_0/a: key 0, a checkpoint's keys are strings"),
        ({"a": np.zeros(2)}, "seed_0/a: ndarray, a checkpoint holds tensors"),
    ],
)
def test_other_values_are_refused_and_nothing_remains(
    tmp_path: Path, value: dict[str, Any], message: str
) -> None:
    checkpoint.save(tmp_path, 1, {"seed_0": {"x": 1}})
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, 2, {"seed_0": value})
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000001"]


def test_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (0, 5, 10, 100_000_000):
        path = checkpoint.save(tmp_path, step, {"shared": {"step": step}, "seed_3": {}})
    assert path == tmp_path / "step_100000000"
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "seed_3.safetensors",
        "shared.safetensors",
    ]
    assert checkpoint.steps(tmp_path) == [10, 100_000_000]
    assert checkpoint.load(tmp_path) == (100_000_000, {"shared": {"step": 10**8}, "seed_3": {}})
    assert checkpoint.load(tmp_path, 10) == (10, {"shared": {"step": 10}, "seed_3": {}})
    with pytest.raises(CheckpointError, match=r"step: given 5, but .* are 10, 100000000"):
        checkpoint.load(tmp_path, 5)


def test_same_step_is_replaced(tmp_path: Path) -> None:
    for value in (1, 2):
        checkpoint.save(tmp_path, 10, {"shared": {"value": value}})
    assert checkpoint.load(tmp_path) == (10, {"shared": {"value": 2}})
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_failed_write_leaves_the_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"shared": {"step": step}})

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if failing == "fsync" else Path, failing, refuse)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(tmp_path, 3, {"shared": {"step": 3}})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000001", "step_00000002"]
    assert checkpoint.load(tmp_path) == (2, {"shared": {"step": 2}})


def test_failed_replacement_leaves_the_one_it_was_to_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, {"shared": {"value": 1}})
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="Input/output"):
            checkpoint.save(tmp_path, 1, {"shared": {"value": 2}})
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000001"]
    assert checkpoint.load(tmp_path) == (1, {"shared": {"value": 1}})


def test_a_writer_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"shared": {"value": 1}})
    (tmp_path / "step_00000001").rename(tmp_path / ".replaced_step_00000001")
    assert checkpoint.load(tmp_path) == (1, {"shared": {"value": 1}})
    checkpoint.save(tmp_path, 2, {"shared": {"value": 2}})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000001", "step_00000002"]


def test_leftovers_of_a_crash_are_ignored_and_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"shared": {}})
    left = tmp_path / ".writing_step_00000002"
    left.mkdir()
    (left / "shared.safetensors").write_bytes(b"half")
    (tmp_path / "step_00000009").mkdir()
    assert checkpoint.load(tmp_path) == (1, {"shared": {}})
    checkpoint.save(tmp_path, 3, {"shared": {}})
    assert not left.exists()


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = checkpoint.save(tmp_path, 1, {"shared": {"x": torch.ones(2)}})
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == {
        "manifest.json": 0o666 & ~mask,
        "shared.safetensors": 0o666 & ~mask,
    }


def test_a_checkpoint_that_may_not_be_read_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, {"shared": {"x": 1}})
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"the checkpoint {tmp_path}/step_00000001 cannot be read (")
    assert "Permission denied" in message and "may read its files" in message
    assert "delete" not in message and "damaged" not in message


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip_a_bit(path / "shared.safetensors"),
        lambda path: os.truncate(path / "shared.safetensors", 20),
        lambda path: os.truncate(path / "shared.safetensors", 0),
        lambda path: (path / "shared.safetensors").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "manifest.json").write_text('{"version": 99}'),
        lambda path: (path / "shared.safetensors").write_bytes(struct.pack("<Q", 2**60)),
    ],
)
def test_damage_is_named_with_the_way_out(tmp_path: Path, damage: Any) -> None:
    for step in (5, 10):
        checkpoint.save(tmp_path, step, {"shared": {"x": torch.ones(8)}})
    damage(tmp_path / "step_00000010")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path)
    assert str(caught.value).startswith(f"the checkpoint {tmp_path}/step_00000010 is damaged (")
    assert str(caught.value).endswith("; delete that folder to resume from step 5")
    damage(tmp_path / "step_00000005")
    with pytest.raises(CheckpointError, match="to resume from the beginning"):
        checkpoint.load(tmp_path, 5)
