"""Notices that nobody uploads what was taken in."""

from collections.abc import Callable, Sequence
from datetime import datetime
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import due_queries, log, models, stall

#: Between two looks, in seconds.
LOOK: Final = 5.0

#: How long consumers may be away before it is told, in seconds: they are restarted now and then,
#: those of flood-watch come up after it.
PATIENCE: Final = 30.0

#: How long consumers must seem to take nothing: on a machine that slept all of them do, until the
#: next sweep, which is due within a minute.
STALLED: Final = 65.0

logger = getLogger(__name__)


class Attendance:
    """Tells the log once that files are due while no consumer runs, or those that run take nothing,
    and once that one is back.

    `consuming` answers whether any runs, `starting` whether one is at its start, `halted` which
    processes those are if all of them are stopped, `stalled` which processes take nothing, as
    `stall.look`; `start` is what starts one; `own` is how many this flood-watch starts by itself.
    `now` answers aware times, `clock` monotonic seconds.
    """

    def __init__(
        self,
        consuming: Callable[[], bool],
        start: str,
        *,
        own: int,
        starting: Callable[[], bool],
        halted: Callable[[], Sequence[int]],
        stalled: Callable[[datetime], Sequence[int]],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._consuming = consuming
        self._starting = starting
        self._halted = halted
        self._stalled = stalled
        self._start = start
        self._own = own
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
        try:
            self._look(now)
        except models.DatabaseError:
            return  # the loop of flood-watch tells of that

    def _look(self, now: float) -> None:
        runs = self._consuming()
        processes = self._stalled(self._now()) if runs else ()
        if runs and not processes:
            self._seen = now
            if self._told:
                self._told = False
                log.event(logger, INFO, "consumers are back")
            return
        if self._told or now - self._seen < (STALLED if runs else PATIENCE):
            return
        if runs:
            self._tell(f"files are due, yet {stall.WHY}", stall.remedy(processes))
        elif due_queries.anything(self._now()):
            self._tell(*self._missing())

    def _missing(self) -> tuple[str, str]:
        """Why nobody takes them, what to do about it."""
        halted = self._halted()
        if halted:
            again = f"to let them go on: {stall.go_on(halted)}"
            return "files are due, and all consumers are stopped at their start", again
        if self._starting():
            return "files are due, and no consumer takes them yet", stall.STARTING
        # One that waits there may have found no room for its lock.
        waits = "'cannot start yet'"
        if self._own:
            count = "the consumer" if self._own == 1 else f"none of the {self._own} consumers"
            verb = "has not come up" if self._own == 1 else "has come up"
            return (
                f"files are due, and {count} of this flood-watch {verb}",
                f"the log says what keeps them, as {waits} or 'consumer died'",
            )
        return (
            "files are due, and no consumer has come up to upload them",
            f"a consumer that waits at its start says {waits}; if there is none, start "
            f"{self._start}",
        )

    def _tell(self, reason: str, advice: str) -> None:
        self._told = True
        log.event(
            logger, WARNING, "no consumer takes tasks", reason=reason, next=f"they wait: {advice}"
        )
