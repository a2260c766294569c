"""A stop signal that a poll can wait for."""

import os
import select
import signal
from collections.abc import Callable
from types import FrameType


class Terminals:
    """The terminals that this process has for its input and output as it starts."""

    def __init__(self) -> None:
        self._descriptors = [number for number in range(3) if os.isatty(number)]

    def gone(self) -> bool:
        """Whether one of them was closed: what then sends SIGHUP wants this process to end."""
        return not all(map(os.isatty, self._descriptors))


class Stop:
    """Set by the first SIGTERM, SIGINT or SIGHUP after `install`, never unset."""

    def __init__(self) -> None:
        self._terminals = Terminals()
        self._hung_up: Callable[[], None] | None = None
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._set = False

    def install(self, hung_up: Callable[[], None] | None = None) -> None:
        """Take the signals over; in the main thread only. With `hung_up` SIGHUP calls that, unless
        it came because the terminal was closed; without, it stays ignored where nohup has it so."""
        self._hung_up = hung_up
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)
        if hung_up or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._received)

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

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._hung_up is not None and not self._terminals.gone():
            self._hung_up()
        else:
            self.set()
