"""What has become of one file, with what happens next."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flood import (
    models,
    obstacle,
    owners,
    put_locks,
    room,
    stall,
    status_workers,
    story_queries,
    story_strays,
    syscalls,
)
from flood.advice import Advice
from flood.departures import RETRIED
from flood.doing import Doing
from flood.layout import Place
from flood.record_values import which_attempt
from flood.spool import Spool
from flood.states import (
    COMPLETED,
    FAILED,
    INCOMING,
    INCOMING_TMP,
    MISNAMED,
    PROCESSING,
    STATES,
)
from flood.story_gone import gives_way, is_gone
from flood.story_queries import Record
from flood.story_strays import Stray
from flood.temporary import Temporary
from flood.versions import Newest

#: What happens to a record that waits for a file that is nowhere.
_VANISHES: Final = "the record fails as vanished"
_GONE: Final = f"its file is gone: {_VANISHES}"
_REPLACED: Final = f"another file lies in its place: {_VANISHES}"

#: A free worker has taken by then what is due.
_SOON: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Chapter:
    """One record, whether its file lies where it says, None where that cannot be looked at, and
    what happens next."""

    record: Record
    present: bool | None
    doing: Doing | None
    next: str
    #: Where its file has only to be moved to any more, None if it is still to be uploaded.
    move_to: str | None = None
    #: The record that its file went on with, where flood-retry put it back.
    successor: int | None = None


@dataclass(frozen=True)
class Story:
    """All that is known of one key at the moment `at` (aware); `arriving` is what happens next to
    a file that lies in incoming without a record, None if there is none. A directory is no file:
    what lies in it has keys of its own."""

    place: Place
    at: datetime
    chapters: Sequence[Chapter]
    arriving: str | None
    #: Where files of this key lie, from the server directory.
    lying: Sequence[str]
    #: Where directories of this name do.
    directories: Sequence[str]
    #: Directories that this user cannot look into, in which files of this key may lie.
    closed: Sequence[str]
    #: Those of the files, but in incoming, that no record of this key has.
    strays: Sequence[Stray]

    @property
    def known(self) -> bool:
        """Whether anything is known at all."""
        return bool(self.chapters or self.lying)


def tell(
    spool: Spool,
    place: Place,
    ignore: Sequence[str],
    advice: Advice,
    *,
    now: Callable[[], datetime],
) -> Story:
    """The story of the key at `place`, from the database that the models are bound to.

    Raises SpoolError while the spool is away, what the database raises.
    """
    with models.reading():
        records = story_queries.records(place.profile, place.bucket, place.key)
    at = now()
    paths = dict.fromkeys(place.moved(state).path for state in STATES)
    paths |= dict.fromkeys(record.path for record in records)
    found = [path for path in paths if spool.exists(path) and not spool.behind_link(path)]
    directories = [path for path in found if spool.is_directory(path)]
    lying = [path for path in found if path not in directories]
    unseen = {path: closed for path in paths if (closed := spool.closed(path)) is not None}
    spool.check_present()  # or nothing would seem to lie there
    incoming = place.moved(INCOMING).path
    begun = story_strays.begun(spool, place, records)
    unrecorded = incoming in lying and not any(
        one.path == incoming and one.state in (INCOMING, INCOMING_TMP) and one is not begun
        for one in records
    )
    pattern = Temporary(ignore).pattern(incoming)
    coming = incoming in lying and pattern is None and spool.oddity(incoming) is None
    teller = _Teller(
        spool, place, records, at, advice, begun=begun, newer=unrecorded, coming=coming
    )
    chapters = [
        teller.chapter(
            record, record.path in lying and record is not begun, unseen.get(record.path)
        )
        for record in records
    ]
    arriving = teller.arriving(pattern) if unrecorded else None
    with models.reading():
        strays = list(story_strays.look(spool, place, records, lying, advice))
    behind = sorted(set(unseen.values()))
    return Story(place, at, chapters, arriving, lying, directories, behind, strays)


class _Teller:
    """`begun` is the record that does not say yet that its file was taken; `newer`: a file lies in
    incoming that none of the records knows; `coming`: one lies there that is not left alone."""

    def __init__(
        self,
        spool: Spool,
        place: Place,
        records: Sequence[Record],
        at: datetime,
        advice: Advice,
        *,
        begun: Record | None,
        newer: bool,
        coming: bool,
    ) -> None:
        self._spool = spool
        self._place = place
        self._records = records
        self._at = at
        self._advice = advice
        self._begun = begun
        self._newer = newer
        self._newest = Newest()
        self._watching = put_locks.watching(spool)
        self._consuming = put_locks.consuming(spool)
        self._starting = not self._consuming and put_locks.starting(spool)
        self._working = next((one for one in records if one.state == PROCESSING), None)
        self._yielding = (
            coming and self._working is not None and gives_way(spool, place, self._working)
        )

    def chapter(self, record: Record, present: bool | None, closed: str | None) -> Chapter:
        """The record with what happens next; `closed` is the directory that keeps its file from
        being seen."""
        doing = None
        if record.owner is not None:
            doing = status_workers.said(self._spool, record.owner)
            if doing and not (doing.since and record.claimed and doing.since >= record.claimed):
                doing = None  # of the attempt before
        present = present and self._has_its_place(record)
        successor = self._successor(record)
        present = present if closed is None else None
        following = self._next(record, present)
        if present is None and record.state == FAILED and record.left is None:
            following = (
                f"nobody knows, as this user cannot look into {closed}: flood-status as flood's "
                "own user tells, who needs all rights to it"
            )
        return Chapter(record, present, doing, following, self._move_to(record), successor)

    def _has_its_place(self, record: Record) -> bool:
        """Whether what lies where the record says is its file, and not another record's."""
        if record.left is not None:
            return False
        if not record.gone_before:
            return True  # in failed a person may have mended it, or put a better one in its place
        # Some filesystems give a number that is free to the next file.
        others = (x for x in self._records if x.path == record.path and not x.gone_before)
        return next(others, None) is None and self._spool.identify(record.path) == record.identity

    def _successor(self, record: Record) -> int | None:
        if record.left_how != RETRIED:
            return None
        same = (x.id for x in self._records if x.origin == record.origin and x.id > record.id)
        return min(same, default=None)

    def arriving(self, pattern: str | None) -> str:
        """What happens to a file that lies in incoming."""
        kind = self._spool.oddity(self._place.moved(INCOMING).path)
        if kind is not None:
            return f"left alone, as it is no regular file but a {kind}"
        if pattern is not None:
            return (
                f"left alone, as names like '{pattern}' are those of files that are still written: "
                "rename it, or see --ignore"
            )
        if self._working is not None and not self._yielding:
            return (
                f"waits for record {self._working.id}, an earlier file of this key; {self._then()}"
            )
        in_the_way = obstacle.in_the_way(self._spool, self._place)
        if in_the_way is not None and self._spool.identify(in_the_way) is None:
            oddity = self._spool.oddity(in_the_way)
            if oddity is not None:
                return f"waits until the {oddity} of its name in processing is gone"
            return "waits until the directory of its name in processing is gone, with its files"
        if in_the_way == self._place.moved(PROCESSING).path:
            return (
                "waits for an earlier file of this key, in processing, which no record has there "
                f"yet; {self._then()}"
            )
        if in_the_way is not None:
            return f"waits for {in_the_way}, a file where it needs a directory, to be settled"
        refusing = self._refusing()
        if refusing is not None:
            return (
                f"waits until flood's user has all rights to {refusing}, so that it can be moved; "
                f"this tells how he gets them: {self._advice.check()}"
            )
        if not self._watching:
            return f"waits for flood-watch, which does not run; to start it: {self._start()}"
        stopped = put_locks.watch_stopped(self._spool)
        if stopped is not None:
            again = stall.go_on([stopped])
            return f"waits for flood-watch, which is stopped; to let it go on: {again}"
        advice = self._advice
        lack = room.first_lack(self._spool.root, advice.database, advice.settings.min_free)
        if lack is not None:
            return (
                f"waits for room, as flood-watch takes nothing in: {lack.seen}; to make room: "
                f"{lack.remedy}"
            )
        return (
            "flood-watch takes it once nobody has it open for writing; if it leaves it alone, as "
            "where its credentials lack the profile, its log says why"
        )

    def _refusing(self) -> str | None:
        """The directory that keeps the file from being moved; known to flood's own user alone, as
        others have other rights."""
        if owners.user_of(self._spool.root) != os.geteuid():
            return None
        incoming, processing = (self._place.moved(state).path for state in (INCOMING, PROCESSING))
        return self._spool.refuses(incoming, processing)

    def _then(self) -> str:
        """When a file is taken that waits for an earlier one."""
        if self._watching:
            return "it is taken as soon as that has ended"
        return f"it is taken once that has ended and flood-watch runs; to start it: {self._start()}"

    def _next(self, record: Record, present: bool | None) -> str:
        if record.state == COMPLETED:
            return "nothing: it is uploaded" if record.outcome else "nothing: it was uploaded"
        if record.state == FAILED:
            return self._after_failure(record, present)
        if record is self._begun:
            again = story_strays.taken_up(self._spool, self._advice)
            return f"it is in processing, as who took it died before the record said so; {again}"
        if record.state == INCOMING_TMP:
            return "flood-put goes on with it; if that died, the next start of flood-watch ends it"
        gone = None
        if is_gone(self._spool, self._place, record):
            gone = _REPLACED if present else _GONE
        if record.state == INCOMING:
            return self.arriving(None) if present or not gone else self._swept(gone)
        if record.owner is not None:
            if status_workers.lives(self._spool, record.owner):
                doing = status_workers.said(self._spool, record.owner)
                if doing is not None and syscalls.is_stopped(doing.pid):
                    return f"its worker is stopped; to let it go on: {stall.go_on([doing.pid])}"
                return "a worker is at it"
            if gone:
                return f"its worker died, and {self._swept(gone)}"
            if self._consuming:
                return "its worker died: a sweep of any consumer gives it back within a minute"
            return "its worker died: a consumer, or flood-drain, gives it back once one runs"
        return self._missing(record, gone) if gone else self._waiting(record)

    def _swept(self, gone: str) -> str:
        return f"{gone} with a consumer's next sweep{self._idle()}"

    def _missing(self, record: Record, gone: str) -> str:
        move_to = self._move_to(record)
        fails = f"{_done(record, move_to)}{gone}"
        taken, asleep = "as flood-watch takes the newer version", self._asleep()
        if self._yielding and not asleep:
            return f"{fails} {taken}"
        which = which_attempt(record.retry_count, move_to)
        when = "by the next free worker whose credentials have the profile"
        if record.due is not None and record.due > self._at:
            when = f"at {_time(record.due)}"
        if self._yielding:
            return f"{fails} with {which}, {when}, or {taken}, {asleep}"
        return f"{fails} with {which}, {when}{self._idle()}; at once: {self._advice.repair()}"

    def _waiting(self, record: Record) -> str:
        idle = self._idle()
        move_to = self._move_to(record)
        takes = "takes it" if move_to is None else f"moves it to {move_to}"
        done = _done(record, move_to)
        if record.due is not None and record.due > self._at:
            again = which_attempt(record.retry_count, move_to)
            tried = "" if move_to is None else " is tried again"
            why = "" if move_to == FAILED else _why(record)
            return f"{done}{again}{tried} at {_time(record.due)}{why}{idle}"
        if not idle and record.due is not None and self._at - record.due > _SOON:
            return (
                f"{done}the next free worker {takes}; if none does, as where its credentials lack "
                f"the profile, the consumers' log says why, and so does: {self._advice.check()}"
            )
        # Which profiles a worker has is known to no one but itself.
        return f"{done}the next free worker whose credentials have the profile {takes}{idle}"

    def _move_to(self, record: Record) -> str | None:
        if record.move_to != COMPLETED or record.changed_ns == 0:
            return record.move_to
        # What has changed since is sent once more.
        changed = self._spool.changed_ns(record.path)
        return record.move_to if changed in (None, record.changed_ns) else None

    def _after_failure(self, record: Record, present: bool | None) -> str:
        successor = self._successor(record)
        if successor is not None:
            return f"nothing: it goes on as record {successor}"
        if record.gone_before:
            again = "there again, as one without a record" if present else "gone"
            return f"nothing: its file is {again}"
        if not present or self._spool.identify(record.path) is None:
            return "nothing: its file is not in failed any more"
        over = self._advice.retry(str(record.id), "--overwrite-newer")
        newer = self._newest.newer(record.id)
        if newer is not None:
            return (
                f"nothing: record {newer.record} is a later version, and in {newer.state}; to let "
                f"this one go over it: {over}"
            )
        if self._newer:
            return f"nothing: a later version waits in incoming; to let this one go first: {over}"
        other = self._newest.unordered(record.id)
        if other is not None:
            return (
                f"a person decides: record {other.record}, in {other.state}, may be a later "
                f"version, which nobody knows since a record was lost; to let this one go: {over}"
            )
        if record.code in MISNAMED:
            return (
                f"a person moves {record.path} to incoming, under a name and a bucket that the "
                "store takes; flood-retry would bring it back to where it was"
            )
        return f"a person mends the cause, then: {self._advice.retry(str(record.id))}"

    def _idle(self) -> str:
        """What has to come first, while no worker can take anything."""
        workers, starters = status_workers.living(self._spool), put_locks.starters(self._spool)
        if stopped := stall.all_stopped(workers, starters):
            return f", once consumers go on, as all are stopped: {stall.go_on(stopped)}"
        if self._starting:
            return f", once one has come up: {stall.STARTING}"
        if not self._consuming:
            return f", once a consumer runs; to start one: {self._start()}"
        return ""

    def _asleep(self) -> str:
        """What has to come first, while flood-watch can take nothing."""
        if not self._watching:
            return f"once it runs; to start it: {self._start()}"
        stopped = put_locks.watch_stopped(self._spool)
        return f"once it goes on, as it is stopped: {stall.go_on([stopped])}" if stopped else ""

    def _start(self) -> str:
        """What starts whoever is not at work."""
        if self._watching:
            return self._advice.consumers()
        started = self._consuming or self._starting
        return self._advice.watch() if started else self._advice.start()


def _done(record: Record, move_to: str | None) -> str:
    """How far it has come, where only the move is left."""
    if move_to == FAILED:
        return f"it was given up{_why(record)}; "
    return "" if move_to is None else "it is uploaded; "


def _why(record: Record) -> str:
    """Why it waits, where no attempt tells that."""
    told = record.attempts[-1].message if record.attempts else None
    if record.message in (None, told):
        return ""
    return f": {record.message} ({record.code})"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
