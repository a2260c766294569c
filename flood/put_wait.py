"""Waits until files that were put are uploaded or have failed."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from flood import models, queries, story
from flood.advice import Advice
from flood.errors import FloodError, SpoolError
from flood.layout import Place
from flood.put_plan import Stopped
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, PROCESSING

_FIRST_LOOK: Final = 0.1
_LONGEST: Final = 1.0

#: Between two looks whether anybody is at work, in seconds; before the first one less, but enough
#: for consumers that are just being started.
_LOOK_ROUND: Final = 5.0
_LOOK_FIRST: Final = 3.0

#: For how long no file was settled before a notice tells what the first one waits for, in seconds.
_LONG: Final = 10.0

#: For how long a file is due before it is odd that no worker takes it.
_OVERDUE: Final = timedelta(minutes=1)


class Wait:
    """One wait. `clock` is monotonic seconds; `pause` waits for so many seconds or until the stop;
    `idle` answers why nobody is at work on the files, `held_up` what the file of one record waits
    for, each None if there is nothing to tell; `advance` is told how many files were settled,
    `problem` why one failed, `notice` what else is to be known."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        stopping: Callable[[], bool],
        idle: Callable[[], str | None],
        held_up: Callable[[int], str | None],
        advance: Callable[[int], None],
        problem: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._stopping = stopping
        self._idle = idle
        self._held_up = held_up
        self._advance = advance
        self._problem = problem
        self._notice = notice
        self._moved = clock()
        self._next_look = self._moved + _LOOK_FIRST
        self._told: str | None = None

    def run(self, records: Mapping[int, str]) -> int:
        """Return when each of these records, given with its destination in words, is settled; how
        many of them failed. Raises Stopped, which tells what becomes of the others; FloodError."""
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
            if settled:
                self._moved = self._clock()
            first = next(iter(waiting))
            self._look_round(first, waiting[first])
            step = _FIRST_LOOK if settled else min(_LONGEST, step * 1.3)
            self._pause(step)
            if self._stopping():
                why = self._why(first, waiting[first])
                raise Stopped(
                    "the files are safe in the spool, their upload goes on"
                    if why is None
                    else f"the files are safe in the spool; {why}"
                )
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

    def _look_round(self, first: int, where: str) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_ROUND
        # What has just moved may be on its way yet.
        why = self._idle() if now - self._moved < _LONG else self._why(first, where)
        if why is not None and why != self._told:
            self._notice(why)
        self._told = why

    def _why(self, first: int, where: str) -> str | None:
        """Why nothing goes on, as far as anybody can tell."""
        idle = self._idle()
        if idle is not None:
            return idle
        held_up = self._held_up(first)
        return None if held_up is None else f"{where}: {held_up}"


def held_up(
    spool: Spool,
    place: Place,
    record_id: int,
    ignore: Sequence[str],
    advice: Advice,
    *,
    now: Callable[[], datetime],
) -> str | None:
    """What the file of this record, of the key at `place`, waits for, as its story tells; None if a
    worker is at it or will soon be, or nobody can tell."""
    try:
        told = story.tell(spool, place, ignore, advice, now=now)
    except (models.DatabaseError, SpoolError, OSError):
        return None  # whoever waits for the records tells of that
    for chapter in told.chapters:
        record = chapter.record
        if record.id != record_id or record.owner is not None or record.settled is not None:
            continue
        turn = record.due is not None and timedelta() <= told.at - record.due < _OVERDUE
        return None if record.state == PROCESSING and turn else chapter.next
    return None
