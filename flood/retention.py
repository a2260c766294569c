"""Deletes what the owner of the spool does not want to keep any longer."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import departures, leaps, log, models
from flood.departures import START, Mark
from flood.hollow import REST, hollow
from flood.leaps import Running
from flood.removal import BATCH, Pruned, Removal, earlier
from flood.spool import Spool
from flood.states import COMPLETED, FAILED

#: How many records one transaction deletes.
_FORGET: Final = 500

#: How often all directories are looked at, in seconds.
_LOOK_ROUND: Final = 3600.0

#: What the log says of a file that cannot be deleted.
CANNOT_REMOVE: Final = "cannot remove"


logger = getLogger(__name__)


@dataclass(frozen=True)
class Keeping:
    """For how long, in seconds, what has ended is kept: files in completed, files in failed, the
    records of files that are in neither. None: for ever."""

    completed: float | None
    failed: float | None
    records: float | None


class Retention:
    """What the owner wants to keep of one spool with its `database`. `now` answers aware times,
    `clock` monotonic seconds; `stopping` tells that whoever asks is to end; `told` is shown each
    path that is deleted, directories with a slash; `running` answers for how long the machine has
    been.

    What it does raises SpoolError while the spool is away, what the database raises, OSError.
    """

    def __init__(
        self,
        spool: Spool,
        database: str,
        keep: Keeping,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        stopping: Callable[[], bool],
        told: Callable[[str], None] = lambda _path: None,
        running: Callable[[], Running] = leaps.running,
    ) -> None:
        self._spool = spool
        self._keep = {COMPLETED: keep.completed, FAILED: keep.failed}
        self._keep_records = keep.records
        self._removal = Removal(
            spool, database, self._keep, keep.records, now=now, spare=self._spare, told=told
        )
        self._now = now
        self._clock = clock
        self._stopping = stopping
        self._told = told
        self._running = running
        # Where the last run ended, as what has to stay must not be in the way of the rest.
        self._marks: dict[str, Mark] = {}
        # The look at the directories, with the path where it stopped.
        self._look: tuple[str, Iterator[tuple[str, bool]]] | None = None
        # Two workers of one consumer can sweep at the same time, as at the start of another one.
        self._at_work = threading.Lock()
        self._trouble: set[str] = set()

    @property
    def at_once(self) -> bool:
        """Whether files go right after their upload was proven."""
        return self._keep[COMPLETED] == 0

    def remove(self, ids: Sequence[int]) -> None:
        """Delete the files of those records among `ids` that are proven, and whose time is over."""
        pruned = Pruned()
        lying = departures.completed(ids)
        for start in range(0, len(lying), BATCH):
            self._removal.take(COMPLETED, lying[start : start + BATCH], pruned)

    def run(
        self, seconds: float, *, directories: bool = False, pruned: Pruned | None = None
    ) -> Pruned:
        """Delete what is due, for so long at most; what is left is for the next run, of whatever
        process. Empty directories are looked for once an hour, with `directories` in any case,
        from the beginning. Does nothing while another thread is at it. Who wants to know what was
        done before something is raised passes `pruned`."""
        pruned = pruned or Pruned()
        if not self._at_work.acquire(blocking=False):
            return pruned
        try:
            self._run(self._clock() + seconds, directories, pruned)
        finally:
            self._at_work.release()
        return pruned

    def _run(self, until: float, directories: bool, pruned: Pruned) -> None:
        # Also where nothing is deleted: somebody may want that later.
        leaps.note(self._now(), self._running)
        for state in (COMPLETED, FAILED):
            horizon = self._horizon(state)
            if horizon is not None:
                self._files(state, horizon, until, pruned)
        self._records(until, pruned)
        self._hollow(until, directories, pruned)
        self._tell(pruned)

    def due(self) -> bool:
        """Whether it is time for a run: what is kept for so long only has been, or the directories
        are to be looked at. A few questions to the tables, which change nothing."""
        now = self._now()
        if leaps.look(now, self._running)[1]:
            return True
        for state, keep in self._keep.items():
            if keep is not None and departures.lying(state, START, earlier(now, keep), 1):
                return True
        keep = self._keep_records
        if keep is not None and any(map(departures.past, _without_files(earlier(now, keep)))):
            return True
        return departures.prune_is_due(now, _LOOK_ROUND)

    def foresee(self) -> Pruned:
        """What a run without end would delete now, as far as it comes before a stop; nothing is
        changed. Raises OperationalError where that ends a question."""
        pruned = Pruned()
        leaving: list[int] = []
        for state in (COMPLETED, FAILED):
            horizon = self._horizon(state)
            mark = START
            while horizon and (page := departures.lying(state, mark, horizon, BATCH)):
                if self._stopping():
                    return pruned
                mark = page[-1].mark
                with self._removal.looked(state, page, pruned) as (due, missing):
                    for one in due:
                        self._removal.count(state, one, pruned)
                leaving += [one.lying.row.id for one in due] + [one.row.id for one in missing]
        now = self._now()
        if self._keep_records is not None:
            with models.reading():
                pruned.records = departures.past_without(leaving, earlier(now, self._keep_records))
        for path, gone in hollow(self._spool, self._rested(), dry=True):
            if gone:
                self._told(f"{path}/")
                pruned.directories += 1
            if self._stopping():
                break
        return pruned

    def _spare(self, now: datetime) -> str | None:
        """Delete nothing of failed, which no store has, for an age that only a wrong clock gives
        it: it stays for as long as it would have from when the clock was set."""
        keep = self._keep[FAILED]
        if keep is None:
            return None
        seen, _ = leaps.look(now, self._running)
        return leaps.told(seen) if seen.last_set > earlier(now, keep) else None

    # --- files ----------------------------------------------------------------------------------

    def _horizon(self, state: str) -> datetime | None:
        """What was settled by then is looked at; None if nothing of this state is."""
        now = self._now()
        # Whoever moves a file out of failed by hand does not tell, but people ask what lies there.
        limits = [0.0 if state == FAILED else None, self._keep[state], self._keep_records]
        known = [limit for limit in limits if limit is not None]
        return earlier(now, min(known)) if known else None

    def _files(self, state: str, horizon: datetime, until: float, pruned: Pruned) -> None:
        while not self._over(until):
            mark = self._marks.get(state, START)
            page = departures.lying(state, mark, horizon, BATCH)
            if not page:
                self._marks.pop(state, None)
                return
            self._marks[state] = page[-1].mark
            self._removal.take(state, page, pruned)

    # --- records --------------------------------------------------------------------------------

    def _records(self, until: float, pruned: Pruned) -> None:
        if self._keep_records is None:
            return
        deleted = 0
        for page in _without_files(earlier(self._now(), self._keep_records)):
            if self._over(until):
                break
            past = departures.past(page)
            if past:  # or no writer has to wait for the look
                with models.write():
                    past = departures.past(past)
                    departures.forget(past)
                deleted += len(past)
        pruned.records += deleted
        if deleted:
            log.event(logger, INFO, "records deleted", records=deleted)

    # --- directories ----------------------------------------------------------------------------

    def _hollow(self, until: float, anew: bool, pruned: Pruned) -> None:
        with models.write():
            mark = departures.prune_mark()
            if mark is None and departures.prune_begins(self._now(), _LOOK_ROUND):
                mark = ""
        if mark is None and not anew:
            return
        after = "" if anew or mark is None else mark
        if self._look is None or self._look[0] != after or anew:
            # Another process has come further, or the one that began is gone.
            self._look = after, hollow(self._spool, self._rested(), after=after)
        stopped = None
        for path, gone in self._look[1]:
            if gone:
                pruned.directories += 1
                self._told(f"{path}/")
            if self._over(until):
                stopped = path
                break
        self._look = None if stopped is None else (stopped, self._look[1])
        self._spool.check_present()  # where it is away there is nothing to look at, either
        if mark is not None:
            with models.write():
                departures.prune_stops(mark, stopped)

    def _rested(self) -> float:
        """By what time directories of incoming have rested, in seconds since the epoch. A clock
        that was set since cannot tell of any that it has."""
        now = self._now()
        seen, _ = leaps.look(now, self._running)
        return now.timestamp() if seen.last_set <= earlier(now, REST) else -math.inf

    def _over(self, until: float) -> bool:
        return self._stopping() or self._clock() >= until

    def _tell(self, pruned: Pruned) -> None:
        """Say what cannot be deleted, once for each reason as long as that is so."""
        reasons = {reason for _, reason in pruned.failed}
        for path, reason in pruned.failed:
            if reason not in self._trouble:
                self._trouble.add(reason)
                log.event(
                    logger,
                    WARNING,
                    CANNOT_REMOVE,
                    path=path,
                    reason=reason,
                    files=len(pruned.failed),
                    next="tried again with each sweep",
                )
        self._trouble &= reasons


def _without_files(before: datetime) -> Iterator[list[int]]:
    """Pages of the settled records by then (aware) whose files have left."""
    mark = START
    while page := departures.without_files(mark, before, _FORGET):
        yield [record_id for _, record_id in page]
        mark = page[-1]
