"""Writing so that a crash of the program or of the machine leaves the old file or the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(file: Path) -> Iterator[TextIO]:
    """A text file to write, which takes the place of `file` in one step at the end of the block."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", newline="") as out:
        yield out
    flush(temporary)
    temporary.replace(file)
    flush(file.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
