"""What the tables know of one key."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flood import models
from flood.columns import name_from, name_value
from flood.identity import Identity
from flood.record_values import MOVE_TO
from flood.states import FAILED
from flood.stored import utc_moment

_COLUMNS: Final = (
    "id, current_state, upload_outcome, spool_path, size, created_at, last_updated, completed_at, "
    "retry_count, next_attempt_at, owner, claimed_at, etag, version_id, checksum, error_code, "
    "error_message, file_creation_date, left_at, left_how, COALESCE(origin, id), device, inode, "
    f"mtime_ns, changed_ns, {MOVE_TO}"
)


@dataclass(frozen=True)
class Attempt:
    """A row of retry_attempts; times are aware."""

    number: int
    started: datetime
    finished: datetime
    outcome: str
    kind: str | None
    code: str | None
    message: str | None
    next: datetime | None


@dataclass(frozen=True)
class Record:
    """A row of file_records with its attempts; times are aware."""

    id: int
    state: str
    outcome: str | None
    path: str
    size: int
    made: datetime
    updated: datetime
    settled: datetime | None
    retry_count: int
    due: datetime | None
    owner: str | None
    claimed: datetime | None
    etag: str | None
    version: str | None
    checksum: str | None
    code: str | None
    message: str | None
    created: datetime
    #: When its file left completed or failed, and how, as `departures.How` has it.
    left: datetime | None
    left_how: str | None
    #: The first record of the file: versions of a key come in this order.
    origin: int
    identity: Identity
    #: When its inode had last changed as its upload was proven.
    changed_ns: int | None
    #: As `record_values.MOVE_TO`.
    move_to: str | None
    attempts: tuple[Attempt, ...]

    @property
    def gone_before(self) -> bool:
        """Whether its file was gone before it could come to failed: it has its last path."""
        return self.state == FAILED and not self.path.startswith(f"{FAILED}/")


def records(profile: str, bucket: str, key: str) -> list[Record]:
    """Every record of this key, in the order in which they were made."""
    rows = models.execute(
        f"SELECT {_COLUMNS} FROM file_records WHERE profile = ? AND bucket = ? AND filepath = ? "
        "ORDER BY id",
        (name_value(profile), name_value(bucket), name_value(key)),
    ).fetchall()
    return [_record(row) for row in rows]


def _record(row: Any) -> Record:
    return Record(
        id=row[0],
        state=row[1],
        outcome=row[2],
        path=name_from(row[3]),
        size=row[4],
        made=utc_moment(row[5]),
        updated=utc_moment(row[6]),
        settled=_moment(row[7]),
        retry_count=row[8],
        due=_moment(row[9]),
        owner=row[10],
        claimed=_moment(row[11]),
        etag=row[12],
        version=row[13],
        checksum=row[14],
        code=row[15],
        message=row[16],
        created=utc_moment(row[17]),
        left=_moment(row[18]),
        left_how=row[19],
        origin=row[20],
        identity=Identity(row[21], row[22], row[4], row[23]),
        changed_ns=row[24],
        move_to=row[25],
        attempts=_attempts(row[0]),
    )


def _attempts(record_id: int) -> tuple[Attempt, ...]:
    rows = models.execute(
        "SELECT retry_number, started_at, finished_at, outcome, kind, error_code, error_message, "
        "next_attempt_at FROM retry_attempts WHERE record_id = ? ORDER BY id",
        (record_id,),
    ).fetchall()
    return tuple(
        Attempt(
            number=row[0],
            started=utc_moment(row[1]),
            finished=utc_moment(row[2]),
            outcome=row[3],
            kind=row[4],
            code=row[5],
            message=row[6],
            next=_moment(row[7]),
        )
        for row in rows
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else utc_moment(text)
