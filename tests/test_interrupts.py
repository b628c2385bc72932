"""Ctrl-C held back: late, never lost, and as before afterwards."""

import signal
import threading

import pytest
from octans.interrupts import deferred


def test_it_comes_at_the_end():
    done = []

    def work():
        with deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("to the end")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["to the end"]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_one_nothing_comes_and_a_failure_passes():
    with deferred():
        pass
    with pytest.raises(ImportError), deferred():
        raise ImportError


def test_another_thread_leaves_the_handler_alone():
    seen = []

    def work():
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
