"""Signals that end a command: Ctrl-C, SIGTERM, and a connection that drops."""

import os
import signal

import pytest

from hcsflow.cli.interrupts import interruptible
from hcsflow.execute.quiet import interrupts_deferred
from hcsflow.execute.signals import ending_signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")

ENDING = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)]


@pytest.mark.parametrize("number", ENDING)
def test_each_ends_the_block_and_leaves_the_handlers_as_they_were(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", ENDING)
def test_each_is_held_back_until_a_cluster_is_started(number):
    reached = []

    def start() -> None:
        with interruptible():
            with interrupts_deferred():
                os.kill(os.getpid(), number)
                reached.append("the end of the block")
            reached.append("what comes after it")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached == ["the end of the block"]


@pytest.mark.parametrize(
    ("is_signalled", "expected"), [(True, KeyboardInterrupt), (False, EOFError)]
)
def test_what_breaks_after_a_signal_is_an_interruption(is_signalled, expected):
    def start() -> None:
        with interrupts_deferred():
            if is_signalled:
                os.kill(os.getpid(), signal.SIGTERM)
            raise EOFError("a worker that was being started is gone")

    with pytest.raises(expected):
        start()


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in ending_signals()
        with interruptible(), interrupts_deferred():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
