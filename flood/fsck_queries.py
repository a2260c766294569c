"""What flood-fsck asks the tables."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.layout import Place
from flood.record_values import ROW_COLUMNS, Row, chunks, row_from
from flood.text import printable

#: Rows in one answer; between two answers nothing of the database is held.
_PAGE: Final = 5000

_COLUMNS: Final = f"{ROW_COLUMNS}, last_updated, claim_number, next_attempt_at, left_at"

#: A variable for each of three columns, within SQLite's old limit of 999.
_KEYS: Final = 300

# The first that holds of a row tells what is wrong with it.
_CONTRADICTIONS: Final = (
    ("current_state IN ('completed', 'failed') AND owner IS NOT NULL", "settled, yet claimed"),
    (
        "current_state IN ('completed', 'failed') AND next_attempt_at IS NOT NULL",
        "settled, yet due",
    ),
    ("current_state = 'completed' AND upload_outcome = 'failure'", "completed, as a failure"),
    (
        "current_state = 'failed' AND upload_outcome IS NOT 'failure'",
        "failed, yet its outcome is none",
    ),
    (
        # In processing a failure is one whose file could not be moved to failed yet.
        "current_state NOT IN ('completed', 'failed') AND upload_outcome IS NOT NULL "
        "AND NOT (current_state = 'processing' AND upload_outcome = 'failure')",
        "not settled, yet it has an outcome",
    ),
    (
        "current_state IN ('incoming_tmp', 'incoming') AND owner IS NOT NULL",
        "claimed before it was taken",
    ),
    (
        "left_at IS NOT NULL AND current_state NOT IN ('completed', 'failed')",
        "its file has left, yet the record was not settled",
    ),
    ("retry_count NOT BETWEEN 0 AND 10", "more retries than there are"),
)

# An attempt keeps the number of one that cost nothing, else it is one more. Where the last one
# ended the record (nothing was due after it), only a record that went back goes on, from 0.
_ATTEMPTS: Final = """
    SELECT record_id, retry_number, before FROM (
        SELECT record_id, retry_number, kind,
               LAG(retry_number) OVER ofs AS before, LAG(kind) OVER ofs AS ended,
               LAG(next_attempt_at) OVER ofs AS due
        FROM retry_attempts WINDOW ofs AS (PARTITION BY record_id ORDER BY id))
    WHERE CASE
        WHEN retry_number NOT BETWEEN 0 AND 10 THEN 1
        WHEN before IS NULL OR due IS NULL THEN retry_number <> 0
        WHEN ended = 'interrupted' THEN retry_number <> before
        WHEN ended = 'lost' THEN retry_number NOT IN (before, before + 1)
        ELSE retry_number <> before + 1 END
"""


class Recorded(NamedTuple):
    """A record with what tells whether it was changed between two looks."""

    row: Row
    last_updated: str
    claim_number: int
    next_attempt_at: str | None
    left_at: str | None


def count() -> int:
    """How many records there are."""
    return int(models.execute("SELECT count(*) FROM file_records").fetchone()[0])


def every() -> Iterator[list[Recorded]]:
    """All records by id, in pages."""
    after = 0
    while True:
        rows = models.execute(
            f"SELECT {_COLUMNS} FROM file_records WHERE id > ? ORDER BY id LIMIT {_PAGE}", (after,)
        ).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield [_recorded(row) for row in rows]


def by_id(ids: Sequence[int]) -> dict[int, Recorded]:
    """These records, as far as they exist."""
    found: dict[int, Recorded] = {}
    for part, marks in chunks(ids):
        for columns in models.execute(
            f"SELECT {_COLUMNS} FROM file_records WHERE id IN ({marks})", tuple(part)
        ).fetchall():
            found[columns[0]] = _recorded(columns)
    return found


def around(places: Sequence[Place], ids: Sequence[int] = ()) -> list[Recorded]:
    """Every record of these keys, of files at these places, and those with these ids."""
    found = by_id(ids)
    for part, marks in chunks([place.path for place in places]):
        _add(found, f"spool_path IN ({marks})", [name_value(path) for path in part])
    for start in range(0, len(places), _KEYS):
        names = [
            name_value(name)
            for place in places[start : start + _KEYS]
            for name in (place.profile, place.bucket, place.key)
        ]
        marks = ",".join(["(?, ?, ?)"] * (len(names) // 3))
        _add(found, f"(profile, bucket, filepath) IN (VALUES {marks})", names)
    return list(found.values())


def _add(found: dict[int, Recorded], where: str, parameters: Sequence[Any]) -> None:
    for columns in models.execute(
        f"SELECT {_COLUMNS} FROM file_records WHERE {where}", tuple(parameters)
    ).fetchall():
        found[columns[0]] = _recorded(columns)


def contradictions() -> list[tuple[Row, str]]:
    """Records that no program of flood's writes, each with what is wrong."""
    cases = " ".join(f"WHEN {where} THEN {n}" for n, (where, _) in enumerate(_CONTRADICTIONS))
    rows = models.execute(
        f"SELECT {ROW_COLUMNS}, CASE {cases} END AS wrong FROM file_records WHERE wrong IS NOT NULL"
    ).fetchall()
    return [(row_from(row), _CONTRADICTIONS[row[-1]][1]) for row in rows]


def odd_attempts() -> list[tuple[int, str]]:
    """Records with attempts that do not count up, each with what is wrong."""
    return [
        (
            record_id,
            f"{number} is the first" if before is None else f"{number} after {before}",
        )
        for record_id, number, before in models.execute(_ATTEMPTS).fetchall()
    ]


def several_in_processing() -> list[str]:
    """The keys of which more than one record is in processing, in words with those records."""
    rows = models.execute(
        "SELECT profile, bucket, filepath, group_concat(id, ' and ') FROM file_records "
        "WHERE current_state = 'processing' GROUP BY profile, bucket, filepath HAVING count(*) > 1"
    ).fetchall()
    return [
        f"records {ids} of {printable('/'.join(map(name_from, names)))}" for *names, ids in rows
    ]


def without_receipt() -> list[int]:
    """Completed records that do not know what the store answered."""
    rows = models.execute(
        "SELECT id FROM file_records WHERE current_state = 'completed' "
        "AND etag IS NULL AND version_id IS NULL AND checksum IS NULL"
    ).fetchall()
    return [row[0] for row in rows]


def left_multiparts(before: datetime) -> list[tuple[Row, str]]:
    """Records settled before that moment (aware), with their unfinished multipart uploads."""
    rows = models.execute(
        f"SELECT {ROW_COLUMNS}, multipart_upload_id FROM file_records "
        "WHERE multipart_upload_id IS NOT NULL AND current_state IN ('completed', 'failed') "
        "AND last_updated <= ?",
        (utc_text(before),),
    ).fetchall()
    return [(row_from(row), row[-1]) for row in rows]


def due(before: datetime) -> dict[tuple[str, str], int]:
    """Each profile and bucket with unclaimed records that were due at that moment (aware), and how
    many those are."""
    rows = models.execute(
        "SELECT profile, bucket, count(*) FROM file_records WHERE current_state = 'processing' "
        "AND owner IS NULL AND next_attempt_at <= ? GROUP BY profile, bucket",
        (utc_text(before),),
    ).fetchall()
    return {(name_from(row[0]), name_from(row[1])): row[2] for row in rows}


class Tasks(NamedTuple):
    """What the queue holds: which profile and bucket it rings for now, how many tasks are none of
    flood's."""

    rings: set[tuple[str, str]]
    foreign: int


def tasks(now: datetime) -> Tasks:
    """What waits in the queue, or in the schedule for a moment that has come. Raises DatabaseError
    where the queue's tables are missing, or no tables."""
    view = models.execute(
        "SELECT name FROM sqlite_master WHERE type = 'view' "
        "AND name COLLATE NOCASE IN ('task', 'schedule', 'kv', 'counter')"
    ).fetchone()
    if view is not None:
        raise models.DatabaseError(f"{view[0]} is a view")
    rows = models.execute(
        "SELECT data FROM task UNION ALL SELECT data FROM schedule WHERE timestamp <= ?",
        (now.timestamp(),),
    ).fetchall()
    # These two only prove that they are there.
    models.execute("SELECT queue, key, value FROM kv LIMIT 1").fetchall()
    models.execute("SELECT queue, key, value FROM counter LIMIT 1").fetchall()
    models.execute("SELECT id, queue, priority FROM task LIMIT 1").fetchall()
    models.execute("SELECT id, queue FROM schedule LIMIT 1").fetchall()
    rings: set[tuple[str, str]] = set()
    foreign = 0
    for (data,) in rows:
        try:
            if not isinstance(data, bytes):
                raise TypeError(data)  # bytes() of a number would be as long as that
            task = json.loads(data)
            name, arguments = task["name"], task["args"]
            if name == "flood.tasks.upload":
                rings.add((str(arguments[0]), str(arguments[1])))
            elif name != "flood.tasks.sweep":
                foreign += 1
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            foreign += 1
    return Tasks(rings, foreign)


def _recorded(columns: Sequence[Any]) -> Recorded:
    return Recorded(row_from(columns), *columns[11:15])
