"""A stop signal that a poll can wait for."""

import os
import select
import signal
from types import FrameType


class Stop:
    """Set by the first SIGTERM or SIGINT after `install`, never unset."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._set = False

    def install(self) -> None:
        """Take the two signals over; in the main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def set(self) -> None:
        """Ask for the stop."""
        if not self._set:
            self._set = True
            os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Whether the stop was asked for."""
        return self._set

    def wait(self, seconds: float) -> None:
        """Return once the stop was asked for, or after so many seconds."""
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        poller.poll(seconds * 1000)

    def fileno(self) -> int:
        """The descriptor that becomes readable with the stop."""
        return self._reader

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._reader)
        os.close(self._writer)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.set()
