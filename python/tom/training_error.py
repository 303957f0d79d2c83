"""What ends a run that has begun."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says in one sentence what happened and what to do."""
