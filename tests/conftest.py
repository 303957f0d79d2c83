"""Shared by all tests: one thread, which is the fastest for networks this small; and a folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import torch
from matplotlib.figure import Figure

from tom import figures

if not torch.cuda.is_available():  # Triton's interpreter takes its kernels to the processor
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the README's `points.py` and `recent.py`; Python looks for no
    modules in it.

    What they register, and they themselves, are gone afterwards.
    """
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for file, heading in (("points.py", "Your own environment"), ("recent.py", "Your own weights")):
        found = re.search(rf"^#+ {heading}\n.*?```python\n(.*?)```", readme, re.M | re.S)
        assert found, f"README.md has no Python block under the heading {heading!r}"
        (tmp_path / file).write_text(found.group(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    registered = dict(gymnasium.registry)
    yield tmp_path
    gymnasium.registry.clear()
    gymnasium.registry.update(registered)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures saved during a test."""
    saved: list[Figure] = []
    save = figures.save

    def keep(figure: Figure, path: Path) -> Path:
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(figures, "save", keep)
    return saved
