"""Where commands print: a standard output whose end is no end of the run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from rich.console import Console


class _StandardOutput:
    """The standard output of the moment; once its terminal or reader is gone, nowhere."""

    def __getattr__(self, name: str) -> Any:
        return self if name == "rich_proxied_file" else getattr(self._file, name)

    @property
    def _file(self) -> Any:
        """Behind what rich puts in its place while it shows a live line, and asks for by name."""
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    def write(self, text: str) -> int:
        with self._nowhere_if_gone():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._nowhere_if_gone():
            self._file.flush()

    @contextmanager
    def _nowhere_if_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)


def make_console() -> Console:
    """A console on the standard output; a run goes on without a word when nobody reads it.

    Characters that the output's encoding lacks become question marks, where they would be errors.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        with suppress(ValueError):  # it is closed
            sys.stdout.reconfigure(errors="replace")
    return Console(file=cast(IO[str], _StandardOutput()))


def say(console: Console, text: str) -> None:
    """Print text as it is: brackets are no markup, numbers have no colour, lines stay whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
