"""Refuse a second thread or process at once, which would wait or see half a step."""

from __future__ import annotations

import os
import threading


class OneCaller:
    """A context manager that one thread at a time may enter, in this process and while it is open.

    Attributes:
        is_open: whether it may be entered; at first it may not.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __enter__(self) -> None:
        """Enter.

        Raises:
            RuntimeError: another thread is inside, it was closed, or this is a forked process.
        """
        if self.is_forked:
            raise RuntimeError(
                "this BatchEnv was made in another process; make it in the process that uses it."
            )
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "this BatchEnv is in use by another thread; let one thread at a time call it, or "
                "give each its own BatchEnv."
            )
        try:
            self.require_open()
        except RuntimeError:
            self._lock.release()
            raise

    def __exit__(self, *exception: object) -> None:
        """Leave."""
        self._lock.release()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that made it, and so without its threads."""
        return os.getpid() != self._process

    def require_open(self) -> None:
        """Raise the `RuntimeError` of entering if it was closed."""
        if not self.is_open:
            raise RuntimeError("this BatchEnv is closed; make a new one.")
