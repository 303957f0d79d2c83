"""How every command ends before its time: in one line on stderr, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from tom.training_error import TrainingError

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell's own."""


def fail(message: str) -> NoReturn:
    """End the program with `error: message` and exit status 2, as for a wrong command line."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def refusals() -> Iterator[None]:
    """Around what reads and checks what the user gave: a ValueError is the sentence against it.

    Not around what runs afterwards, where a ValueError is a mistake whose traceback is wanted.
    """
    try:
        yield
    except ValueError as error:
        fail(str(error))


@contextmanager
def endings() -> Iterator[None]:
    """Around a whole command: `KeyboardInterrupt` has the exit status `INTERRUPTED`, and
    `TrainingError` and want of memory 1.
    """
    try:
        yield
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if not is_want_of_memory(error):
            raise
        print(
            "error: the memory does not suffice; smaller networks, batches, buffers or rollouts "
            "need less, and the same command goes on from what is saved",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is saved", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def is_want_of_memory(error: Exception) -> bool:
    """Whether it says that memory is full: of the processor's, torch raises a RuntimeError."""
    full = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return full or "can't allocate memory" in str(error)
