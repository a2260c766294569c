"""What records are made of, as plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from flood.columns import name_from
from flood.identity import Identity
from flood.states import FAILURE, PERMANENT
from flood.stored import utc_moment

#: What one task carries at the most: so many small files, so many bytes of them.
TASK_FILES: Final = 256
TASK_BYTES: Final = 256 * 1024**2

#: How far ahead a time must be for the clock to have been set back since.
AHEAD: Final = timedelta(seconds=2)

#: SQLite allowed 999 variables in one statement for long (SQLITE_MAX_VARIABLE_NUMBER).
_CHUNK: Final = 400

ROW_COLUMNS: Final = (
    "id, profile, bucket, filepath, current_state, spool_path, device, inode, size, mtime_ns, owner"
)
# A person's UPDATE may leave a claim without its time; such a row must not stop all others.
CLAIM_COLUMNS: Final = (
    "id, profile, bucket, filepath, spool_path, device, inode, size, mtime_ns, retry_count, "
    "claim_number, owner, COALESCE(claimed_at, last_updated), alone, claim_size, "
    "multipart_upload_id, etag, version_id, checksum, bytes_sent, changed_ns, upload_outcome, "
    "error_code, error_message"
)
#: Where a record's file has only to be moved to any more, as `records.release` keeps it: its upload
#: is proven, or was given up. Null where it is still to be uploaded.
MOVE_TO: Final = (
    "CASE WHEN current_state <> 'processing' THEN NULL "
    "WHEN upload_outcome = 'failure' THEN 'failed' "
    "WHEN etag IS NOT NULL AND changed_ns IS NOT NULL THEN 'completed' END"
)


def of_last_attempt(column: str) -> str:
    """What the last attempt of a record has in this column."""
    return (
        f"(SELECT {column} FROM retry_attempts WHERE record_id = file_records.id "
        "ORDER BY id DESC LIMIT 1)"
    )


def _why(column: str) -> str:
    # A record that was given up keeps that reason for failed; its last attempt has why its file
    # could not be moved there.
    return (
        "CASE WHEN current_state = 'processing' AND upload_outcome = 'failure' "
        f"THEN coalesce({of_last_attempt(column)}, {column}) ELSE {column} END"
    )


#: Why a record is tried again, if an attempt has failed: be it only the move.
WHY_CODE: Final = _why("error_code")
WHY_MESSAGE: Final = _why("error_message")


class Arrival(NamedTuple):
    """A file to be recorded: its destination, where it lies now, what it is, when it was created
    (aware)."""

    profile: str
    bucket: str
    key: str
    path: str
    identity: Identity
    created: datetime


@dataclass(frozen=True)
class Row:
    """What recovery asks of a record; `owner` is None while nobody has claimed it."""

    id: int
    profile: str
    bucket: str
    key: str
    state: str
    path: str
    identity: Identity
    owner: str | None


class Proof(NamedTuple):
    """The receipt's part that the record keeps."""

    etag: str | None
    version_id: str | None
    checksum: str | None
    bytes_sent: int
    #: When the inode had last changed, as `flood.identity.changed_ns` has it.
    changed_ns: int | None = None


class Reason(NamedTuple):
    """Why an attempt was no success: its kind, a short stable code, a sentence for a person."""

    kind: str
    code: str
    message: str


class Claimed(NamedTuple):
    """A record that this worker has the right to work on while `number` stands in its row."""

    id: int
    profile: str
    bucket: str
    key: str
    path: str
    identity: Identity
    retry_count: int
    number: int
    owner: str
    claimed_at: datetime
    #: Whether it is to be claimed alone, after a lost attempt.
    alone: bool
    #: How many records this claim took at once.
    company: int
    multipart_upload_id: str | None
    #: That of an earlier attempt, after which the file could not be moved.
    proof: Proof | None
    #: Why it was given up earlier, after which it could not be moved.
    verdict: Reason | None


def which_attempt(retry_count: int, move_to: str | None) -> str:
    """What a record's next attempt is called, after so many that have cost a retry; `move_to` as
    MOVE_TO."""
    if move_to is not None:
        return f"the move to {move_to}"
    return f"retry {retry_count}" if retry_count else "the first attempt"


def row_from(columns: Sequence[Any]) -> Row:
    """A row selected as ROW_COLUMNS."""
    return Row(
        id=columns[0],
        profile=name_from(columns[1]),
        bucket=name_from(columns[2]),
        key=name_from(columns[3]),
        state=columns[4],
        path=name_from(columns[5]),
        identity=Identity(*columns[6:10]),
        owner=columns[10],
    )


def claimed_from(columns: Sequence[Any]) -> Claimed:
    """A claimed row selected as CLAIM_COLUMNS."""
    return Claimed(
        id=columns[0],
        profile=name_from(columns[1]),
        bucket=name_from(columns[2]),
        key=name_from(columns[3]),
        path=name_from(columns[4]),
        identity=Identity(*columns[5:9]),
        retry_count=columns[9],
        number=columns[10],
        owner=columns[11],
        claimed_at=utc_moment(columns[12]),
        alone=bool(columns[13]),
        company=columns[14],
        multipart_upload_id=columns[15],
        # Every store answers an upload with an ETag.
        proof=Proof(*columns[16:21]) if columns[16] is not None else None,
        verdict=Reason(PERMANENT, columns[22], columns[23]) if columns[21] == FAILURE else None,
    )


def chunks(values: Sequence[Any], of: int = 1) -> Iterator[tuple[Sequence[Any], str]]:
    """Parts of `values`, each value of so many variables, that fit one statement, with a question
    mark for each value."""
    step = _CHUNK // of
    for start in range(0, len(values), step):
        part = values[start : start + step]
        yield part, ",".join("?" * len(part))
