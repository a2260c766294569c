"""Takes files into processing, each with its row."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from logging import INFO, getLogger
from typing import Final

from flood import (
    departures,
    layout,
    log,
    models,
    queries,
    records,
    syscalls,
    telling,
    versions,
)
from flood.door import Candidate, Door, Why
from flood.identity import Identity
from flood.layout import Place
from flood.record_values import TASK_BYTES, TASK_FILES, Arrival, Row
from flood.spool import Occupied, Spool
from flood.states import COMPLETED, FAILED, INCOMING, PROCESSING
from flood.tree import Vanished
from flood.walk import Found, Oddity
from flood.whereabouts import lies_in

#: How many files one transaction admits; other writers wait meanwhile, as do files that come then.
BATCH: Final = TASK_FILES

logger = getLogger(__name__)

#: Enqueues one task: a profile, a bucket of it, ids of records there.
Enqueue = Callable[[str, str, list[int]], None]


@dataclass
class Result:
    """What became of a batch: how many were admitted, which are to be looked at again."""

    admitted: int = 0
    later: list[tuple[Candidate, Why, Identity | None]] = field(default_factory=list)


@dataclass
class _Way:
    """What stood in the way of files: records that stay in processing, by path, with those paths
    whose record somebody works on, records that have ended, each with where its file lies, and
    records that went back with their files, each with the state that it has now."""

    stay: dict[str, Row] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    ended: list[tuple[Row, str | None]] = field(default_factory=list)
    back: list[tuple[Row, str]] = field(default_factory=list)

    def tell(self) -> None:
        """Log what has ended or went back, after the commit."""
        for row, state in self.ended:
            reason = records.GIVEN_UP if state == FAILED else records.VANISHED
            telling.ended(logger, row, None if state == COMPLETED else reason)
        for row, to in self.back:
            telling.went_back(logger, row, to)


class Intake:
    """The way from incoming to processing of one spool.

    `profiles`, `ignore`, `links_guarded` are for its door; `large` is the size in bytes from which
    on a file gets a task of its own; `now` answers aware times.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        profiles: Callable[[], Collection[str]],
        ignore: Sequence[str],
        large: int,
        enqueue: Enqueue,
        now: Callable[[], datetime],
        links_guarded: Callable[[], bool] = syscalls.hard_links_guarded,
    ) -> None:
        self._spool = spool
        self.door = Door(
            spool, profiles=profiles, ignore=ignore, now=now, links_guarded=links_guarded
        )
        self._large = large
        self._enqueue = enqueue
        self._now = now
        #: Files that a failed transaction left in processing without rows.
        self.stranded: list[str] = []
        # Where there is a file in the way of one from incoming.
        self._occupants: set[str] = set()

    def admit(self, candidates: Sequence[tuple[Candidate, Identity | None]]) -> Result:
        """Take what can be taken, at most BATCH files a transaction.

        Each candidate comes with the identity that it had STANDSTILL seconds ago, or None. With one
        whose row may have run ahead a settled row of the very same file goes back.
        """
        result = Result()
        for start in range(0, len(candidates), BATCH):
            ready: list[tuple[Candidate, Place, Identity | None]] = []
            for candidate, still in candidates[start : start + BATCH]:
                looked = self.door.look(candidate, still)
                if looked is None:
                    continue
                place, why, identity = looked
                if why is None:
                    ready.append((candidate, place, identity))
                else:
                    result.later.append((candidate, why, identity))
            if ready:
                self._transaction(ready, result)
        occupied = [candidate.path for candidate, why, _ in result.later if why is Why.OCCUPIED]
        self._occupants.update(PROCESSING + path[len(INCOMING) :] for path in occupied)
        return result

    def _transaction(
        self, ready: Sequence[tuple[Candidate, Place, Identity | None]], result: Result
    ) -> None:
        births = [syscalls.birth_time(self._spool.absolute(place.path)) for _, place, _ in ready]
        targets = [place.moved(PROCESSING).path for _, place, _ in ready]
        changed = self._changed([place for candidate, place, _ in ready if candidate.ahead])
        moved: list[Arrival] = []
        way = _Way()
        try:
            with models.write(), self._spool.many_moves():
                way = self._make_way(
                    {path: one[2] for path, one in zip(targets, ready, strict=True)}
                )
                for (candidate, place, _), birth, path in zip(ready, births, targets, strict=True):
                    if path in way.claimed:
                        result.later.append((candidate, Why.OCCUPIED, None))
                        continue
                    arrival = self._move(candidate, place, birth, result)
                    if arrival is not None:
                        moved.append(arrival)
                ids = self._record(moved, changed, way)
        except BaseException:
            # The files are ahead of their rows now; the second try brings the rows forward.
            self.stranded += [arrival.path for arrival in moved]
            raise
        way.tell()
        with log.together():
            for arrival, record_id in zip(moved, ids, strict=True):
                tell_admitted(arrival, record_id, INCOMING)
        result.admitted += len(moved)

    def _move(
        self, candidate: Candidate, place: Place, birth: float | None, result: Result
    ) -> Arrival | None:
        target = place.moved(PROCESSING)
        path = target.path
        try:
            self._spool.move(place.path, path)
        except Vanished:
            return None
        except Occupied:
            result.later.append((candidate, Why.OCCUPIED, None))
            return None
        except OSError as error:
            reason = self._spool.refusal(error, place.path, path)
            self.door.leave(place.path, f"it cannot be moved to processing: {reason}")
            result.later.append((candidate, Why.ERROR, None))
            return None
        identity = self._spool.identify(path)
        if identity is None:
            # It changed into something else between the look and the rename: back, beside what has
            # come since, as it must not keep the next file of its key out of processing.
            self._put_back(target, place)
            return None
        return arrival_of(target, identity, birth)

    def turn_away(self, found: Oddity) -> None:
        """Put what is no regular file back from processing, where whoever took it was killed before
        he could: it keeps the next file of its name waiting."""
        place = layout.parse(found.path)
        if place is None or found.unreadable:
            self.door.leave(found.path, found.reason)
        else:
            self._put_back(place, place.moved(INCOMING))

    def _put_back(self, source: Place, place: Place) -> None:
        kind = self._spool.oddity(source.path)
        try:
            left = self._spool.move_beside(source.path, place, 0).path
        except Vanished:
            return
        except OSError:
            left = source.path
        self.door.leave(left, f"it is no regular file but a {kind or 'directory'}")

    def _changed(self, places: Sequence[Place]) -> dict[str, datetime | None]:
        """The change times of those of these files whose row may have run ahead, by the path that
        they have in processing; to be asked before they are renamed."""
        known = queries.with_history([_name(place) for place in places])
        return {
            place.moved(PROCESSING).path: self._spool.changed_at(place.path)
            for place in places
            if _name(place) in known
        }

    def _record(
        self,
        moved: Sequence[Arrival],
        changed: Mapping[str, datetime | None],
        way: "_Way",
        came: Mapping[str, datetime] | None = None,
    ) -> list[int]:
        """Rows for files in processing, tasks for the rows; inside a transaction. `changed` has
        the change times of those whose row may have run ahead; `came` as `records.admit` has it."""
        now = self._now()
        ids = [self._back(arrival, changed.get(arrival.path), way, now) for arrival in moved]
        fresh = records.admit(
            [arrival for arrival, back in zip(moved, ids, strict=True) if back is None],
            now,
            way.stay,
            came,
        )
        remaining = iter(fresh)
        every = [next(remaining) if back is None else back for back in ids]
        for profile, bucket, group in tasks_of(moved, every, self._large):
            self._enqueue(profile, bucket, group)
        return every

    def _back(
        self, arrival: Arrival, changed: datetime | None, way: "_Way", now: datetime
    ) -> int | None:
        """S12: the record of the very file, if it ran ahead.

        A file that somebody moved back has a change time later than its row's; one whose last
        renames a power failure undid has not.
        """
        if changed is None:
            return None
        row = queries.settled(
            arrival.profile, arrival.bucket, arrival.key, arrival.identity, changed
        )
        if row is None or queries.at_paths([arrival.path], PROCESSING):
            return None
        if not records.put_back(row.id, arrival.path, now):
            return None
        way.back.append((row, PROCESSING))
        return row.id

    def _make_way(self, arriving: Mapping[str, Identity | None]) -> "_Way":
        """End the records in processing at these paths whose files are not there any more, or have
        them wait for their turn in incoming: the place seems free, and belongs to the file that
        arrives. S7, S9, S11, S12; inside a transaction."""
        now = self._now()
        way = _Way(queries.at_paths(list(arriving), PROCESSING))
        for row in way.stay.values():
            if _same_file(row.identity, self._spool.identify(row.path)):
                continue
            if row.owner is None and _same_file(row.identity, arriving[row.path]):
                continue  # somebody moved the very file back to incoming
            found = lies_in(self._spool, row)
            if found is not None:
                # Somebody settled the file, and died before the commit.
                if records.follow(row.id, found.state, found.path, row.identity.size, now):
                    way.ended.append((row, found.state))
            elif row.owner is not None:
                # Two workers would be at one key, and the older version might arrive last.
                way.claimed.add(row.path)
            elif self._waits_again(row):
                if records.wait_again(row.id, _arrived(row), now):
                    way.back.append((row, INCOMING))
            elif records.vanish(row.id, now):
                way.ended.append((row, None))
        for row, _ in (*way.ended, *way.back):
            del way.stay[row.path]
        return way

    def _waits_again(self, row: Row) -> bool:
        """S12: whether the record's very file lies in incoming, and an earlier one in its place."""
        return self._spool.identify(_arrived(row)) == row.identity

    def take_up(self, found: Sequence[Found], came_from: str = PROCESSING) -> int:
        """Give rows to files in processing that have none, or whose row ran ahead; how many.
        `came_from` is for the log."""
        taken = 0
        for start in range(0, len(found), BATCH):
            part = _without_rows(found[start : start + BATCH])
            if not part:
                continue
            births = {one.path: syscalls.birth_time(self._spool.absolute(one.path)) for one in part}
            places = {one.path: layout.parse(one.path) for one in part}
            changed = self._changed([place for place in places.values() if place is not None])
            came = self._came(part)
            part.sort(key=lambda one: came[one.path])
            with models.write():
                way = self._make_way({one.path: one.identity for one in part})
                without: list[Arrival] = []
                misplaced: list[str] = []
                for one in part:
                    row = way.stay.get(one.path)
                    if row is not None and _same_file(row.identity, one.identity):
                        continue
                    if one.path in way.claimed:
                        continue  # a later scan finds it, when its worker has settled
                    # Inside the transaction no worker is half-way through a move; what was listed
                    # before it may have been settled since.
                    place = places[one.path]
                    if place is None:
                        misplaced.append(one.path)
                        continue
                    if self._spool.identify(one.path) != one.identity:
                        continue
                    without.append(arrival_of(place, one.identity, births[one.path]))
                left = self._left(without)
                ids = self._record(without, changed, way, came)
                for arrival, record_id in zip(without, ids, strict=True):
                    if left.get(arrival.path, record_id) != record_id:
                        departures.retried(left[arrival.path], record_id, self._now())
            way.tell()
            for path in misplaced:
                self.door.leave(path, "it must lie below incoming/PROFILE/BUCKET/: move it there")
            with log.together():
                for arrival, record_id in zip(without, ids, strict=True):
                    tell_admitted(arrival, record_id, came_from)
            taken += len(without)
        return taken

    def _came(self, found: Sequence[Found]) -> dict[str, datetime]:
        """When these files came at the latest, by their paths: the rename into processing was a
        change, where nothing has changed them since."""
        never = self._now()
        return {one.path: self._spool.changed_at(one.path) or never for one in found}

    def _left(self, arrivals: Sequence[Arrival]) -> dict[str, int]:
        """The records that these files have left, by their paths, as a flood-retry moved them, and
        was killed: they are the same versions of their keys. What it would have refused somebody
        else has put into incoming, as a new one, and flood-watch was killed."""
        return {
            path: row.id
            for path, row in departures.leaving(arrivals).items()
            if not self._spool.exists(row.path) and versions.newer(row.id) is None
        }

    def take_up_stranded(self) -> None:
        """Second try for the files that a failed transaction left in processing, or that are in the
        way there without a row: a scan passes over one in whose place a newer version, which a
        power failure has put back into incoming, is still a dead worker's."""
        if self.stranded:
            self.take_up(self._there(self.stranded), INCOMING)
            self.stranded.clear()
        if self._occupants:
            self.take_up(self._there(self._occupants))
            self._occupants.clear()

    def _there(self, paths: Iterable[str]) -> list[Found]:
        identities = ((path, self._spool.identify(path)) for path in paths)
        return [Found(path, identity, 0) for path, identity in identities if identity is not None]


def _without_rows(found: Sequence[Found]) -> list[Found]:
    """Those of these files in processing that no record knows to be there. Most are known, and keep
    no writer waiting for this look."""
    rows = queries.at_paths([one.path for one in found], PROCESSING)
    return [
        one
        for one in found
        if one.path not in rows or not _same_file(rows[one.path].identity, one.identity)
    ]


def _name(place: Place) -> tuple[str, str, str]:
    return place.profile, place.bucket, place.key


def _arrived(row: Row) -> str:
    return Place(INCOMING, row.profile, row.bucket, row.key).path


def _same_file(recorded: Identity, found: Identity | None) -> bool:
    """Whether it is the recorded file, even if somebody changed its content in place; the attempt
    takes note of that."""
    return found is not None and (recorded.device, recorded.inode) == (found.device, found.inode)


def arrival_of(place: Place, identity: Identity, birth: float | None) -> Arrival:
    """A file as its record begins; `birth` is when it was created, in seconds since the epoch, None
    where the filesystem does not tell."""
    seconds = identity.mtime_ns / 1e9 if birth is None else birth
    try:
        created = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        created = datetime.fromtimestamp(0, timezone.utc)  # a time that no calendar has
    return Arrival(place.profile, place.bucket, place.key, place.path, identity, created)


def tasks_of(
    arrivals: Sequence[Arrival], ids: Sequence[int], large: int
) -> Iterator[tuple[str, str, list[int]]]:
    """The tasks for these records: small files of one bucket together, large ones by themselves."""
    groups: dict[tuple[str, str], tuple[list[int], int]] = {}
    for arrival, record_id in zip(arrivals, ids, strict=True):
        size = arrival.identity.size
        destination = (arrival.profile, arrival.bucket)
        if size >= large:
            yield *destination, [record_id]
            continue
        group, total = groups.get(destination, ([], 0))
        if group and (len(group) >= TASK_FILES or total + size > TASK_BYTES):
            yield *destination, group
            group, total = [], 0
        group.append(record_id)
        groups[destination] = (group, total + size)
    for destination, (group, _) in groups.items():
        yield *destination, group


def tell_admitted(arrival: Arrival, record_id: int, came_from: str) -> None:
    """Tell that a file which came from the state `came_from` is in processing now."""
    log.event(
        logger,
        INFO,
        "admitted",
        record=record_id,
        profile=arrival.profile,
        bucket=arrival.bucket,
        key=arrival.key,
        from_=came_from,
        to=PROCESSING,
        size=arrival.identity.size,
    )
