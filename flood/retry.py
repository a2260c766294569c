"""Puts failed files back, or makes due what waits for its retry."""

import errno
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from logging import WARNING, getLogger
from typing import Final, Literal

from flood import departures, log, models, queries, read_only, records, syscalls, users
from flood.errors import SpoolError
from flood.intake import Enqueue, arrival_of, tasks_of, tell_admitted
from flood.layout import Place
from flood.record_values import Arrival, Row
from flood.retry_choice import Chosen, still_failed, still_unclaimed
from flood.spool import Occupied, Spool
from flood.states import FAILED, INCOMING, PROCESSING
from flood.tree import Vanished
from flood.versions import Newest

#: How many files one transaction puts back; other writers wait meanwhile.
BATCH: Final = 200

#: What becomes of a record: it is retried, or was due already; a newer version of its key goes back
#: with this very run, or is under way or completed; another one may be newer, which nobody knows;
#: its place in processing is taken; nothing lies in failed any more; its file never came there, yet
#: a newer version has one; the file cannot be moved.
Fate = Literal[
    "retried",
    "due",
    "outdated",
    "superseded",
    "unordered",
    "occupied",
    "gone",
    "overtaken",
    "error",
]

GONE: Final = (
    "it is not there any more; if it was renamed or moved, move it to incoming, where flood-watch "
    "takes it as a new file"
)

_RIGHTS: Final = "flood's user needs all rights to it, and flood-check says how he gets them"

#: What a person does about a move that is refused.
_REMEDIES: Final = {
    errno.EACCES: f": {_RIGHTS}",
    errno.EPERM: f": {users.NOT_PERMITTED}",
    errno.EROFS: f": {read_only.ADVICE}",
}

logger = getLogger(__name__)


@dataclass(frozen=True)
class Retried:
    """What has become of one record, or would: why it was left, in words, or which record it goes
    on with."""

    chosen: Chosen
    fate: Fate
    reason: str | None = None
    successor: int | None = None


class Retry:
    """Retries records of one spool. With `overwrite` an old version may go over a newer one;
    `large` is the size in bytes from which on a file gets a task of its own; `enqueue` enqueues a
    task for records, `ring` one for whatever is due; `now` answers aware times.

    Each call is one transaction of at most BATCH records. Raises SpoolError while the spool is
    away, what the database raises: the files that were moved have gone back to failed then. One
    that could not lies in processing without a record, where flood-watch finds it.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        overwrite: bool,
        large: int,
        enqueue: Enqueue,
        ring: Callable[[str, str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._spool = spool
        self._overwrite = overwrite
        self._large = large
        self._enqueue = enqueue
        self._ring = ring
        self._now = now
        #: Keys, with profile and bucket, of which this run has put a version back.
        self._going: set[tuple[str, str, str]] = set()
        #: What each call asks of the versions of keys.
        self._newest = Newest()
        #: Profiles with buckets for whose due files this run has rung.
        self._rung: set[tuple[str, str]] = set()

    def foresee(self, ids: Sequence[int]) -> list[Retried]:
        """What `put_back` would do with each of these records, without doing it."""
        done = []
        self._newest = Newest()
        for one in _newest(ids):
            obstacle = self._obstacle(one)
            if obstacle is None:
                self._going.add(_key(one))
            done.append(obstacle or Retried(one, "retried"))
        return done

    def put_back(self, ids: Sequence[int]) -> list[Retried]:
        """Move the files of these failed records to processing, each with a new record: file first,
        row second, task third, as whoever admits files does."""
        births = {
            one.row.id: syscalls.birth_time(self._spool.absolute(one.row.path))
            for one in _newest(ids)
        }
        done: list[Retried] = []
        moved: list[tuple[Chosen, Arrival]] = []
        try:
            with models.write():
                self._spool.check_present()
                self._newest = Newest()
                for one in _newest(ids):
                    obstacle = self._obstacle(one)
                    if obstacle is None:
                        obstacle = self._move(one, births.get(one.row.id), moved)
                    if obstacle is not None:
                        done.append(obstacle)
                now = self._now()
                arrivals = [arrival for _, arrival in moved]
                new = records.admit(arrivals, now)
                for (one, _), successor in zip(moved, new, strict=True):
                    departures.retried(one.row.id, successor, now)
                for task in tasks_of(arrivals, new, self._large):
                    self._enqueue(*task)
        except Exception:
            if moved:
                self._undo(moved)
            raise
        for (one, arrival), successor in zip(moved, new, strict=True):
            self._spool.prune(one.row.path)
            tell_admitted(arrival, successor, FAILED)
            done.append(Retried(one, "retried", None, successor))
        return done

    def foresee_haste(self, ids: Sequence[int]) -> list[Retried]:
        """What `hasten` would do with each of these records, without doing it."""
        return _hastened(*still_unclaimed(ids, self._now()))

    def hasten(self, ids: Sequence[int]) -> list[Retried]:
        """Make those of these records due that wait for their retry, and ring for them; what a
        store has asked to wait does not wait any longer, either. That holds up also what is due."""
        waiting, due = still_unclaimed(ids, self._now())
        if not waiting and _destinations(due) <= self._rung:
            return _hastened(waiting, due)  # a backlog, for which nobody need be kept waiting
        with models.write():
            now = self._now()
            waiting, due = still_unclaimed(ids, now)
            waiting = [one for one in waiting if records.due(one.row.id, now)]
            if waiting or due:
                queries.hasten(now)
            # One ring takes all that is due.
            ready = _destinations(due) - self._rung
            for profile, bucket in sorted(_destinations(waiting) | ready):
                self._ring(profile, bucket)
            self._rung |= ready
        return _hastened(waiting, due)

    def _undo(self, moved: Sequence[tuple[Chosen, Arrival]]) -> None:
        """Move files back to failed whose transaction broke off; which of them stay is told."""
        paths = [arrival.path for _, arrival in moved]
        taken: Collection[str] = ()
        with suppress(models.DatabaseError, SpoolError, OSError), models.write():
            self._spool.check_present()
            # Between the two transactions flood-watch may have taken them in.
            taken = queries.at_paths(paths, PROCESSING)
            for one, arrival in moved:
                found = self._spool.identify(arrival.path)
                if arrival.path in taken or found is None or found[:2] != arrival.identity[:2]:
                    continue
                with suppress(Vanished, Occupied, OSError):
                    self._spool.move(arrival.path, one.row.path)
        for path in paths:
            self._spool.prune(path)
        left = [x for x in paths if x not in taken and self._spool.identify(x) is not None]
        if left:
            log.event(
                logger,
                WARNING,
                "left in processing",
                files=len(left),
                path=left[0],
                next="flood-watch takes in what lies there without a record",
            )

    def _obstacle(self, one: Chosen) -> Retried | None:
        """Why this record's file stays where it is; None if it may go back."""
        row = one.row
        if not row.path.startswith(f"{FAILED}/"):
            return self._without_file(one)
        if departures.latest_at(row.path) != row.id:
            return Retried(one, "gone", "another record's file lies in its place")
        if self._spool.identify(row.path) is None:
            closed = self._spool.closed(row.path)
            if closed is not None:
                return Retried(one, "error", f"this user cannot look into {closed}: {_RIGHTS}")
            going = _place(row.profile, row.bucket, row.key).path
            if self._spool.identify(going) == row.identity:
                told = "it is there already, yet without a record: flood-watch takes it up"
                return Retried(one, "gone", f"{going}: {told}")
            there = self._spool.oddity(row.path)
            told = f"a {there} lies there" if there else GONE
            return Retried(one, "gone", f"{row.path}: {told}")
        place = _place(row.profile, row.bucket, row.key)
        if _key(one) in self._going:
            # Also with `overwrite`: whoever names a key wants one version of it, not all in turn.
            return Retried(one, "outdated", "it is outdated: a newer version goes back")
        if not self._overwrite:
            newer = self._newer(row)
            if newer is not None:
                return Retried(one, "superseded", newer)
            other = self._newest.unordered(row.id)
            if other is not None:
                what = f"record {other.record}, in {other.state}, may be a newer version"
                return Retried(one, "unordered", f"{what}: a record was lost")
        if queries.at_paths([place.path], PROCESSING):
            return Retried(one, "occupied", "another version of it is in processing")
        return None

    def _without_file(self, one: Chosen) -> Retried:
        """What there is to say of a record whose file was gone before it could come to failed."""
        row = one.row
        gone = f"its file is gone ({one.error_code})"
        newer = self._newer(row)
        if newer is None:
            return Retried(one, "gone", f"{gone}: put it again")
        if _key(one) in self._going:
            newer = "a newer version goes back"
        return Retried(one, "overtaken", f"{gone}, but {newer}")

    def _newer(self, row: Row) -> str | None:
        """That a newer version of a record's key has its file, in words; None if none has."""
        newer = self._newest.newer(row.id)
        if newer is not None:
            return f"record {newer.record} is a newer version, and in {newer.state}"
        arriving = _place(row.profile, row.bucket, row.key).moved(INCOMING).path
        if self._spool.identify(arriving) is not None:
            return "a newer version waits in incoming"
        return None

    def _move(
        self, one: Chosen, birth: float | None, moved: list[tuple[Chosen, Arrival]]
    ) -> Retried | None:
        target = _place(one.row.profile, one.row.bucket, one.row.key)
        try:
            self._spool.move(one.row.path, target.path)
        except Vanished:
            return Retried(one, "gone", f"{one.row.path}: {GONE}")
        except Occupied:
            return Retried(one, "occupied", "something lies in its place in processing")
        except OSError as error:
            why = self._spool.refusal(error, one.row.path, target.path)
            remedy = _REMEDIES.get(error.errno or 0, "")
            return Retried(one, "error", f"cannot move {one.row.path}: {why}{remedy}")
        identity = self._spool.identify(target.path)
        if identity is None:
            # Somebody put something else there between the look and the rename.
            return Retried(one, "error", f"{target.path} is no regular file")
        self._going.add(_key(one))
        moved.append((one, arrival_of(target, identity, birth)))
        return None


def _hastened(waiting: Sequence[Chosen], due: Sequence[Chosen]) -> list[Retried]:
    already = [Retried(one, "due", "it is due already") for one in due]
    return [*(Retried(one, "retried") for one in waiting), *already]


def _destinations(chosen: Sequence[Chosen]) -> set[tuple[str, str]]:
    return {(one.row.profile, one.row.bucket) for one in chosen}


def _newest(ids: Sequence[int]) -> list[Chosen]:
    """The newest version of a key comes first: it keeps the older ones from going over it."""
    return sorted(still_failed(ids), key=lambda one: one.version, reverse=True)


def _key(one: Chosen) -> tuple[str, str, str]:
    return one.row.profile, one.row.bucket, one.row.key


def _place(profile: str, bucket: str, key: str) -> Place:
    return Place(PROCESSING, profile, bucket, key)
