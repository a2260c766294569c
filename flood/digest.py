"""What there is to tell somebody who does not look."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from humanize import naturaldelta

from flood import digest_records, stall
from flood.digest_records import Memory, Untold
from flood.record_values import which_attempt
from flood.states import FAILED, INCOMING
from flood.status import DUE, RETRY, SUPERSEDED, UPLOADING, WAITING, Amount, Status
from flood.status_files import Lying
from flood.status_queries import Destination

#: What a digest is about: files have failed, or wait for too long; neither any more; nothing that
#: is news; nothing but a test.
TROUBLE: Final = "trouble"
WELL: Final = "well"
NOTHING: Final = "nothing"
TEST: Final = "test"

_CLOSED: Final = (
    "it is a directory that flood cannot look into: give flood's user all rights to it; "
    "flood-check says how"
)

#: How long failures are gathered, in seconds: others may follow the first.
GATHER: Final = 60.0

#: How many files are named of each cause.
NAMED: Final = 3


@dataclass(frozen=True)
class Cause:
    """Files of one destination that have failed with one code since the last digest; `hint` is what
    the latest of their records says, `named` some of them as record and key. `gone`: none of them
    lies in failed, as they were removed before."""

    destination: Destination
    code: str
    files: int
    size: int
    oldest: datetime
    newest: datetime
    hint: str | None
    named: tuple[tuple[int, str], ...]
    gone: bool = False


@dataclass(frozen=True)
class Oldest:
    """The file that has waited for the longest time. `record` is None while it is in incoming;
    `stage` is one of WAITING; `reason` tells why it waits."""

    destination: Destination
    key: str
    record: int | None
    stage: str
    since: datetime
    reason: str

    @property
    def name(self) -> str:
        """What tells it from every other file."""
        return str(self.record) if self.record else "/".join((*self.destination, self.key))


@dataclass(frozen=True)
class Digest:
    """What one spool has to tell at the moment `at` (aware).

    `since` is when the last digest was told; `failed` counts all that lies in failed, told or not,
    but for the `superseded`, of which a later version is under way or completed; `late` says that
    the oldest file waits for longer than `max_age`, in seconds, where that has a limit. `trouble`
    is since when there is trouble, or was. `records` are those that are told of.
    """

    kind: str
    at: datetime
    host: str
    server_directory: str
    database: str
    since: datetime | None = None
    causes: tuple[Cause, ...] = ()
    failed: int = 0
    superseded: int = 0
    waiting: Amount = field(default_factory=Amount)
    oldest: Oldest | None = None
    late: bool = False
    max_age: float | None = None
    trouble: datetime | None = None
    records: tuple[int, ...] = ()

    @property
    def age(self) -> float:
        """For how long the oldest file has waited, in seconds."""
        since = self.oldest.since if self.oldest else self.at
        return max(0.0, (self.at - since).total_seconds())


def test(server_directory: str, database: str, at: datetime) -> Digest:
    """What shows that a digest arrives."""
    return Digest(TEST, at, socket.gethostname(), server_directory, database)


def look(status: Status, known: Memory, *, max_age: float | None, gather: float) -> Digest:
    """What a spool has to tell, `known` being told already. A failure is no news before it is
    `gather` seconds old, as others may follow; all of them are told together then."""
    failures = [one for one in digest_records.untold() if not _superseded(one, status)]
    waiting = status.total(WAITING)
    oldest = _oldest(status)
    since = oldest.since if oldest else status.at
    late = max_age is not None and (status.at - since).total_seconds() > max_age
    first = failures[0].failed if failures else None
    kind = NOTHING
    if _gathered(first, status.at, gather) or (late and _is_news(oldest, status, known)):
        kind = TROUBLE
    elif known.trouble and not (failures or late) and _all_is_well(status):
        kind = WELL
    causes = tuple(_causes(failures))
    failed = status.total((FAILED,)).files
    if not status.whole:  # not all of those that are told of may have been met
        failed = max(failed, sum(one.files for one in causes if not one.gone))
    begun = [moment for moment in (known.trouble, first, since if late else None) if moment]
    return Digest(
        kind=kind,
        at=status.at,
        host=socket.gethostname(),
        server_directory=status.server_directory,
        database=status.database,
        since=known.told,
        causes=causes,
        failed=failed,
        superseded=status.total((SUPERSEDED,)).files,
        waiting=waiting,
        oldest=oldest,
        late=late,
        max_age=max_age,
        trouble=min(begun, default=None),
        records=tuple(one.id for one in failures),
    )


def _gathered(first: datetime | None, at: datetime, gather: float) -> bool:
    # A failure in the future, as the clock was set back, is not waited for.
    return first is not None and not 0 <= (at - first).total_seconds() < gather


def _superseded(one: Untold, status: Status) -> bool:
    # As flood-status counts, and flood-retry refuses: nothing to tell a person of.
    return one.superseded or (*one.destination, one.key) in status.arriving


def _is_news(oldest: Oldest | None, status: Status, known: Memory) -> bool:
    if oldest is None or known.age is None:
        return True
    if status.whole and oldest.name != known.oldest:
        return True
    # What goes on waiting is told again each time that its age has doubled.
    return (status.at - oldest.since).total_seconds() >= 2 * known.age


def _all_is_well(status: Status) -> bool:
    # Where not all files could be counted in time, nobody knows.
    failed = status.total((FAILED,)).files
    left = failed or status.unrecorded
    return status.whole and not left and not digest_records.failed_before()


def _causes(failures: Iterable[Untold]) -> list[Cause]:
    groups: dict[tuple[Destination, str, bool], list[Untold]] = {}
    for one in failures:
        groups.setdefault((one.destination, one.code, one.gone), []).append(one)
    causes = [
        Cause(
            destination=destination,
            code=code,
            files=len(group),
            size=sum(one.size for one in group),
            oldest=group[0].failed,
            newest=group[-1].failed,
            hint=group[-1].message,
            named=tuple((one.id, one.key) for one in group[:NAMED]),
            gone=gone,
        )
        for (destination, code, gone), group in groups.items()
    ]
    return sorted(causes, key=lambda one: (-one.files, one.destination, one.code))


def _oldest(status: Status) -> Oldest | None:
    found = []
    arrived = status.arrived
    if arrived is not None:
        place = arrived.place
        destination = (place.profile, place.bucket)
        reason = _why_arrived(status, arrived)
        found.append(Oldest(destination, place.key, None, INCOMING, arrived.since, reason))
    for closed in status.closed:
        if (at := closed.waiting) is not None:
            whose = (at.profile, at.bucket)
            found.append(Oldest(whose, at.key, None, INCOMING, closed.since, _CLOSED))
    record = None if status.first is None else digest_records.waiting(status.first)
    if record is not None:
        stage, reason = _why_waiting(status, record)
        found.append(Oldest(record.destination, record.key, record.id, stage, record.since, reason))
    return min(found, key=lambda one: one.since, default=None)


def _why_arrived(status: Status, arrived: Lying) -> str:
    stranded = arrived.place.state != INCOMING
    where = "in processing without a record" if stranded else "in incoming"
    if not status.watching:
        return f"flood-watch does not run: what is {where} waits until it does"
    if status.watch_stopped is not None:
        return (
            f"flood-watch is stopped: what is {where} waits; to let it go on: "
            f"{stall.go_on([status.watch_stopped])}"
        )
    if stranded:
        return "whoever took it was killed before it had a record: flood-watch takes it up"
    if any(back.lying == arrived for back in status.back):
        return "an earlier version of the same key is still being worked on"
    return "flood-watch has not taken it: its log says why"


def _why_waiting(status: Status, record: digest_records.Waiting) -> tuple[str, str]:
    if record.claimed:
        return UPLOADING, "it is being uploaded"
    failed = f"; {record.code}: {record.message}" if record.code else ""
    if record.due is not None and record.due > status.at:
        due = naturaldelta(record.due - status.at)
        attempt = which_attempt(record.retry_count, record.move_to)
        return RETRY, f"{attempt} is due in {due}{failed}"
    if status.idle:
        return DUE, f"all consumers are stopped{failed}"
    if status.starting:
        return DUE, f"no consumer takes files yet: {stall.STARTING}{failed}"
    if not status.consuming:
        return DUE, f"no consumer runs, so nothing is uploaded{failed}"
    if status.stalled:
        return DUE, f"{stall.WHY}{failed}"
    if record.destination[0] in status.unserved:
        return DUE, (
            "no worker takes it, though one is free: the credentials may lack the profile; "
            f"flood-check looks{failed}"
        )
    return DUE, f"it waits for a worker{failed}"
