"""Refuse a second thread at once, instead of letting it wait or see half a step."""

from __future__ import annotations

import threading


class OneCaller:
    """A context manager that one thread at a time may enter, while it is open.

    Attributes:
        is_open: whether it may be entered; at first it may not.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Enter.

        Raises:
            RuntimeError: another thread is inside, or it was closed.
        """
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "this BatchEnv is in use by another thread; let one thread at a time call it, or "
                "give each its own BatchEnv."
            )
        if not self.is_open:
            self._lock.release()
            raise RuntimeError("this BatchEnv is closed; make a new one.")

    def __exit__(self, *exception: object) -> None:
        """Leave."""
        self._lock.release()
