"""The C++ programs in cpp/tests, built afresh without Python.

Plain, under the sanitizers, and for several processors.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).parents[1]


def build_and_run(directory: Path, *options: str, only: str = "") -> str:
    """Configure, build and run what is in cpp/tests; return what the programs print.

    Args:
        directory: to build in.
        options: of CMake.
        only: names of tests, separated by `|`; by default all.
    """
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    targets = ["--target", *only.split("|")] if only else []
    options = ("-DTOM_BUILD_PYTHON=OFF", "-DTOM_BUILD_TESTS=ON", *options)
    environment = {
        **os.environ,
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    output = ""
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(directory), *generator, *options],
        ["cmake", "--build", str(directory), "--parallel", "2", *targets],
        ["ctest", "--test-dir", str(directory), "--verbose", "--timeout", "300", "-R", only or "."],
    ):
        done = subprocess.run(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout
        output += done.stdout
    return output


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["thread", "address,undefined"])
def test_stress_under_sanitizers(tmp_path: Path, sanitize: str) -> None:
    output = build_and_run(tmp_path, f"-DTOM_SANITIZE={sanitize}")
    assert "replay_stress: all promises held" in output
    assert "Sanitizer" not in output.replace("TOM_SANITIZE", "")


@pytest.mark.slow
def test_every_interleaving_of_small_examples(tmp_path: Path) -> None:
    output = build_and_run(tmp_path)
    assert "replay_stress: all promises held" in output
    assert "replay_interleavings: all promises held" in output


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares x86-64's vector instructions")
def test_every_instruction_set_draws_the_same(tmp_path: Path) -> None:
    sets = ["x86-64", "native"]
    if torch.cpu._is_avx2_supported():
        sets.append("x86-64-v3")
    digests = set()
    for name in sets:
        flags = ("-DTOM_NATIVE_ARCH=OFF", f"-DCMAKE_CXX_FLAGS=-march={name}")
        output = build_and_run(tmp_path / name, *flags, only="replay_draws|replay_stress")
        assert "replay_stress: all promises held" in output
        digests |= set(re.findall("replay_draws: ([0-9a-f]{16})", output))
    assert len(digests) == 1
