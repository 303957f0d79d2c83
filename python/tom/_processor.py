"""Whether this processor has the instructions that the native parts were compiled to.

A source build is tuned to the machine that builds it. Its wheel's name says nothing of that, so
pip's cache or a shared home folder can carry it to another processor.
"""

from __future__ import annotations

from pathlib import Path

_OTHER_NAMES = {"bmi": "bmi1", "lzcnt": "abm"}
"""What Linux calls those whose name differs from the compiler's by more than underscores."""


def check_processor(instruction_sets: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Check that the processor has all of `instruction_sets`, in the compiler's names.

    Where Linux does not list what the processor has, nothing is checked.

    Raises:
        ImportError: it lacks some; the message says which command mends it.
    """
    available = _flags(cpuinfo)
    missing = [
        name
        for name in sorted(instruction_sets.split())
        if _OTHER_NAMES.get(name.lower(), name.lower()) not in available
    ]
    if available and missing:
        raise ImportError(
            f"tom was built for a processor with {', '.join(missing)}, which this one lacks; build "
            f"it here from its sources with `pip install --force-reinstall --no-deps "
            f"--no-cache-dir .`, or for every processor with `-C cmake.define.TOM_NATIVE_ARCH=OFF` "
            f"added to that"
        )


def _flags(cpuinfo: Path) -> frozenset[str]:
    """What the first processor has, without underscores; empty where that is not said."""
    try:
        with cpuinfo.open() as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return frozenset(value.replace("_", "").split())
    except OSError:
        pass
    return frozenset()
