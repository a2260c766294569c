"""Waits until files that were put are uploaded or have failed."""

from collections.abc import Callable, Mapping
from typing import Final

from flood import models, queries
from flood.errors import FloodError
from flood.put_plan import Stopped
from flood.states import COMPLETED, FAILED

_FIRST_LOOK: Final = 0.1
_LONGEST: Final = 1.0

#: Between two looks whether flood-watch runs, in seconds.
_WATCH_LOOK: Final = 5.0


class Wait:
    """One wait. `clock` is monotonic seconds; `pause` waits for so many seconds or until the stop;
    `watching` answers whether flood-watch runs; `advance` is told how many files were settled,
    `problem` why one failed, `notice` what else is to be known."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        stopping: Callable[[], bool],
        watching: Callable[[], bool],
        advance: Callable[[int], None],
        problem: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._stopping = stopping
        self._watching = watching
        self._advance = advance
        self._problem = problem
        self._notice = notice
        self._next_watch_look = 0.0
        self._was_watching = True

    def run(self, records: Mapping[int, str]) -> int:
        """Return when each of these records, given with its destination in words, is settled; how
        many of them failed. Raises Stopped, FloodError."""
        waiting = dict(records)
        failed = 0
        step = _FIRST_LOOK
        while waiting:
            settled = self._settled(waiting)
            for record, reason in settled.items():
                if reason is not None:
                    failed += 1
                    self._problem(f"{waiting[record]}: {reason}")
                del waiting[record]
            self._advance(len(settled))
            if not waiting:
                break
            self._look_for_watch()
            step = _FIRST_LOOK if settled else min(_LONGEST, step * 1.3)
            self._pause(step)
            if self._stopping():
                raise Stopped
        return failed

    def _settled(self, waiting: Mapping[int, str]) -> dict[int, str | None]:
        """The records that have come to an end, with why they failed."""
        try:
            outcomes = queries.outcomes(list(waiting))
        except models.DatabaseError as error:
            raise FloodError(
                f"cannot read the database any more ({error}); the files are safe, but how their "
                "uploads end is not known here"
            ) from error
        settled: dict[int, str | None] = {}
        for record in waiting:
            if record not in outcomes:
                settled[record] = "its record was deleted, so that its outcome is not known"
                continue
            state, code, message = outcomes[record]
            if state == COMPLETED:
                settled[record] = None
            elif state == FAILED:
                settled[record] = f"{message or 'it failed'} ({code or 'no reason'})"
        return settled

    def _look_for_watch(self) -> None:
        now = self._clock()
        if now < self._next_watch_look:
            return
        self._next_watch_look = now + _WATCH_LOOK
        watching = self._watching()
        if self._was_watching and not watching:
            self._notice("flood-watch is not running: the files wait until it is started")
        self._was_watching = watching
