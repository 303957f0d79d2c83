"""An argparse parser for small commands, whose errors are one sentence as everywhere else."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tom.one_line import fail


class OneLineParser(argparse.ArgumentParser):
    """Takes option names in full alone, and shows its description as it is written.

    Args:
        program: the command that messages and --help name.
        description: what --help says first.
    """

    def __init__(self, program: str, description: str) -> None:
        super().__init__(
            prog=program,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """End the program with one line on stderr, what is wrong and what is allowed; status 2."""
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        fail(f"{message}; allowed is {usage}")
