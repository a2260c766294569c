"""Tells systemd how the process that it started is doing."""

import os
import socket
from collections.abc import Callable, Mapping
from logging import WARNING, getLogger
from typing import Final

from systemd_watchdog.systemd_watchdog import WatchDog

from flood import log

#: What a process has to leave out of the environment of those that it starts, as they are not the
#: one that systemd waits for: sd_notify(3), sd_watchdog_enabled(3).
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")

logger = getLogger(__name__)


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that is not to speak with systemd."""
    return {name: value for name, value in environ.items() if name not in VARIABLES}


class Systemd:
    """The systemd that has started this process; does nothing where there is none.

    `clock` is monotonic seconds. That systemd cannot be told is a warning in the log, once.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._watchdog: WatchDog | None = None
        if os.environ.get("NOTIFY_SOCKET"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._watchdog = WatchDog(self._socket)
        self._clock = clock
        self._told = clock()
        self._said = False

    def ready(self) -> None:
        """Say that the start is over."""
        if self._watchdog is not None:
            self._tell(self._watchdog.ready)

    def alive(self) -> None:
        """Say that the main loop goes round, three times within WATCHDOG_USEC.

        To be called in that loop only, once a second or more often: systemd ends a process that is
        silent for too long.
        """
        if self._watchdog is None:
            return
        now = self._clock()
        # The library's own ping() goes by the time of day, which may be put back. Where no watchdog
        # is set for this process, its time-out is a day.
        if now - self._told >= self._watchdog.timeout_td.total_seconds() / 3:
            self._told = now
            self._tell(self._watchdog.notify)

    def close(self) -> None:
        """Give the socket back; nothing more is told."""
        if self._watchdog is not None:
            self._watchdog = None
            self._socket.close()

    def _tell(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError as error:
            if not self._said:
                self._said = True
                log.event(logger, WARNING, "cannot tell systemd", error=error.strerror)
