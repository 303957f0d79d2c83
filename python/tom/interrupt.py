"""Ctrl-C that lets the step finish."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

NOTICE = "finishing this step and saving; press Ctrl-C again to stop at once"


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Interrupt:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a flag, the second into `KeyboardInterrupt`.

    A second SIGHUP is none: when a terminal is closed, its shell and the kernel both send one.

    The earlier handlers come back on exit. Outside the main thread, where Python delivers no
    signals, it does nothing and `requested` stays False.

        with Interrupt() as interrupt:
            while not interrupt.requested:
                ...

    Args:
        notice: called with one line of text at the first signal; by default it prints to stderr.
    """

    def __init__(self, notice: Callable[[str], None] = _print) -> None:
        self.requested = False
        self._notice = notice
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # nohup ignores SIGHUP, so that a run goes on when its terminal is closed.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._earlier:
            number, handler = self._earlier.popitem()
            # A handler that was not set from Python reads as None and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        self.requested = True
        # A stream refuses to be written from a handler that interrupted a write to it, or when its
        # terminal is gone. The notice is then left out: the request counts.
        with contextlib.suppress(RuntimeError, OSError):
            self._notice(NOTICE)
