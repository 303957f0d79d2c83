"""The package imports cleanly, says what it offers, and refuses libraries it was not built for."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

import tom
from tom._libraries import check_version

ROOT = Path(__file__).parents[1]


def test_public_names_exist() -> None:
    assert all(hasattr(tom, name) for name in tom.__all__)
    assert tom.__version__ == importlib.metadata.version("tom-rl")


@pytest.mark.parametrize("package", ["torch", "mujoco"])
def test_another_version_is_one_clear_sentence(package: str) -> None:
    check_version(package, importlib.metadata.version(package).split("+")[0])
    with pytest.raises(ImportError, match=f"tom was built for {package} 1.2.3") as refusal:
        check_version(package, "1.2.3")
    assert f"pip install {package}==1.2.3" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_native_files_stay_short() -> None:
    """Each holds one idea, in under 300 lines."""
    sources = [p for kind in ("*.cpp", "*.h") for p in (ROOT / "cpp").rglob(kind)]
    lengths = {p.name: len(p.read_text().splitlines()) for p in sources}
    assert sources and max(lengths.values()) < 300, lengths


def test_no_source_uses_fast_math_or_pickle() -> None:
    texts = [p.read_text() for p in (ROOT / "cpp").rglob("CMakeLists.txt")]
    flags = re.findall(r"^[^#\n]*-ffast-math", "\n".join(texts), re.MULTILINE)
    assert not flags
    for source in (ROOT / "python" / "tom").glob("*.py"):
        assert not re.search(r"^\s*(import|from) pickle", source.read_text(), re.MULTILINE), source
