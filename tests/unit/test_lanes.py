"""Threads that carry transfers, whatever comes while they start."""

import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any

import pytest

from tests.spooling import in_child
from workers.lanes import Lanes

STARTS = threading.Thread.start.__code__


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_a_thread_has_started(number: signal.Signals) -> None:
    """Of all moments it comes in the midst of one of threading's own functions; in a process that
    has one thread only, as a worker process does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        if frame.f_code is STARTS:
            os.kill(os.getpid(), number)
        return None

    def begin() -> None:
        signal.signal(number, interrupt)
        with Lanes[str, int](1, "flood-test") as lanes:
            sys.settrace(trace)
            try:
                lanes.start("ticket", lambda: 1)
            except KeyboardInterrupt as error:
                sys.settrace(None)
                files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
                assert STARTS.co_filename not in files
            else:
                raise AssertionError("the interrupt is lost")
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
            assert lanes.next(30.0) == ("ticket", 1), "the thread works all the same"

    assert in_child(begin) == 0
