"""Waits until files that were put are uploaded or have failed."""

from collections.abc import Callable, Mapping
from typing import Final

from flood import models, queries
from flood.errors import FloodError
from flood.put_plan import Stopped
from flood.states import COMPLETED, FAILED

_FIRST_LOOK: Final = 0.1
_LONGEST: Final = 1.0

#: Between two looks whether anybody is at work, in seconds; before the first one less, but enough
#: for consumers that are just being started.
_LOOK_ROUND: Final = 5.0
_LOOK_FIRST: Final = 3.0


class Wait:
    """One wait. `clock` is monotonic seconds; `pause` waits for so many seconds or until the stop;
    `idle` answers why nobody is at work on the files, or None; `advance` is told how many files
    were settled, `problem` why one failed, `notice` what else is to be known."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        stopping: Callable[[], bool],
        idle: Callable[[], str | None],
        advance: Callable[[int], None],
        problem: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._stopping = stopping
        self._idle = idle
        self._advance = advance
        self._problem = problem
        self._notice = notice
        self._next_look = clock() + _LOOK_FIRST
        self._told: str | None = None

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
            self._look_round()
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

    def _look_round(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_ROUND
        idle = self._idle()
        if idle is not None and idle != self._told:
            self._notice(idle)
        self._told = idle
