"""What ends a run that has begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says in one sentence what happened and what to do."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Within it an OSError becomes a :class:`TrainingError` that names `what` was to be written."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{what} cannot be written ({error.strerror or error}); the same command goes on from "
            f"what is saved"
        ) from error
