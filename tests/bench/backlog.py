"""Makes a database that has seen a million files, with a hundred thousand more in backoff."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from flood.columns import utc_text
from flood.identity import identity_of
from tests.bulk import without_indices

_DIRECTORY: Final = 1_000  # files in each
_SIZE: Final = 4096
_RETRIES_LEFT: Final = 5  # of ten

_FINISHED: Final = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
    last_updated, upload_outcome, device, inode, size, mtime_ns, spool_path, claim_number, etag,
    changed_ns, bytes_sent, created_at, completed_at)
SELECT :profile, :bucket, printf('before/%04d/%06d.bin', i / 1000, i), :at, 'completed', :at,
    'success', 1, i, :size, i, printf('completed/%s/%s/before/%04d/%06d.bin', :profile, :bucket,
    i / 1000, i), i, printf('%032x', i), i, :size, :at, :at FROM n
"""
_FINISHED_ATTEMPTS: Final = """
INSERT INTO retry_attempts (record_id, retry_number, started_at, finished_at, outcome, worker)
SELECT id, 0, :at, :at, 'success', '1:1' FROM file_records WHERE current_state = 'completed'
"""
_WAITING: Final = """
INSERT INTO file_records (profile, bucket, filepath, file_creation_date, current_state,
    last_updated, device, inode, size, mtime_ns, spool_path, retry_count, next_attempt_at,
    error_code, error_message, created_at)
VALUES (:profile, :bucket, :key, :at, 'processing', :at, :device, :inode, :size, :mtime_ns,
    :path, 5, :due, 'http_503', 'the store had no time', :at) RETURNING id
"""
_WAITING_ATTEMPTS: Final = """
INSERT INTO retry_attempts (record_id, retry_number, started_at, finished_at, outcome, kind,
    error_code, error_message, delay_seconds, next_attempt_at, worker)
SELECT id, retry_number, :at, :at, 'failure', 'transient', error_code, error_message, 30.0,
    :at, '1:1'
FROM file_records CROSS JOIN
    (SELECT 0 AS retry_number UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
     UNION ALL SELECT 4) WHERE current_state = 'processing'
"""


def fill(
    database: Path,
    spool: Path,
    profile: str,
    bucket: str,
    *,
    finished: int,
    waiting: int,
    delay: timedelta,
) -> None:
    """Add `finished` records of uploaded files, and `waiting` files in processing which have
    failed five times and are due after `delay`, to a spool that was set up and is not in use.

    The former have no file, which flood does not ask for; the latter have theirs, and a task each.
    """
    now = datetime.now(timezone.utc)
    names = {"profile": profile, "bucket": bucket, "at": utc_text(now - timedelta(days=1))}
    due = now + delay
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        with without_indices(connection):
            connection.execute(_FINISHED, {**names, "count": finished, "size": _SIZE})
            connection.execute(_FINISHED_ATTEMPTS, names)
            ids = []
            for file in _files(spool, f"processing/{profile}/{bucket}", waiting):
                row = connection.execute(_WAITING, {**names, **file, "due": utc_text(due)})
                ids += row.fetchone()
            connection.execute(_WAITING_ATTEMPTS, names)
            connection.executemany(
                "INSERT INTO schedule (queue, data, timestamp) VALUES ('flood', ?, ?)",
                _tasks(profile, bucket, ids, due),
            )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _files(spool: Path, place: str, count: int) -> Iterator[dict[str, Any]]:
    content = os.urandom(_SIZE)
    for number in range(count):
        key = f"waiting/{number // _DIRECTORY:04}/{number:06}.bin"
        file = spool / place / key
        if number % _DIRECTORY == 0:
            file.parent.mkdir(parents=True)
        file.write_bytes(content)
        yield {"key": key, "path": f"{place}/{key}", **identity_of(file.stat())._asdict()}


def _tasks(
    profile: str, bucket: str, ids: Iterable[int], due: datetime
) -> Iterator[tuple[bytes, float]]:
    """Each record's retry, as it stands in huey's schedule."""
    eta = due.replace(tzinfo=None).isoformat()
    for record_id in ids:
        task = {
            "args": [profile, bucket, [record_id]],
            "eta": eta,
            "id": str(uuid4()),
            "kwargs": {},
            "name": "flood.tasks.upload",
            "retries": _RETRIES_LEFT,
            "retry_delay": 0,
        }
        # huey takes a time of day without a zone for the local one.
        yield json.dumps(task).encode(), datetime.fromisoformat(eta).timestamp()
