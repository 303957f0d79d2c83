"""Checkpoints: nested states as safetensors files, written whole or not at all.

A checkpoint is a folder `step_00010000` with one file per state and a manifest of their sizes and
checksums. It is written under a temporary name, flushed to the disk and then renamed, so that a
folder with the final name is complete. There is no pickle: tensors lie in the safetensors file,
and everything else in its metadata, as JSON.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tom.durable import flush
from tom.state import State
from tom.tensor_file import write_tensors

MANIFEST = "manifest.json"
ASIDE = ".replaced_"  # begins the name of one that is being replaced
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message names it and says what to do."""


def save(folder: Path, step: int, states: Mapping[str, State], *, keep: int = 2) -> Path:
    """Write `states` as the checkpoint of `step`, then delete all but the newest `keep`.

    Args:
        folder: where the checkpoints of a run lie; made if need be.
        step: environment steps taken.
        states: file name without ending → nested state. Tensors are copied: they may share memory
            and lie on any device.
        keep: checkpoints that remain, this one included.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: a value that a checkpoint cannot hold; the message names it.
        OSError: the disk refuses. Earlier checkpoints are untouched.
    """
    final = folder / f"step_{step:08d}"
    temporary = folder / f".writing_{final.name}"
    replaced = folder / f"{ASIDE}{final.name}"
    folder.mkdir(parents=True, exist_ok=True)
    _tidy(folder)
    temporary.mkdir()
    try:
        files = {}
        for name, state in states.items():
            file = temporary / f"{name}.safetensors"
            tensors: dict[str, torch.Tensor] = {}
            tree = json.dumps(_encode(state, name, "", tensors))
            write_tensors(file, tensors, {"tree": tree})
            flush(file)
            files[file.name] = _fingerprint(file)
        manifest = temporary / MANIFEST
        manifest.write_text(json.dumps({"version": VERSION, "step": step, "files": files}))
        flush(manifest)
        flush(temporary)
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        flush(folder)
    finally:
        _tidy(folder)
    for old in [s for s in steps(folder) if s < step][::-1][max(keep - 1, 0) :]:
        shutil.rmtree(folder / f"step_{old:08d}")
    return final


def load(folder: Path, step: int | None = None) -> tuple[int, dict[str, State]] | None:
    """The newest checkpoint, or that of `step`: its step, and file name → state.

    Every value comes back as it was saved, tensors on the CPU. None if there is no checkpoint.

    Raises:
        CheckpointError: a checkpoint that is damaged or cannot be read, or none of the given
            `step`.
    """
    found = steps(folder)
    if step is not None and step not in found:
        there = ", ".join(map(str, found)) or "none"
        raise CheckpointError(f"step: given {step}, but the checkpoints in {folder} are {there}")
    if not found:
        return None
    step = found[-1] if step is None else step
    path = folder / f"step_{step:08d}"
    if not path.exists():
        path = folder / f"{ASIDE}{path.name}"
    try:
        return step, _read(path)
    # A file that is missing is damage.
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is damaged ({error}); delete that folder to resume from "
            f"{_earlier(found, step)}"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({error}); it may be whole, so see to it that "
            f"you may read its files"
        ) from error


def steps(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in ascending order.

    One that a writer moved aside counts too, should it have ended before the new one was there.
    """
    found = set()
    for manifest in folder.glob(f"*step_*/{MANIFEST}"):
        match = re.fullmatch(r"step_(\d{8,})", manifest.parent.name.removeprefix(ASIDE))
        if match:
            found.add(int(match[1]))
    return sorted(found)


def _earlier(found: list[int], step: int) -> str:
    before = [s for s in found if s < step]
    return f"step {before[-1]}" if before else "the beginning"


def _read(path: Path) -> dict[str, State]:
    manifest = json.loads((path / MANIFEST).read_text())
    if manifest["version"] != VERSION:
        raise ValueError(f"format {manifest['version']}, this version of tom reads {VERSION}")
    states = {}
    for name, expected in manifest["files"].items():
        file = path / name
        if _fingerprint(file) != expected:
            raise ValueError(f"{name} does not have the size and checksum of the manifest")
        with safe_open(file, framework="pt", device="cpu") as opened:
            # Cloned, because the library may hand out views of the mapped file.
            tensors = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
            states[file.stem] = _decode(json.loads(opened.metadata()["tree"]), tensors)
    return states


def _encode(value: Any, file: str, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON; tensors go into `tensors` under their path, with JSON Pointer's escapes."""

    def inner(key: Any, item: Any) -> Any:
        name = str(key).replace("~", "~0").replace("/", "~1")
        return _encode(item, file, f"{path}/{name}", tensors)

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, torch.Tensor):
        # An own copy of each: safetensors refuses tensors that share memory.
        tensors[path[1:]] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": path[1:]}
    if isinstance(value, list):
        return [inner(i, item) for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [inner(i, item) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{file}{path}: key {key!r}, a checkpoint's keys are strings")
        return {"dict": {key: inner(key, item) for key, item in value.items()}}
    raise TypeError(
        f"{file}{path}: {type(value).__name__}, a checkpoint holds tensors, numbers, strings, "
        f"booleans, None, and dicts, lists and tuples of these"
    )


def _decode(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    return {key: _decode(item, tensors) for key, item in content.items()}


def _fingerprint(file: Path) -> dict[str, int]:
    checksum = 0
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
        return {"bytes": data.tell(), "crc32": checksum}


def _tidy(folder: Path) -> None:
    """Remove what an interrupted writer left, and put back what it moved aside for nothing."""
    for left in folder.glob(".writing_step_*"):
        shutil.rmtree(left)
    for left in folder.glob(f"{ASIDE}step_*"):
        place = folder / left.name.removeprefix(ASIDE)
        if place.exists():
            shutil.rmtree(left)
        else:
            left.rename(place)
