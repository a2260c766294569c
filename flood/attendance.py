"""Notices that nobody uploads what was taken in."""

from collections.abc import Callable
from datetime import datetime
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import log, models, queries

#: Between two looks, in seconds.
LOOK: Final = 5.0

#: How long consumers may be away before it is told, in seconds: they are restarted now and then,
#: those of flood-watch come up after it.
PATIENCE: Final = 30.0

logger = getLogger(__name__)


class Attendance:
    """Tells the log once that files are due while no consumer runs, and once that one is back.

    `consuming` answers whether any runs; `start` is the command that starts one; `now` answers
    aware times, `clock` monotonic seconds.
    """

    def __init__(
        self,
        consuming: Callable[[], bool],
        start: str,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._consuming = consuming
        self._start = start
        self._now = now
        self._clock = clock
        self._seen = self._next_look = clock()
        self._told = False

    def tick(self) -> None:
        """Look, if it is time to."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        if self._consuming():
            self._seen = now
            if self._told:
                self._told = False
                log.event(logger, INFO, "consumers are back")
        elif not self._told and now - self._seen >= PATIENCE and self._due():
            self._told = True
            log.event(
                logger,
                WARNING,
                "no consumer takes tasks",
                reason="files are due, and nobody is there to upload them",
                next=f"they wait: start {self._start}",
            )

    def _due(self) -> bool:
        try:
            return queries.any_due(self._now())
        except models.DatabaseError:
            return False  # the loop of flood-watch tells of that
