"""Runs flood-notify every two minutes, as a child of flood-watch."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from logging import WARNING, getLogger
from typing import Final

from flood import log, parent
from flood.notify_lock import NotifyLock

#: Between two runs, in seconds.
EVERY: Final = 120.0

#: How long a run may take, in seconds: the time-outs of what it does are less in sum.
_LONGEST: Final = 600.0

#: How long it has to end in order, in seconds.
_GRACE: Final = 5.0

# Of the current directory, which Python puts first on the path, nothing is imported.
_CODE: Final = """\
import sys; sys.path[:] = filter(None, sys.path)
from flood.commands.notify import main; sys.exit(main([]))
"""

logger = getLogger(__name__)


class NotifyChild:
    """Starts flood-notify with the environment `environ` every so many seconds of `clock`, which is
    monotonic; one that hangs holds nothing up, and no other is started meanwhile. `lock` tells
    others of it."""

    def __init__(
        self,
        every: float,
        environ: Mapping[str, str],
        *,
        lock: NotifyLock,
        clock: Callable[[], float],
    ) -> None:
        self._every = every
        self._environ = dict(environ)
        self._lock = lock
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = clock()
        self._refused = False

    def announce(self) -> None:
        """Let others know of it; call it once the spool is there."""
        self._lock.hold()

    def tick(self) -> None:
        """Start it, if it is time to; end one that takes too long."""
        now = self._clock()
        if self._process is not None:
            if self._process.poll() is not None:
                self._process = None
            elif now - self._started >= _LONGEST:
                log.event(logger, WARNING, "flood-notify does not end", pid=self._process.pid)
                self._process.kill()
        if self._process is None and now - self._started >= self._every:
            self._started = now
            self._lock.hold()
            self._start()

    def stop(self) -> None:
        """End it, in order if it can be."""
        self._lock.release()
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            try:
                self._process.wait(_GRACE)
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def _start(self) -> None:
        try:
            # A session of its own, so that Ctrl-C reaches it only through flood-watch.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE],
                env={**self._environ, **parent.told()},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._refused = False
        except OSError as error:
            if not self._refused:
                self._refused = True
                log.event(
                    logger,
                    WARNING,
                    "cannot start flood-notify",
                    reason=error.strerror,
                    next="tried again, but nobody is told until then",
                )
