"""A wait that any signal ends."""

import os
import select
import signal
from typing import Final

_MOST: Final = 4096


class Signals:
    """The signals that this process has handlers for; those that came before a wait end it, too."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def heed(self) -> None:
        """Begin; in the main thread only, once for a process."""
        # Python notes each signal there before it calls a handler (signal.set_wakeup_fd).
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def close(self) -> None:
        """Heed signals no longer, and give the descriptors back."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> None:
        """Return at a signal, once its handler has run, or after so many seconds."""
        if self._poll.poll(seconds * 1000):
            os.read(self._reader, _MOST)
