"""What the tables know of failures that nobody was told of, of what was told before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.record_values import AHEAD, MOVE_TO, WHY_CODE, WHY_MESSAGE, chunks
from flood.status_queries import Destination
from flood.stored import utc_moment
from flood.versions import VERSION, Newest

#: How long somebody may be at telling before another one tries, beyond the interval.
LEASE: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Memory:
    """What was told. `told` is when the last digest was, `after` before when no other may be,
    `trouble` since when trouble is known that was told; `age`, in seconds, is that of the oldest
    file as it was told to wait for too long, `oldest` names that file. None: never, or nothing of
    that kind is open."""

    told: datetime | None
    after: datetime | None
    trouble: datetime | None
    age: float | None
    oldest: str | None


class Untold(NamedTuple):
    """A failed record that nobody was told of. `superseded` as `versions.Newest` has it; `gone`
    if its file has never come to failed, as somebody removed it before."""

    id: int
    destination: Destination
    key: str
    size: int
    failed: datetime
    code: str
    message: str | None
    superseded: bool
    gone: bool


@dataclass(frozen=True)
class Waiting:
    """A record in processing; `since` is when it was made."""

    id: int
    destination: Destination
    key: str
    since: datetime
    claimed: bool
    due: datetime | None
    retry_count: int
    #: As `record_values.MOVE_TO`.
    move_to: str | None
    code: str | None
    message: str | None


def memory() -> Memory:
    """What was told before."""
    told, after, trouble, age, oldest = models.execute(
        "SELECT last_told_at, tell_after, trouble_since, told_age, told_oldest FROM spool "
        "WHERE id = 1"
    ).fetchone()
    oldest = None if oldest is None else name_from(oldest)
    return Memory(_moment(told), _moment(after), _moment(trouble), age, oldest)


def untold() -> Iterator[Untold]:
    """The records that have failed, and nobody was told of, the oldest first."""
    rows = models.execute(
        f"SELECT {VERSION}, id, size, completed_at, error_code, error_message "
        "FROM file_records AS one "
        "WHERE current_state = 'failed' AND left_at IS NULL AND told_at IS NULL "
        "ORDER BY completed_at, id"
    )
    for row, superseded in Newest().of(rows):
        yield Untold(
            id=row[5],
            destination=(name_from(row[0]), name_from(row[1])),
            key=name_from(row[2]),
            size=row[6],
            failed=utc_moment(row[7]),
            code=row[8] or "",
            message=row[9],
            superseded=superseded,
            gone=not row[4],
        )


def waiting(record_id: int) -> Waiting | None:
    """This record, if it is still in processing."""
    row = models.execute(
        "SELECT id, profile, bucket, filepath, created_at, owner IS NOT NULL, next_attempt_at, "
        f"retry_count, {MOVE_TO}, {WHY_CODE}, {WHY_MESSAGE} FROM file_records "
        "WHERE id = ? AND current_state = 'processing'",
        (record_id,),
    ).fetchone()
    if row is None:
        return None
    return Waiting(
        id=row[0],
        destination=(name_from(row[1]), name_from(row[2])),
        key=name_from(row[3]),
        since=utc_moment(row[4]),
        claimed=bool(row[5]),
        due=_moment(row[6]),
        retry_count=row[7],
        move_to=row[8],
        code=row[9],
        message=row[10],
    )


def failed_before() -> bool:
    """Whether a file is in processing of which an attempt has failed, be it before flood-retry put
    it back."""
    row = models.execute(
        "SELECT EXISTS (SELECT 1 FROM file_records WHERE current_state = 'processing' "
        "AND (error_code IS NOT NULL OR origin IS NOT NULL))"
    ).fetchone()
    return bool(row[0])


def may_tell(known: Memory, now: datetime, interval: float) -> bool:
    """Whether the last digest is long enough ago. A time in the future beyond that, left by a clock
    that was set back, or by a longer interval, keeps nobody."""
    ahead = now + timedelta(seconds=interval) + LEASE + AHEAD
    return known.after is None or not now < known.after <= ahead


def claim(known: Memory, now: datetime, interval: float) -> str | None:
    """The right to tell what was found while `known` was what had been told, as a token for `told`
    or `give_back`; None if somebody else has it, or was faster.

    Who dies with it keeps others from telling for the interval, in seconds, and LEASE.
    """
    until = now + timedelta(seconds=interval) + LEASE
    token = utc_text(until)
    with models.write():
        cursor = models.execute(
            "UPDATE spool SET tell_after = ? WHERE id = 1 AND last_told_at IS ? "
            "AND (tell_after IS NULL OR tell_after <= ? OR tell_after > ?)",
            (token, _text(known.told), utc_text(now), utc_text(until + AHEAD)),
        )
    return token if cursor.rowcount else None


def told(
    token: str,
    ids: Sequence[int],
    now: datetime,
    *,
    after: datetime,
    trouble: datetime | None,
    age: float | None,
    oldest: str | None,
) -> bool:
    """Write down that somebody knows of these failures now; the others are as `Memory` has
    them. False: the right to tell was lost meanwhile, and nothing is written."""
    named = None if oldest is None else name_value(oldest)
    with models.write():
        cursor = models.execute(
            "UPDATE spool SET last_told_at = ?, tell_after = ?, trouble_since = ?, told_age = ?, "
            "told_oldest = ? WHERE id = 1 AND tell_after = ?",
            (utc_text(now), utc_text(after), _text(trouble), age, named, token),
        )
    if not cursor.rowcount:
        return False
    # Of a million each part is a transaction of its own, so that no writer waits for all of them.
    for part, marks in chunks(ids):
        with models.write():
            models.execute(
                f"UPDATE file_records SET told_at = ? WHERE id IN ({marks}) "
                "AND current_state = 'failed' AND told_at IS NULL",
                (utc_text(now), *part),
            )
    return True


def give_back(token: str, after: datetime) -> None:
    """Nobody could be told: let anybody try again, from `after` (aware) on."""
    with models.write():
        models.execute(
            "UPDATE spool SET tell_after = ? WHERE id = 1 AND tell_after = ?",
            (utc_text(after), token),
        )


def no_longer_late() -> None:
    """Note that no file waits for too long: the next one that does is news."""
    with models.write():
        models.execute("UPDATE spool SET told_age = NULL, told_oldest = NULL WHERE id = 1")


def _moment(text: Any) -> datetime | None:
    return utc_moment(text) if text else None


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
