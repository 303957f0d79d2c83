"""The C++ programs in cpp/tests, plain and under the sanitizers, built afresh without Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]


def build_and_run(directory: Path, sanitize: str) -> str:
    """Configure, build and run everything in cpp/tests; return what the programs print."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DTOM_BUILD_PYTHON=OFF", "-DTOM_BUILD_TESTS=ON", f"-DTOM_SANITIZE={sanitize}"]
    environment = {
        **os.environ,
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    output = ""
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(directory), *generator, *options],
        ["cmake", "--build", str(directory), "--parallel", "2"],
        ["ctest", "--test-dir", str(directory), "--verbose", "--timeout", "300"],
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
    output = build_and_run(tmp_path, sanitize)
    assert "replay_stress: all promises held" in output
    assert "Sanitizer" not in output.replace("TOM_SANITIZE", "")


@pytest.mark.slow
def test_every_interleaving_of_small_examples(tmp_path: Path) -> None:
    output = build_and_run(tmp_path, "")
    assert "replay_stress: all promises held" in output
    assert "replay_interleavings: all promises held" in output
