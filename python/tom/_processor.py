"""Whether this processor has the instructions that the native parts were compiled to.

A source build is tuned to the machine that builds it. Its wheel's name says nothing of that, so
pip's cache or a shared home folder can carry it to another processor.
"""

from __future__ import annotations

from pathlib import Path

# What the compiler calls them → Linux. Only those that every kernel in use lists: a build must
# never be refused where it runs. AVX512BF16 is not among them; only bfloat16 needs it, and is
# refused by the operators (cpp/ops/cpu_kernels.h), which ask the processor.
_INSTRUCTION_SETS = {
    "AVX": "avx",
    "AVX2": "avx2",
    "FMA": "fma",
    "BMI": "bmi1",
    "BMI2": "bmi2",
    "LZCNT": "abm",
    "MOVBE": "movbe",
    "GFNI": "gfni",
    "AVX512F": "avx512f",
    "AVX512CD": "avx512cd",
    "AVX512BW": "avx512bw",
    "AVX512DQ": "avx512dq",
    "AVX512VL": "avx512vl",
    "AVX512IFMA": "avx512ifma",
    "AVX512VBMI": "avx512vbmi",
    "AVX512VBMI2": "avx512_vbmi2",
    "AVX512VNNI": "avx512_vnni",
    "AVX512BITALG": "avx512_bitalg",
    "AVX512VPOPCNTDQ": "avx512_vpopcntdq",
}


def check_processor(instruction_sets: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Check that the processor has all of `instruction_sets`, in the compiler's names.

    Names that are not in the table, and systems that do not list what they have, are let pass.

    Raises:
        ImportError: it lacks some; the message says which command mends it.
    """
    available = _flags(cpuinfo)
    missing = [
        name
        for name in sorted(instruction_sets.split())
        if name in _INSTRUCTION_SETS and _INSTRUCTION_SETS[name] not in available
    ]
    if available and missing:
        raise ImportError(
            f"tom was built for a processor with {', '.join(missing)}, which this one lacks; build "
            f"it here from its sources with `pip install --force-reinstall --no-deps "
            f"--no-cache-dir .`, or for every processor with `-C cmake.define.TOM_NATIVE_ARCH=OFF` "
            f"added to that"
        )


def _flags(cpuinfo: Path) -> frozenset[str]:
    """What the first processor has; empty where that is not said."""
    try:
        with cpuinfo.open() as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return frozenset(value.split())
    except OSError:
        pass
    return frozenset()
