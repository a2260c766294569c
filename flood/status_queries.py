"""What flood-status asks the tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.due_queries import UNCLAIMED
from flood.identity import Identity
from flood.layout import Place
from flood.queries import of_keys
from flood.record_values import MOVE_TO, WHY_CODE, WHY_MESSAGE, chunks, of_last_attempt
from flood.states import GONE_BEFORE, INCOMING
from flood.stored import utc_moment
from flood.versions import SINCE, VERSION, Newest

#: A profile with a bucket.
Destination = tuple[str, str]


@dataclass(frozen=True)
class Waiting:
    """Unclaimed records of one destination: due, or to be tried later; `age` is the number of the
    bound of `backlog` that they are younger than. `first` is the id of the oldest."""

    destination: Destination
    later: bool
    age: int
    files: int
    size: int
    first: int


@dataclass(frozen=True)
class Held:
    """A claimed record."""

    id: int
    destination: Destination
    key: str
    size: int
    owner: str
    claim: int
    retry_count: int
    claimed_at: datetime
    created_at: datetime


@dataclass(frozen=True)
class Coming:
    """A record that waits for its retry, or for a worker."""

    id: int
    destination: Destination
    key: str
    retry_count: int
    due: datetime
    claimed: bool
    #: As `record_values.MOVE_TO`.
    move_to: str | None
    code: str | None
    message: str | None


@dataclass(frozen=True)
class Failed:
    """The record of a file in failed; `superseded` as `versions.Newest` has it."""

    id: int
    destination: Destination
    key: str
    superseded: bool
    size: int
    settled: datetime
    code: str | None
    message: str | None


def backlog(now: datetime, bounds: Sequence[int]) -> list[Waiting]:
    """What is in processing, and nobody has claimed; `bounds` are ids from the highest down."""
    ages = " ".join(f"WHEN id >= {bound:d} THEN {number}" for number, bound in enumerate(bounds))
    rows = models.execute(
        f"SELECT profile, bucket, next_attempt_at > ? AS later, CASE {ages} ELSE {len(bounds)} END "
        "AS age, count(*), sum(size), min(id) FROM file_records "
        f"WHERE {UNCLAIMED} GROUP BY profile, bucket, later, age",
        (utc_text(now),),
    ).fetchall()
    return [Waiting(_destination(row), bool(row[2]), *row[3:]) for row in rows]


def in_processing_by_destination() -> "Counter[Destination]":
    """How many records are in processing."""
    rows = models.execute(
        "SELECT profile, bucket, count(*) FROM file_records WHERE current_state = 'processing' "
        "GROUP BY profile, bucket"
    ).fetchall()
    return Counter({_destination(row): row[2] for row in rows})


def taken(files: Sequence[tuple[Place, Identity]]) -> set[tuple[Place, Identity]]:
    """Those of these files of incoming that the records have in processing, or further on."""
    found: set[tuple[Place, Identity]] = set()
    columns = "profile, bucket, filepath, device, inode, size, mtime_ns"
    where = "current_state NOT IN ('incoming_tmp', 'incoming')"
    keys = [(place.profile, place.bucket, place.key) for place, _ in files]
    for row in of_keys(keys, columns, where):
        place = Place(INCOMING, *map(name_from, row[:3]))
        found.add((place, Identity(*row[3:])))
    return found & set(files)


def first_waiting() -> int:
    """The lowest id of a record that nobody has claimed; 1 if there is none. Below it are, in a
    database that was made again, the records of what had come to its end, which do not say when
    their files came."""
    # With +id it reads what waits, and not all records from the first one on.
    row = models.execute(f"SELECT min(+id) FROM file_records WHERE {UNCLAIMED}").fetchone()
    return int(row[0] or 1)


def first_since(moment: datetime, low: int) -> int:
    """The lowest id from `low` on of a record whose file came at that moment (aware) or later, as
    far as a clock that was set back lets ids tell; one above all if there is none."""
    high = int(models.execute("SELECT max(id) FROM file_records").fetchone()[0] or 0) + 1
    text = utc_text(moment)
    while low < high:
        middle = (low + high) // 2
        found, created = models.execute(
            "SELECT id, created_at FROM file_records WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).fetchone()
        if created >= text:
            high = middle
        else:
            low = found + 1
    return low


def created(ids: Iterable[int]) -> dict[int, datetime]:
    """When these records were made."""
    moments: dict[int, datetime] = {}
    for part, marks in chunks(list(ids)):
        rows = models.execute(
            f"SELECT id, created_at FROM file_records WHERE id IN ({marks})", tuple(part)
        ).fetchall()
        moments |= {record: utc_moment(text) for record, text in rows}
    return moments


def claimed() -> list[Held]:
    """What workers have claimed, the longest first."""
    rows = models.execute(
        "SELECT profile, bucket, filepath, id, size, owner, claim_number, retry_count, "
        "COALESCE(claimed_at, last_updated), created_at FROM file_records "
        "WHERE current_state = 'processing' AND owner IS NOT NULL"
    ).fetchall()
    held = [
        Held(
            id=row[3],
            destination=_destination(row),
            key=name_from(row[2]),
            size=row[4],
            owner=row[5],
            claim=row[6],
            retry_count=row[7],
            claimed_at=utc_moment(row[8]),
            created_at=utc_moment(row[9]),
        )
        for row in rows
    ]
    return sorted(held, key=lambda one: (one.claimed_at, one.id))


def recorded() -> bool:
    """Whether there has ever been a record, even if none was kept."""
    row = models.execute("SELECT seq FROM sqlite_sequence WHERE name = 'file_records'").fetchone()
    return row is not None and row[0] > 0


def completed() -> dict[Destination, tuple[int, int]]:
    """How many records each destination has in completed, with the sum of their sizes."""
    rows = models.execute(
        "SELECT profile, bucket, count(*), sum(size) FROM file_records "
        "WHERE current_state = 'completed' GROUP BY profile, bucket"
    ).fetchall()
    return {_destination(row): (row[2], row[3]) for row in rows}


def completed_since(destination: Destination, moment: datetime) -> tuple[int, int]:
    """How many were completed at that moment (aware) or later, with the sum of their sizes."""
    files, size = models.execute(
        "SELECT count(*), sum(size) FROM file_records WHERE current_state = 'completed' "
        "AND profile = ? AND bucket = ? AND completed_at >= ?",
        (*map(name_value, destination), utc_text(moment)),
    ).fetchone()
    return files, size or 0


def failures() -> tuple[int, int]:
    """How many records there are in failed, whatever has become of their files, and of how many
    files they are: one that flood-retry put back may have failed again."""
    records, files = models.execute(
        "SELECT count(*), count(DISTINCT COALESCE(origin, id)) FROM file_records "
        "WHERE current_state = 'failed'"
    ).fetchone()
    return records, files


def gone_before() -> Iterator[tuple[str, str, str]]:
    """Profile, bucket, key of each file that was gone before it could come to failed, the latest
    first, but where a later version of the key has its file."""
    codes = ", ".join(f"'{code}'" for code in GONE_BEFORE)
    rows = models.execute(
        f"SELECT {VERSION} FROM file_records AS one "
        f"WHERE current_state = 'failed' AND error_code IN ({codes}) ORDER BY +id DESC"
    )
    for row, superseded in Newest().of(rows):
        if not superseded:
            yield name_from(row[0]), name_from(row[1]), name_from(row[2])


def failed_at(paths: Sequence[str]) -> dict[str, Failed]:
    """The latest record in failed of each of these files, by where it lies."""
    found: dict[str, Failed] = {}
    newest = Newest()
    for part, marks in chunks(paths):
        rows = models.execute(
            f"SELECT {VERSION}, spool_path, id, size, {SINCE}, error_code, error_message "
            f"FROM file_records AS one WHERE spool_path IN ({marks}) AND current_state = 'failed'",
            tuple(map(name_value, part)),
        )
        for row, superseded in newest.of(rows):
            path = name_from(row[5])
            failed = Failed(
                id=row[6],
                destination=_destination(row),
                key=name_from(row[2]),
                superseded=superseded,
                size=row[7],
                settled=utc_moment(row[8]),
                code=row[9],
                message=row[10],
            )
            if path not in found or found[path].id < failed.id:
                found[path] = failed
    return found


# An attempt that cost nothing leaves its reason in the history.
_COMING: Final = (
    "profile, bucket, filepath, id, retry_count, next_attempt_at, owner IS NOT NULL, "
    f"{MOVE_TO}, coalesce({WHY_CODE}, {of_last_attempt('error_code')}), "
    f"coalesce({WHY_MESSAGE}, {of_last_attempt('error_message')})"
)


def next_retries(destination: Destination, now: datetime, limit: int) -> list[Coming]:
    """The first of those that are to be tried later than now (aware)."""
    rows = models.execute(
        f"SELECT {_COMING} FROM file_records WHERE current_state = 'processing' "
        "AND owner IS NULL AND profile = ? AND bucket = ? AND next_attempt_at > ? "
        "ORDER BY next_attempt_at, id LIMIT ?",
        (*map(name_value, destination), utc_text(now), limit),
    ).fetchall()
    return [_coming(row) for row in rows]


def in_processing(keys: Iterable[tuple[Destination, str]]) -> dict[tuple[Destination, str], Coming]:
    """The record that each of these keys has in processing, as far as it has one."""
    found: dict[tuple[Destination, str], Coming] = {}
    for destination, key in keys:
        row = models.execute(
            f"SELECT {_COMING} FROM file_records WHERE current_state = 'processing' "
            "AND profile = ? AND bucket = ? AND filepath = ?",
            (*map(name_value, destination), name_value(key)),
        ).fetchone()
        if row is not None:
            found[destination, key] = _coming(row)
    return found


def queue() -> tuple[int, int] | None:
    """How many tasks wait in the queue, and in its schedule; None where its tables are missing."""
    try:
        row = models.execute(
            "SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM schedule)"
        ).fetchone()
    except models.DatabaseError:
        return None
    return row[0], row[1]


def last_sweep() -> datetime | None:
    """When the last sweep began (aware); None if none has since a consumer started."""
    row = models.execute("SELECT last_swept_at FROM spool WHERE id = 1").fetchone()
    return utc_moment(row[0]) if row and row[0] else None


def _destination(row: Sequence[Any]) -> Destination:
    return name_from(row[0]), name_from(row[1])


def _coming(row: Sequence[Any]) -> Coming:
    due = utc_moment(row[5])
    return Coming(row[3], _destination(row), name_from(row[2]), row[4], due, bool(row[6]), *row[7:])


def tried(profile: str, since: datetime) -> bool:
    """Whether a worker had a file of this profile since then (aware) that waits for its retry."""
    found = models.execute(
        f"SELECT 1 FROM file_records WHERE {UNCLAIMED} "
        "AND next_attempt_at >= ? AND profile = ? AND claimed_at >= ? LIMIT 1",
        (utc_text(since), name_value(profile), utc_text(since)),
    ).fetchone()
    return found is not None
