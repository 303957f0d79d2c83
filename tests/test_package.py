"""The package imports cleanly, says what it offers, and refuses libraries it was not built for."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

import tom
from tom import _build_info
from tom._libraries import check_version
from tom._processor import check_processor

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


def test_a_processor_that_lacks_instructions_is_one_clear_sentence(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx avx2 fma bmi1 abm avx512_bf16\n")
    check_processor("AVX AVX2 FMA BMI LZCNT", cpuinfo)
    check_processor("AVX512BF16 AVXIFMA AVXVNNIINT8 AVX99", cpuinfo)  # not every kernel lists them
    check_processor("", cpuinfo)
    check_processor("AVX512F", tmp_path / "nowhere")  # a system that does not say
    with pytest.raises(ImportError, match="processor with AVX512F, BMI2, which this") as refusal:
        check_processor("AVX BMI2 AVX512F", cpuinfo)
    assert "TOM_NATIVE_ARCH=OFF" in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_build_says_which_instructions_it_has() -> None:
    """Those of this processor, or none where it was built for all."""
    check_processor(_build_info.INSTRUCTION_SETS)


@pytest.mark.parametrize("pattern", ["_native.*.so", "libtom_ops.so"])
def test_the_native_parts_share_torchs_c_plus_plus_library(pattern: str) -> None:
    """A copy of their own, for which LDFLAGS may ask, cuts numbers off error messages."""
    (library,) = Path(_build_info.__file__).parent.glob(pattern)
    assert b"\0libstdc++.so.6\0" in library.read_bytes()


def _cmake(*arguments: str | Path) -> str:
    """What it says before it refuses, in one line."""
    done = subprocess.run(
        ["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


def test_a_build_on_another_system_is_refused_in_one_sentence(tmp_path: Path) -> None:
    said = _cmake("-S", ROOT, "-B", tmp_path, "-DCMAKE_SYSTEM_NAME=FreeBSD")
    assert "The system is FreeBSD, but the Python package is built on Linux only" in said


@pytest.mark.parametrize(("names", "count"), [((), 0), (("lib.so.1", "lib.so.2"), 2)])
def test_a_library_that_is_not_there_once_is_named(
    names: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()
    script = tmp_path / "script.cmake"
    script.write_text(
        f'include("{ROOT}/cmake/OnlyFile.cmake")\ntom_only_file("{tmp_path}/lib.so.*" found)\n'
    )
    said = _cmake("-P", script)
    assert f"lib.so.* must be exactly one file, but it is {count}; install" in said
    assert all(name in said for name in names)
    build = (ROOT / "cmake" / "TorchAndMujoco.cmake").read_text()
    assert 'tom_only_file("${TOM_MUJOCO_DIR}/libmujoco.so.*"' in build


def test_native_files_stay_short() -> None:
    """Each holds one idea, in under 300 lines."""
    sources = [p for kind in ("*.cpp", "*.h") for p in (ROOT / "cpp").rglob(kind)]
    lengths = {p.name: len(p.read_text().splitlines()) for p in sources}
    assert sources and max(lengths.values()) < 300, lengths


def test_no_source_uses_fast_math_or_pickle() -> None:
    build = [ROOT / "CMakeLists.txt", ROOT / "pyproject.toml", *ROOT.glob("cmake/*")]
    build += (ROOT / "cpp").rglob("CMakeLists.txt")
    texts = [p.read_text() for p in build]
    assert "-fvisibility=hidden" in texts[0]  # where the flags of every part are
    flags = re.findall(r"^[^#\n]*-ffast-math", "\n".join(texts), re.MULTILINE)
    assert not flags
    for source in (ROOT / "python" / "tom").glob("*.py"):
        assert not re.search(r"^\s*(import|from) pickle", source.read_text(), re.MULTILINE), source
