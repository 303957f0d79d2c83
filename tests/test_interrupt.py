"""Ctrl-C: the first is a request, the second stops, and the handlers come back."""

import os
import signal
import threading

import pytest

from tom.interrupt import NOTICE, Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_request_and_the_second_stops(number: signal.Signals) -> None:
    notices: list[str] = []
    with Interrupt(notices.append) as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert notices == [NOTICE]


def test_notice_that_interrupts_its_own_stream_is_left_out() -> None:
    def refuse(message: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    with Interrupt(refuse) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested


def test_a_closed_terminal_is_a_request_however_many_signals_it_sends() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may run the tests
    try:
        with Interrupt() as interrupt:
            for _ in range(3):  # the shell's and the kernel's
                os.kill(os.getpid(), signal.SIGHUP)
                assert interrupt.requested
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_no_run_that_was_started_to_outlive_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_notice_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr() == ("", NOTICE + "\n")


def test_handlers_come_back() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), Interrupt():
        raise ZeroDivisionError
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_are_left_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
