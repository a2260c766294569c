"""Deletes what the owner of the spool does not want to keep any longer."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import departures, layout, log, models
from flood.columns import utc_text
from flood.departures import GONE, REMOVED, START, Lying, Mark
from flood.hollow import hollow
from flood.identity import Identity
from flood.record_values import Row
from flood.spool import NotRegular, Spool, Vanished, flush_database
from flood.states import COMPLETED, FAILED

#: How many files one transaction takes, each with a descriptor; other writers wait meanwhile.
BATCH: Final = 100

#: How many records one transaction deletes.
_FORGET: Final = 500

#: How often all directories are looked at, in seconds.
_LOOK_ROUND: Final = 3600.0

#: What the log says of a file that cannot be deleted.
CANNOT_REMOVE: Final = "cannot remove"

_ALTERED: Final = "it is not the file of its record any more"
_UNPROVEN: Final = "its record has no receipt of the store"

logger = getLogger(__name__)


@dataclass(frozen=True)
class Keeping:
    """For how long, in seconds, what has ended is kept: files in completed, files in failed, the
    records of files that are in neither. None: for ever."""

    completed: float | None
    failed: float | None
    records: float | None


@dataclass
class Pruned:
    """What one run has done, or would do."""

    #: Files that were deleted, by state, and their bytes.
    files: dict[str, int] = field(default_factory=lambda: {COMPLETED: 0, FAILED: 0})
    size: int = 0
    #: Files among them whose records could not say so, as on a full disk.
    unnoted: int = 0
    records: int = 0
    directories: int = 0
    #: Files whose time is over, yet stay: each reason with how many there are.
    stay: dict[str, int] = field(default_factory=dict)
    #: Files that could not be deleted, with the reason.
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Due:
    """A file whose time is over, held by its descriptor."""

    lying: Lying
    identity: Identity
    descriptor: int


class Retention:
    """What the owner wants to keep of one spool with its `database`. `now` answers aware times,
    `clock` monotonic seconds; `stopping` tells that whoever asks is to end; `told` is shown each
    path that is deleted, directories with a slash.

    First the row says that the file is settled, with the store's receipt if it is in completed, on
    the disk; then the very file is deleted; then the row says so. Who dies before that leaves a
    row whose file is not there, as somebody else may, at any time: the next run notes that.

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
    ) -> None:
        self._spool = spool
        self._database = database
        self._keep = {COMPLETED: keep.completed, FAILED: keep.failed}
        self._keep_records = keep.records
        self._now = now
        self._clock = clock
        self._stopping = stopping
        self._told = told
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
            self._take(COMPLETED, lying[start : start + BATCH], pruned)

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
        for state, keep in self._keep.items():
            if keep is not None and departures.lying(state, START, _before(now, keep), 1):
                return True
        keep = self._keep_records
        if keep is not None and departures.past(START, _before(now, keep), 1):
            return True
        return departures.prune_is_due(now, _LOOK_ROUND)

    def foresee(self) -> Pruned:
        """What a run without end would delete now; nothing is changed."""
        pruned = Pruned()
        for state in (COMPLETED, FAILED):
            horizon = self._horizon(state)
            mark = START
            while horizon and (page := departures.lying(state, mark, horizon, BATCH)):
                mark = page[-1].mark
                with self._looked(state, page, pruned) as (due, missing):
                    for one in due:
                        self._count(state, one, pruned)
                leaving = [each.lying for each in due] + missing
                late = self._limit(self._keep_records)
                pruned.records += sum(each.settled <= late for each in leaving)
        now = self._now()
        if self._keep_records is not None:
            before = _before(now, self._keep_records)
            mark = START
            while marks := departures.past(mark, before, _FORGET):
                mark = marks[-1]
                pruned.records += len(marks)
        for path, gone in hollow(self._spool, now.timestamp(), dry=True):
            if gone:
                self._told(f"{path}/")
                pruned.directories += 1
        return pruned

    # --- files ----------------------------------------------------------------------------------

    def _horizon(self, state: str) -> datetime | None:
        """What was settled by then is looked at; None if nothing of this state is."""
        now = self._now()
        # Whoever moves a file out of failed by hand does not tell, but people ask what lies there.
        limits = [0.0 if state == FAILED else None, self._keep[state], self._keep_records]
        known = [limit for limit in limits if limit is not None]
        return _before(now, min(known)) if known else None

    def _files(self, state: str, horizon: datetime, until: float, pruned: Pruned) -> None:
        while not self._over(until):
            mark = self._marks.get(state, START)
            page = departures.lying(state, mark, horizon, BATCH)
            if not page:
                self._marks.pop(state, None)
                return
            self._marks[state] = page[-1].mark
            self._take(state, page, pruned)

    def _take(self, state: str, page: Sequence[Lying], pruned: Pruned) -> None:
        with self._looked(state, page, pruned) as (due, missing):
            if due:
                flush_database(self._database)
            if due or missing:
                self._settle(state, due, missing, pruned)

    @contextmanager
    def _looked(
        self, state: str, page: Sequence[Lying], pruned: Pruned
    ) -> Iterator[tuple[list[_Due], list[Lying]]]:
        """Those files of a page whose time is over, each held, and those records whose file is not
        there, which is news."""
        limit, late = self._limit(self._keep[state]), self._limit(self._keep_records)
        due: list[_Due] = []
        missing: list[Lying] = []
        others: list[tuple[Lying, Identity]] = []
        with ExitStack() as stack:
            for one in page:
                if not _came(one, state):
                    missing += [one] if one.settled <= late else []
                    continue
                over = one.settled <= limit
                try:
                    descriptor, identity = self._spool.hold(one.row.path)
                except Vanished:
                    missing.append(one)
                    continue
                except (NotRegular, OSError) as error:
                    if over:
                        reason = getattr(error, "strerror", None) or "it is no regular file"
                        pruned.failed.append((one.row.path, reason))
                    continue
                stack.callback(os.close, descriptor)
                if identity[:2] != one.row.identity[:2]:
                    others.append((one, identity))
                if not over:
                    continue
                if identity != one.row.identity:
                    pruned.stay[_ALTERED] = pruned.stay.get(_ALTERED, 0) + 1
                elif state == COMPLETED and not one.proven:
                    pruned.stay[_UNPROVEN] = pruned.stay.get(_UNPROVEN, 0) + 1
                else:
                    due.append(_Due(one, identity, descriptor))
            missing += self._replaced(state, others, pruned)
            # What a large file occupies is given back as its descriptor is closed: here, where no
            # writer waits for that.
            yield due, missing

    def _limit(self, keep: float | None) -> str:
        """What was settled later than this is kept; everything if nothing is to go."""
        return "" if keep is None else utc_text(_before(self._now(), keep))

    def _replaced(
        self, state: str, others: Sequence[tuple[Lying, Identity]], pruned: Pruned
    ) -> list[Lying]:
        """Those records in whose place another record's file lies by now."""
        owned = departures.inodes([one.row.path for one, _ in others], state)
        found = [one for one, identity in others if identity[:2] in owned.get(one.row.path, ())]
        over = sum(one.settled <= self._limit(self._keep[state]) for one in found)
        if over:
            pruned.stay[_ALTERED] -= over
        return found

    def _settle(
        self, state: str, due: Sequence[_Due], missing: Sequence[Lying], pruned: Pruned
    ) -> None:
        removed: list[_Due] = []
        try:
            self._discard(state, due, missing, removed, pruned)
        except Exception as error:
            self._removed(state, removed, pruned)
            if removed:
                pruned.unnoted += len(removed)
                log.event(
                    logger,
                    WARNING,
                    "not recorded",
                    files=len(removed),
                    reason=f"they are deleted, but {models.explain(error)}",
                    next="the next run finds them gone, and notes it",
                )
            raise
        self._removed(state, removed, pruned)

    def _discard(
        self,
        state: str,
        due: Sequence[_Due],
        missing: Sequence[Lying],
        removed: list[_Due],
        pruned: Pruned,
    ) -> None:
        """Delete what is due, and note what has left; `removed` gets what is deleted, whether the
        rows can be written or not."""
        with models.write():
            ids = [each.lying.row.id for each in due] + [each.row.id for each in missing]
            still = departures.still(ids)
            self._spool.check_present()
            gone = [
                each.row.id
                for each in missing
                if each.row.id in still and self._absent(each.row, state)
            ]
            # On a disk that was away for a moment nothing was found, which says nothing.
            self._spool.check_present()
            for each in due:
                path = each.lying.row.path
                if each.lying.row.id not in still:
                    continue
                try:
                    self._spool.discard(path, each.descriptor, each.identity)
                except Vanished:
                    continue  # the next run sees what is there now
                except OSError as error:
                    pruned.failed.append((path, error.strerror or str(error)))
                    continue
                removed.append(each)
            now = self._now()
            departures.leave([each.lying.row.id for each in removed], REMOVED, now)
            departures.leave(gone, GONE, now)

    def _removed(self, state: str, removed: Sequence[_Due], pruned: Pruned) -> None:
        for each in removed:
            self._spool.prune(each.lying.row.path)
            self._count(state, each, pruned)
            row = each.lying.row
            log.event(
                logger,
                INFO,
                "removed",
                record=row.id,
                profile=row.profile,
                bucket=row.bucket,
                key=row.key,
                from_=state,
                size=row.identity.size,
            )

    def _absent(self, row: Row, state: str) -> bool:
        if not row.path.startswith(f"{state}/"):
            return True
        found = self._spool.identify(row.path)
        if found is None:
            return not self._spool.exists(row.path)
        return found[:2] != row.identity[:2]

    def _count(self, state: str, each: _Due, pruned: Pruned) -> None:
        pruned.files[state] += 1
        pruned.size += each.identity.size
        self._told(each.lying.row.path)

    # --- records --------------------------------------------------------------------------------

    def _records(self, until: float, pruned: Pruned) -> None:
        if self._keep_records is None:
            return
        before = _before(self._now(), self._keep_records)
        mark = START
        deleted = 0
        while not self._over(until):
            with models.write():
                marks = departures.past(mark, before, _FORGET)
                departures.forget([record_id for _, record_id in marks])
            deleted += len(marks)
            if len(marks) < _FORGET:
                break
            mark = marks[-1]
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
            self._look = after, hollow(self._spool, self._now().timestamp(), after=after)
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


def _came(one: Lying, state: str) -> bool:
    """Whether its file ever came where its state says: what vanished before has its last path."""
    place = layout.parse(one.row.path)
    return place is not None and place.state == state


def _before(now: datetime, seconds: float) -> datetime:
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:  # the clock is in the first century
        return datetime.min.replace(tzinfo=timezone.utc)
