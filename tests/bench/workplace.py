"""A directory to work in, of which nothing is left in the end, nor of the processes started."""

import ctypes
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from tests.bench.usage import family

_Found = TypeVar("_Found")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


class _Interrupts:
    """Signals that ask for an end raise KeyboardInterrupt, but only while they are heeded."""

    def __init__(self) -> None:
        self.heeded = False
        self.came = False
        # One that is ignored, as SIGHUP is after nohup, stays so.
        self._before = {
            number: signal.signal(number, self._received)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came while they were not heeded."""
        if self.came:
            raise KeyboardInterrupt

    def restore(self) -> None:
        """Handle signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if self.heeded:
            raise KeyboardInterrupt


def work_in(parent: Path, work: Callable[[Path], _Found]) -> _Found:
    """Return what `work` does with a new directory below `parent`; in the main thread only.

    SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in it. However it ends, all processes that it
    has started are killed, then the directory is removed; a signal does not break that off, but is
    heeded after it. Raises OSError if the directory cannot be made.
    """
    # What is left of a process that is killed, as of a compiler, would be init's otherwise.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    interrupts = _Interrupts()
    try:
        directory = Path(tempfile.mkdtemp(prefix="flood-bench-", dir=parent))
        try:
            interrupts.heeded = True
            interrupts.check()
            found = work(directory)
        finally:
            # No call, which a signal could raise from, comes before this.
            interrupts.heeded = False
            _end_descendants()
            shutil.rmtree(directory, ignore_errors=True)
        interrupts.check()
    finally:
        interrupts.restore()
    return found


def _end_descendants() -> None:
    while True:
        for pid in family(os.getpid())[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
