"""Consumer processes as children of flood-watch."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import log, parent

#: Worker threads of each consumer: while one is at a large file, the other takes small ones.
WORKERS: Final = 2

#: A child that lived so long, in seconds, is started again at once.
STEADY: Final = 60.0
_LONGEST_PAUSE: Final = 60.0

#: What a child runs. Python has put the current directory first on the path, from where anybody's
#: random.py would be run; huey would add it, and try again, if the import failed.
_CODE: Final = """\
import sys; sys.path[:] = filter(None, sys.path)
import flood.tasks
from huey.bin.huey_consumer import consumer_main; consumer_main()
"""

#: What is sent to end a consumer, with how long it has for it, in seconds. SIGTERM lets it end in
#: order, in less than ten seconds; one that is just being imported it ends at once, where SIGINT
#: would have it print a traceback.
_STOPPING: Final = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0))

logger = getLogger(__name__)


@dataclass
class _Child:
    process: "subprocess.Popen[bytes] | None"
    started: float
    pause: float


class Consumers:
    """`count` consumers with the environment `environ`; `clock` is monotonic seconds."""

    def __init__(
        self, count: int, environ: Mapping[str, str], *, clock: Callable[[], float]
    ) -> None:
        self._environ = dict(environ)
        self._clock = clock
        self._children = [_Child(None, 0.0, 0.0) for _ in range(count)]
        self._refused = False

    def start(self) -> None:
        """Start every consumer; one that the system refuses is left to `tick`."""
        for child in self._children:
            self._start(child)

    def tick(self) -> None:
        """Start again what has died, after a pause that doubles while it keeps dying."""
        now = self._clock()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                lived = now - child.started
                child.pause = 0.0 if lived >= STEADY else _longer(child.pause)
                log.event(
                    logger,
                    WARNING,
                    "consumer died",
                    pid=child.process.pid,
                    status=child.process.returncode,
                    again_in=child.pause,
                )
                child.process = None
                child.started = now + child.pause
            if child.process is None and now >= child.started:
                self._start(child)

    def stop(self) -> None:
        """End every consumer, in order if it can be."""
        running = [child.process for child in self._children if child.process is not None]
        for number, seconds in _STOPPING:
            running = [process for process in running if process.poll() is None]
            for process in running:
                process.send_signal(number)
            deadline = self._clock() + seconds
            for process in running:
                try:
                    process.wait(max(0.0, deadline - self._clock()))
                except subprocess.TimeoutExpired:
                    log.event(
                        logger, WARNING, "consumer does not end", pid=process.pid, signal=number
                    )
        for child in self._children:
            child.process = None

    def _start(self, child: _Child) -> None:
        command = [
            *(sys.executable, "-c", _CODE, "flood.tasks.huey"),
            *("--workers", str(WORKERS)),
        ]
        try:
            # A session of its own, so that Ctrl-C reaches a consumer only through flood-watch.
            child.process = subprocess.Popen(
                command,
                env={**self._environ, **parent.told()},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            child.pause = _longer(child.pause)
            child.started = self._clock() + child.pause
            self._tell_refused(error)
            return
        self._refused = False
        child.started = self._clock()
        log.event(logger, INFO, "consumer started", pid=child.process.pid)

    def _tell_refused(self, error: OSError) -> None:
        """Say once that the system starts no process, as without memory or descriptors."""
        if not self._refused:
            self._refused = True
            log.event(
                logger,
                WARNING,
                "cannot start a consumer",
                reason=error.strerror,
                next="tried again, at growing intervals up to a minute",
            )


def _longer(pause: float) -> float:
    return min(max(1.0, pause * 2), _LONGEST_PAUSE)
