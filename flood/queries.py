"""Questions about records that change nothing of their state."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.identity import Identity
from flood.record_values import AHEAD, ROW_COLUMNS, Row, chunks, row_from
from flood.stored import utc_moment

#: Before every inode with an id, each as SQLite has them.
FIRST: Final = (-(2**63), 0)

# However many versions a key has had, whoever asks for the latest looks at so many: those before
# were settled before, but where flood-put copied one for longer.
_LATEST: Final = 100

#: A key with its profile and bucket, as the tables hold them.
StoredKey = tuple[str | bytes, str | bytes, str | bytes]

_ARRIVING: Final = "current_state IN ('incoming_tmp', 'incoming')"


def at_paths(paths: Sequence[str], state: str) -> dict[str, Row]:
    """The rows in this state of files at these paths."""
    rows: dict[str, Row] = {}
    for part, marks in chunks(paths):
        for columns in models.execute(
            f"SELECT {ROW_COLUMNS} FROM file_records "
            f"WHERE spool_path IN ({marks}) AND current_state = ?",
            (*(name_value(path) for path in part), state),
        ).fetchall():
            row = row_from(columns)
            rows[row.path] = row
    return rows


def settled(profile: str, bucket: str, key: str, identity: Identity, since: datetime) -> Row | None:
    """The latest row of exactly this file, if it is in completed or failed, and was written at
    `since` (aware) or later. Those of newer versions of its key may have run ahead, too."""
    columns = models.execute(
        f"SELECT {ROW_COLUMNS} FROM (SELECT * FROM ("
        "SELECT * FROM file_records WHERE profile = ? AND bucket = ? AND filepath = ? "
        "ORDER BY id DESC LIMIT ?) "
        "WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ? ORDER BY id DESC LIMIT 1) "
        "WHERE current_state IN ('completed', 'failed') AND last_updated >= ?",
        (*map(name_value, (profile, bucket, key)), _LATEST, *identity, utc_text(since)),
    ).fetchone()
    return row_from(columns) if columns else None


def with_history(keys: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Those of these keys, each with its profile and bucket, that have a record in completed or
    failed."""
    stored = {(name_value(p), name_value(b), name_value(k)): (p, b, k) for p, b, k in keys}
    question = (
        "EXISTS (SELECT 1 FROM file_records WHERE profile = p AND bucket = b AND filepath = k "
        "AND current_state IN ('completed', 'failed'))"
    )
    return {stored[key] for key, answer in by_key(question, stored) if answer}


def by_key(question: str, keys: Collection[StoredKey]) -> Iterator[tuple[StoredKey, Any]]:
    """What `question` answers for each of these keys, whose parts are p, b, k in it."""
    for part, _ in chunks(list(keys), of=3):
        values = ",".join(["(?, ?, ?)"] * len(part))
        for p, b, k, answer in models.execute(
            f"WITH asked (p, b, k) AS (VALUES {values}) SELECT p, b, k, ({question}) FROM asked",
            tuple(name for key in part for name in key),
        ).fetchall():
            yield (p, b, k), answer


def of_keys(keys: Sequence[tuple[str, str, str]], columns: str, where: str) -> Iterator[Any]:
    """These columns of all records of these keys, each with its profile and bucket, that fulfil a
    condition."""
    for part, _ in chunks(keys, of=3):
        values = ",".join(["(?, ?, ?)"] * len(part))
        yield from models.execute(
            # A join, as for a row value in a list SQLite reads the whole index; CROSS keeps it in
            # this order (sqlite.org/optoverview.html).
            f"WITH asked (p, b, k) AS (VALUES {values}) "
            f"SELECT {columns} FROM asked CROSS JOIN file_records "
            f"ON profile = p AND bucket = b AND filepath = k WHERE {where}",
            tuple(name_value(name) for key in part for name in key),
        ).fetchall()


def arriving(after: tuple[int, int], limit: int) -> list[Row]:
    """A page of the rows in incoming_tmp and incoming, by inode and id, from beyond these on."""
    inode, last = after
    # One step through the index, which is by them: with both in one comparison SQLite reads all of
    # it for each page.
    return [
        row_from(columns)
        for columns in models.execute(
            f"SELECT * FROM (SELECT {ROW_COLUMNS} FROM file_records WHERE {_ARRIVING} "
            "AND inode = ? AND id > ? ORDER BY id LIMIT ?) UNION ALL "
            f"SELECT * FROM (SELECT {ROW_COLUMNS} FROM file_records WHERE {_ARRIVING} "
            "AND inode > ? ORDER BY inode, id LIMIT ?) LIMIT ?",
            (inode, last, limit, inode, limit, limit),
        ).fetchall()
    ]


class Busy(NamedTuple):
    """What a worker is at: its name, the destination, since when (aware)."""

    owner: str
    profile: str
    bucket: str
    since: datetime


def at_work() -> list[Busy]:
    """What each worker that has claimed something is at."""
    rows = models.execute(
        # Somebody who claims by hand may give no time.
        "SELECT owner, profile, bucket, COALESCE(claimed_at, last_updated) FROM file_records "
        "WHERE id IN (SELECT min(id) FROM file_records WHERE current_state = 'processing' "
        "AND owner IS NOT NULL GROUP BY owner)"
    ).fetchall()
    return [Busy(owner, name_from(p), name_from(b), utc_moment(at)) for owner, p, b, at in rows]


def owners_of(size: int) -> set[str]:
    """The workers that have claimed files of so many bytes or more."""
    rows = models.execute(
        "SELECT DISTINCT owner FROM file_records "
        "WHERE current_state = 'processing' AND owner IS NOT NULL AND size >= ?",
        (size,),
    ).fetchall()
    return {row[0] for row in rows}


def delivered_since(profile: str, bucket: str, moment: datetime) -> bool:
    """Whether a file was uploaded there at this moment (aware) or later."""
    row = models.execute(
        "SELECT EXISTS (SELECT 1 FROM file_records WHERE current_state = 'completed' "
        "AND profile = ? AND bucket = ? AND completed_at >= ?)",
        (name_value(profile), name_value(bucket), utc_text(moment)),
    ).fetchone()
    return bool(row[0])


def left_to_sweep(now: datetime) -> bool:
    """Whether a sweep may have more to do than to ring, or to take over what dead workers left."""
    row = models.execute(
        "SELECT EXISTS (SELECT 1 FROM file_records "
        "WHERE current_state IN ('incoming_tmp', 'incoming')) "
        "OR EXISTS (SELECT 1 FROM file_records WHERE multipart_upload_id IS NOT NULL "
        "AND current_state IN ('completed', 'failed')) "
        "OR EXISTS (SELECT 1 FROM file_records WHERE current_state = 'processing' "
        "AND owner IS NULL AND last_updated > ?)",
        (utc_text(now + AHEAD),),
    ).fetchone()
    return bool(row[0])


class Leftover(NamedTuple):
    """A multipart upload of a settled record."""

    record_id: int
    profile: str
    bucket: str
    key: str
    upload_id: str


def leftover_multiparts() -> list[Leftover]:
    """All multipart uploads of settled records, in no order."""
    rows = models.execute(
        "SELECT id, profile, bucket, filepath, multipart_upload_id FROM file_records "
        "WHERE multipart_upload_id IS NOT NULL AND current_state IN ('completed', 'failed')"
    ).fetchall()
    return [
        Leftover(record_id, name_from(profile), name_from(bucket), name_from(key), upload_id)
        for record_id, profile, bucket, key, upload_id in rows
    ]


def multipart_gone(record_id: int, upload_id: str) -> None:
    """Forget a multipart upload that was aborted after its record was settled."""
    with models.write():
        models.execute(
            "UPDATE file_records SET multipart_upload_id = NULL WHERE id = ? "
            "AND multipart_upload_id = ? AND owner IS NULL",
            (record_id, upload_id),
        )


def attempts_with(record_id: int, code: str) -> int:
    """How many attempts of this record ended with this error code."""
    row = models.execute(
        "SELECT count(*) FROM retry_attempts WHERE record_id = ? AND error_code = ?",
        (record_id, code),
    ).fetchone()
    return int(row[0])


def outcomes(ids: Sequence[int]) -> dict[int, tuple[str, str | None, str | None]]:
    """State, error code, error message of these records."""
    found: dict[int, tuple[str, str | None, str | None]] = {}
    for part, marks in chunks(ids):
        for row in models.execute(
            "SELECT id, current_state, error_code, error_message FROM file_records "
            f"WHERE id IN ({marks})",
            tuple(part),
        ).fetchall():
            found[row[0]] = (row[1], row[2], row[3])
    return found


def sweep_begins(now: datetime, interval: float) -> bool:
    """Whether this caller is the one to sweep: nobody else has within `interval` seconds.

    A time in the future, left by a clock that was set back, does not hold the sweep up. Whoever
    calls takes `now` inside `models.write()`: who waited for that must not take the time of who was
    faster for the future.
    """
    with models.write():
        cursor = models.execute(
            "UPDATE spool SET last_swept_at = ? WHERE id = 1 AND (last_swept_at IS NULL "
            "OR last_swept_at <= ? OR last_swept_at > ?)",
            (utc_text(now), utc_text(now - timedelta(seconds=interval)), utc_text(now + AHEAD)),
        )
    return bool(cursor.rowcount)


def last_sweep() -> datetime | None:
    """When the last sweep began; None if none has since a consumer asked for one."""
    row = models.execute("SELECT last_swept_at FROM spool WHERE id = 1").fetchone()
    return utc_moment(row[0]) if row and row[0] else None


def hastened_at() -> str | None:
    """When somebody last asked that nothing waits, as the table has it; None if nobody has."""
    row = models.execute("SELECT hastened_at FROM spool WHERE id = 1").fetchone()
    return row[0] if row else None


def hasten(now: datetime) -> None:
    """Ask workers not to wait for a time that a store has asked for."""
    with models.write():
        models.execute("UPDATE spool SET hastened_at = ? WHERE id = 1", (utc_text(now),))


def ask_for_sweep() -> None:
    """Let the next sweep go ahead whenever the last one was."""
    with models.write():
        models.execute("UPDATE spool SET last_swept_at = NULL WHERE id = 1")
