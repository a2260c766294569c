"""Takes in what waits in the spool, without following what arrives."""

from collections.abc import Callable, Iterator
from itertools import islice
from logging import DEBUG, INFO, getLogger
from typing import Final

from flood import log
from flood.door import STANDSTILL, Candidate, Why
from flood.identity import Identity
from flood.intake import BATCH, Intake
from flood.spool import Spool
from flood.states import INCOMING, PROCESSING
from flood.walk import Found, Oddity

#: How many files may stand still at a time; what is more of them waits for its turn.
CAPACITY: Final = 20_000

logger = getLogger(__name__)


class Once:
    """One look at processing, then at incoming.

    `check` raises SpoolError or NoRoomError while nothing may be taken in; `pause` waits for so
    many seconds, or until `stopping`.
    """

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        *,
        check: Callable[[], None],
        pause: Callable[[float], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._spool = spool
        self._intake = intake
        self._check = check
        self._pause = pause
        self._stopping = stopping
        #: Files that nobody can probe, each with what it was at the first look.
        self._standing: list[tuple[Candidate, Identity | None]] = []
        self.taken = 0
        self.waiting = 0

    def run(self) -> None:
        """Take in what can be taken, or what could be until the stop.

        Whatever refuses a batch is raised: FloodError, DatabaseError, OSError. Files are then where
        the next run finds them.
        """
        for batch in self._batches(PROCESSING):
            self.taken += self._intake.take_up(batch)
        for batch in self._batches(INCOMING):
            self._admit([(Candidate(each.path, ahead=True), None) for each in batch], again=False)
            if len(self._standing) >= CAPACITY:
                self._look_again()
        self._look_again()
        log.event(logger, INFO, "taken in", files=self.taken, waiting=self.waiting)

    def _batches(self, directory: str) -> Iterator[list[Found]]:
        found = self._files(directory)
        while not self._stopping() and (batch := list(islice(found, BATCH))):
            yield batch

    def _files(self, directory: str) -> Iterator[Found]:
        for found in self._spool.walk(directory):
            if isinstance(found, Found):
                yield found
            elif directory == PROCESSING:
                self._intake.turn_away(found)
            elif not self._ignored(found):
                self._intake.door.leave(found.path, found.reason)

    def _ignored(self, found: Oddity) -> bool:
        door = self._intake.door
        return door.ignores_all_in(found.path) if found.unreadable else door.ignores(found.path)

    def _admit(self, batch: list[tuple[Candidate, Identity | None]], *, again: bool) -> None:
        self._check()
        result = self._intake.admit(batch)
        self.taken += result.admitted
        for candidate, why, identity in result.later:
            if why is Why.STANDSTILL and not again:
                self._standing.append((candidate, identity))
                continue
            self.waiting += 1
            if why is Why.OCCUPIED:
                self._intake.door.tell_of_oddity(candidate.path)
            level = DEBUG if why is Why.WRITING else INFO
            log.event(logger, level, "waits", path=candidate.path, reason=why.value)

    def _look_again(self) -> None:
        """Take the files that have stood still since they were looked at."""
        standing, self._standing = self._standing, []
        if standing:
            self._pause(STANDSTILL)
        for start in range(0, len(standing), BATCH):
            if self._stopping():
                return
            self._admit(standing[start : start + BATCH], again=True)
