"""Looks at what one spool has to do, is doing, could not do."""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from flood import (
    due_queries,
    layout,
    models,
    put_locks,
    room,
    stall,
    status_files,
    status_stranded,
    status_workers,
    writers,
)
from flood import status_queries as asking
from flood.intake import BATCH
from flood.layout import Place
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP
from flood.status import (
    AGES,
    DUE,
    NO_RECORD,
    RETRY,
    SHOWN,
    SOON,
    SUPERSEDED,
    UNKNOWN,
    UPLOADING,
    WINDOWS,
    Amount,
    Back,
    Failure,
    Key,
    Status,
    Upload,
)
from flood.status_files import Files, Lying
from flood.status_queries import Coming, Destination, Held
from flood.status_workers import Worker

#: So many files in processing are looked at one by one.
_FEW: Final = 5000


def look(
    spool: Spool,
    database: str,
    ignore: Sequence[str],
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    seconds: float,
    min_free: float = 0,
) -> Status:
    """Look at the spool, whose database the models are bound to for reading; at files outside of
    the records for so many `seconds` of `clock` at most; at whether there is room for files with
    `min_free` bytes left. Nothing is changed, nobody kept waiting.

    Raises SpoolError while the spool is away, what the database raises.
    """
    end = clock() + seconds
    recorded = asking.in_processing_by_destination()
    files = status_files.look(spool, ignore, clock, seconds * 0.7)
    lying, counted = status_stranded.count(spool, files, clock, (end - clock()) * 0.7)
    spool.check_present()  # or nothing would seem to lie there
    status = Status(spool.root, database, now(), in_processing=lying.total())
    status.lack = room.first_lack(spool.root, database, min_free)
    status.kept = writers.kept(database, time.sleep)
    status.watching = put_locks.watching(spool)
    status.watch_stopped = put_locks.watch_stopped(spool)
    status.consuming = put_locks.consuming(spool)
    status.starting = not status.consuming and put_locks.starting(spool)
    status.workers = status_workers.living(spool)
    status.starters = put_locks.starters(spool)
    status.stopped = stall.stopped(status.workers, status.starters)
    view = _View(spool, status)
    with models.reading():
        status.last_sweep = asking.last_sweep()
        # The records are those of this moment from here on. They may count files already that were
        # taken since incoming was listed, and those only; what was taken later they count not yet.
        files = files.without(asking.taken(status_files.left(spool, files)))
        view.count_files(files)
        view.count_backlog()
        view.count_claims(asking.claimed())
        # What is at work beside this look moves files on, of which the records tell a moment later.
        suspects = lying - Counter({x: max(recorded[x], view.in_processing(x)) for x in lying})
        # Of a few each is looked at: a record whose file is gone makes up for one without a record.
        asked = lying if lying.total() <= _FEW else suspects
        stranded, sought = status_stranded.look(spool, asked, status.at, clock, end - clock())
        status.unrecorded = max(suspects.total(), len(stranded))
        status.whole = files.whole and counted and sought
        few = not stranded and (sought or suspects.total() <= BATCH)
        status.unsought = not status.whole and files.whole and few
        view.count_stranded(stranded)
        view.count_ended()
        status.recorded = asking.recorded()
        status.retries = view.next_retries()
        status.queue = asking.queue()
        status.lingering = view.lingering(files)
        status.stalled = stall.among(status.workers, status.last_sweep, status.at)
        status.unserved = sorted(view.unclaimed())
    status.amounts = {place: view.amounts[place] for place in sorted(view.amounts)}
    status.ages = {place: view.ages[place] for place in sorted(view.ages)}
    return status


class _View:
    """Fills a Status."""

    def __init__(self, spool: Spool, status: Status) -> None:
        self._spool = spool
        self._status = status
        self.amounts: dict[Destination, dict[str, Amount]] = defaultdict(
            lambda: defaultdict(Amount)
        )
        self.ages: dict[Destination, list[int]] = defaultdict(lambda: [0] * (len(AGES) + 1))
        self._served: set[str] = set()

    def count_files(self, files: Files) -> None:
        """What lies outside of processing and completed."""
        for one in files.copying:
            place = (one.place.profile, one.place.bucket)
            self.amounts[place][INCOMING_TMP].add(1, one.size, one.since)
        self._count_arriving(files.incoming)
        self._status.misplaced = sorted(files.misplaced)
        self._status.ignored = files.ignored
        self._status.closed = sorted(files.closed, key=lambda one: one.path)
        for closed in files.closed:
            if (at := closed.waiting) is not None:
                # However many files that are, they wait.
                self.amounts[at.profile, at.bucket][INCOMING].add(0, 0, closed.since)
        self._status.arrived = min(files.incoming, key=lambda one: one.since, default=None)
        oldest = sorted(files.back, key=lambda one: one[0].since)[:SHOWN]
        self._status.back = [self._held_back(one, path) for one, path in oldest]
        self._status.held_back = len(files.back)
        self._status.arriving = {_key(one.place) for one in files.incoming}
        self._count_failed(files.failed, self._status.arriving)

    def in_processing(self, place: Destination) -> int:
        """How many records of this destination are in processing."""
        stages = self.amounts.get(place, {})
        return sum(stages[stage].files for stage in (DUE, UPLOADING, RETRY) if stage in stages)

    def count_stranded(self, stranded: Sequence[Lying]) -> None:
        """What lies in processing without a record waits as if it were in incoming still."""
        self._count_arriving(stranded)
        status = self._status
        status.stranded = len(stranded)
        known = [*stranded, *([status.arrived] if status.arrived else [])]
        status.arrived = min(known, key=lambda one: one.since, default=None)

    def _count_arriving(self, lying: Sequence[Lying]) -> None:
        for one in lying:
            place = (one.place.profile, one.place.bucket)
            self.amounts[place][INCOMING].add(1, one.size, one.since)
            self._add_age(place, one.since)

    def _held_back(self, one: Lying, path: str) -> Back:
        oddity = self._spool.oddity(path)
        if oddity is None and os.path.isdir(self._spool.absolute(path)):
            return Back(one, f"{path}/", None)
        place = layout.parse(path)
        if place is None:
            return Back(one, path, None, oddity)
        key = (place.profile, place.bucket), place.key
        return Back(one, path, asking.in_processing([key]).get(key), oddity)

    def _count_failed(self, lying: Sequence[Lying], arriving: Collection[Key]) -> None:
        groups: dict[str, Failure] = {}
        failed = asking.failed_at([one.place.path for one in lying])
        for one in lying:
            place = (one.place.profile, one.place.bucket)
            record = failed.get(one.place.path)
            since = record.settled if record else one.since
            # What flood-retry refuses is nothing to ask a person for.
            if record and (record.superseded or (*record.destination, record.key) in arriving):
                self.amounts[place][SUPERSEDED].add(1, one.size, since)
                continue
            self.amounts[place][FAILED].add(1, one.size, since)
            code = (record.code or UNKNOWN) if record else NO_RECORD
            group = groups.setdefault(code, Failure(code))
            group.files += 1
            group.size += one.size
            group.destinations[place] += 1
            group.oldest = min(group.oldest or since, since)
            if group.newest is None or since >= group.newest:
                group.newest = since
                group.hint = record.message if record else None
        self._status.failures = sorted(groups.values(), key=lambda one: (-one.files, one.code))

    def count_backlog(self) -> None:
        """What waits in processing."""
        at, low = self._status.at, asking.first_waiting()
        bounds = [asking.first_since(at - timedelta(seconds=age), low) for age in AGES]
        backlog = asking.backlog(self._status.at, bounds)
        created = asking.created(one.first for one in backlog)
        for one in backlog:
            stage = RETRY if one.later else DUE
            self.amounts[one.destination][stage].add(one.files, one.size, created[one.first])
            self.ages[one.destination][one.age] += one.files
            self._note(one.first)

    def count_claims(self, held: Sequence[Held]) -> None:
        """What workers have claimed, with how far they are."""
        for one in held:
            self.amounts[one.destination][UPLOADING].add(1, one.size, one.created_at)
            self._add_age(one.destination, one.created_at)
            self._note(one.id)
        living = {worker.owner: worker for worker in self._status.workers}
        by_owner = sorted(held, key=lambda one: one.owner)
        for owner, claims in groupby(by_owner, key=lambda one: one.owner):
            worker = living.get(owner)
            if worker is None and status_workers.lives(self._spool, owner):
                worker = Worker(owner, status_workers.said(self._spool, owner))  # it just began
            self._status.uploads.append(_upload(list(claims), worker))
        self._status.uploads.sort(key=lambda one: (one.since, one.record))

    def count_ended(self) -> None:
        """What has come to its end."""
        status = self._status
        completed = asking.completed()
        for place, (files, size) in completed.items():
            self.amounts[place][COMPLETED].add(files, size)
        for seconds in WINDOWS:
            since = status.at - timedelta(seconds=seconds)
            recent = [asking.completed_since(place, since) for place in completed]
            status.speeds[seconds] = (sum(one[0] for one in recent), sum(one[1] for one in recent))
            if seconds <= SOON.total_seconds():
                self._served |= {
                    place[0] for place, one in zip(completed, recent, strict=True) if one[0]
                }
        status.failed_records, status.failed_files = asking.failures()
        status.gone_before = [x for x in asking.gone_before() if x not in status.arriving]

    def next_retries(self) -> list[Coming]:
        """The first of those that wait for their retry."""
        found = [
            coming
            for place in list(self.amounts)
            if RETRY in self.amounts[place]
            for coming in asking.next_retries(place, self._status.at, SHOWN)
        ]
        return sorted(found, key=lambda one: (one.due, one.id))[:SHOWN]

    def lingering(self, files: Files) -> int:
        """How many files flood-watch, which could, has not taken for a minute. Why, its log alone
        has: it may lack a right or the profile, wait for a writer, or be busy."""
        if not self._status.watching or self._status.watch_stopped is not None:
            return 0
        before = self._status.at - SOON
        held_back = sum(one.since < before for one, _ in files.back)
        return sum(one.since < before for one in files.incoming) - held_back

    def unclaimed(self) -> set[str]:
        """Of whose due files no worker has taken one, though one is free."""
        status = self._status
        able = [x for x in status.workers if not (x.doing and x.doing.pid in status.stopped)]
        free = sum(x.owner not in status.busy for x in able)
        # While others are at large files, the last worker is kept for small ones.
        if free <= bool(status.uploads) or status.stalled:
            return set()
        due = {profile for profile, _ in due_queries.destinations(status.at - SOON)}
        due -= self._served | {upload.destination[0] for upload in status.uploads}
        # Where the store wants to be left alone for a moment, nothing else is even claimed.
        return {profile for profile in due if not asking.tried(profile, status.at - SOON)}

    def _note(self, record: int) -> None:
        first = self._status.first
        self._status.first = record if first is None else min(first, record)

    def _add_age(self, place: Destination, since: datetime) -> None:
        age = (self._status.at - since).total_seconds()
        number = next((n for n, bound in enumerate(AGES) if age < bound), len(AGES))
        self.ages[place][number] += 1


def _key(place: Place) -> Key:
    return place.profile, place.bucket, place.key


def _upload(claims: Sequence[Held], worker: Worker | None) -> Upload:
    first = claims[0]
    doing = worker.doing if worker else None
    # A worker says nothing new within a second of what it said of the attempt before.
    told = doing is not None and doing.since is not None and doing.since >= first.claimed_at
    size = sum(one.size for one in claims)
    return Upload(
        destination=first.destination,
        key=first.key if len(claims) == 1 and not (told and doing and doing.files > 1) else None,
        record=first.id,
        files=doing.files if told and doing else len(claims),
        files_done=doing.files_done if told and doing else 0,
        size=doing.size if told and doing else size,
        sent=doing.sent if told and doing else None,
        rate=doing.rate if told and doing else None,
        retry_count=first.retry_count,
        since=first.claimed_at,
        owner=first.owner,
        worker=worker,
    )
