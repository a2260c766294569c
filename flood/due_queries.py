"""Questions about what is due, or will be."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.stored import utc_moment

#: What nobody has claimed.
UNCLAIMED: Final = "current_state = 'processing' AND owner IS NULL"
_BEFORE_ALL: Final = ("", "")  # no profile has an empty name
_BEHIND_ALL: Final = b"\xff" * 256  # nor any bucket one of so many bytes; blobs come behind texts
#: Through so many buckets one statement goes.
_LOOKS: Final = 10_000
_NEXT_PROFILE: Final = f"SELECT min(profile) FROM file_records WHERE {UNCLAIMED} AND profile >"


def destinations(now: datetime) -> list[tuple[str, str]]:
    """Each profile with each bucket that has a due, unclaimed record."""
    return list(_due(now))


def unclaimed() -> list[tuple[str, str]]:
    """Each profile with each bucket that has an unclaimed record, due or not."""
    return [(name_from(profile), name_from(bucket)) for profile, bucket in _each(_BEFORE_ALL)]


def profiles() -> list[str]:
    """Each profile that has an unclaimed record, due or not."""
    # One step through the index for each: SQLite would read all entries for a DISTINCT.
    rows = models.execute(
        f"WITH RECURSIVE step (profile) AS (SELECT ({_NEXT_PROFILE} ?) UNION ALL "
        f"SELECT ({_NEXT_PROFILE} step.profile) FROM step WHERE profile IS NOT NULL) "
        "SELECT profile FROM step WHERE profile IS NOT NULL",
        _BEFORE_ALL[:1],
    ).fetchall()
    return [name_from(row[0]) for row in rows]


class Look(NamedTuple):
    """Where a look through a profile's buckets ended, None behind the last; whether a record is due
    there; how many of them it went through."""

    bucket: str | None
    due: bool
    passed: int


def look(profile: str, after: str, until: str | None, now: datetime, limit: int) -> Look:
    """Look for a bucket with a due, unclaimed record, in the order of the names behind `after`, as
    far as `until` unless that is None, through `limit` at most of those that have unclaimed ones.
    """
    last = _BEHIND_ALL if until is None else name_value(until)
    # However many records wait in a bucket, it takes two steps through the index, and all of them
    # one statement: where a store is down, thousands of buckets may wait for their retries.
    bucket, due, passed = models.execute(
        "WITH RECURSIVE step (bucket, passed) AS (SELECT ?, 0 UNION ALL "
        f"SELECT (SELECT min(bucket) FROM file_records WHERE {UNCLAIMED} AND profile = ? "
        "AND bucket > step.bucket AND bucket <= ?), passed + 1 FROM step WHERE bucket IS NOT NULL) "
        # A bucket of no name is none: what comes behind the last.
        "SELECT COALESCE(bucket, '') AS bucket, EXISTS (SELECT 1 FROM file_records "
        f"WHERE {UNCLAIMED} AND profile = ? AND bucket = step.bucket AND next_attempt_at <= ?) "
        "AS due, passed FROM step WHERE passed > 0 AND (bucket IS NULL OR due OR passed = ?) "
        "LIMIT 1",
        (name_value(after), name_value(profile), last, name_value(profile), utc_text(now), limit),
    ).fetchone()
    return Look(name_from(bucket) or None, bool(due), passed)


def first_due(profile: str, now: datetime) -> str | None:
    """A bucket of this profile that has a due, unclaimed record; None if there is none among the
    first ten thousand that have unclaimed ones."""
    seen = look(profile, "", None, now, _LOOKS)
    return seen.bucket if seen.due else None


def _due(now: datetime) -> Iterator[tuple[str, str]]:
    for profile in profiles():
        seen = look(profile, "", None, now, _LOOKS)
        while seen.bucket is not None:
            if seen.due:
                yield profile, seen.bucket
            seen = look(profile, seen.bucket, None, now, _LOOKS)


def _each(after: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Where unclaimed records wait, in the order of the names. Each is found by a step or two
    through the index, however many records wait there: for (profile, bucket) > (?, ?) SQLite reads
    all of the profile's entries."""
    while True:
        found = _first("profile = ? AND bucket > ?", after) or _first("profile > ?", after[:1])
        if found is None:
            return
        yield (after := found)


def _first(within: str, names: tuple[Any, ...]) -> tuple[Any, Any] | None:
    row: tuple[Any, Any] | None = models.execute(
        f"SELECT profile, bucket FROM file_records WHERE {UNCLAIMED} AND {within} "
        "ORDER BY profile, bucket LIMIT 1",
        names,
    ).fetchone()
    return row


def with_large(large: int, now: datetime, profiles: Collection[str]) -> tuple[str, str] | None:
    """The destination, in one of these profiles, of the file of `large` bytes or more, 5 MiB at
    least, that has been due longest."""
    marks = ", ".join("?" * len(profiles))
    row = models.execute(
        # The least size is that of an index of its own, so that no small files are gone through.
        f"SELECT profile, bucket FROM file_records WHERE {UNCLAIMED} "
        f"AND size >= 5242880 AND next_attempt_at <= ? AND size >= ? AND +profile IN ({marks}) "
        "ORDER BY next_attempt_at, id LIMIT 1",
        (utc_text(now), large, *map(name_value, profiles)),
    ).fetchone()
    return (name_from(row[0]), name_from(row[1])) if row else None


def is_due(destination: tuple[str, str], now: datetime) -> bool:
    """Whether this profile's bucket has a due, unclaimed record."""
    (due,) = models.execute(
        f"SELECT EXISTS (SELECT 1 FROM file_records WHERE {UNCLAIMED} AND profile = ? "
        "AND bucket = ? AND next_attempt_at <= ?)",
        (*map(name_value, destination), utc_text(now)),
    ).fetchone()
    return bool(due)


def anything(now: datetime) -> bool:
    """Whether a record waits for nothing but a worker."""
    return any(True for _ in _due(now))


def dated_ahead(moment: datetime, limit: int) -> list[tuple[int, str, str]]:
    """Records that wait beyond the moment and were last written after it, at most `limit` of them:
    their ids, when they were written, when they are due, both as the table has them."""
    at = utc_text(moment)
    found: list[tuple[int, str, str]] = []
    # A record is due no sooner than it was written: what waits for its turn is not gone through.
    for destination in _each(_BEFORE_ALL):
        found += models.execute(
            f"SELECT id, last_updated, next_attempt_at FROM file_records WHERE {UNCLAIMED} AND "
            "profile = ? AND bucket = ? AND next_attempt_at > ? AND last_updated > ? LIMIT ?",
            (*destination, at, at, limit - len(found)),
        )
        if len(found) == limit:
            break
    return found


def count(now: datetime) -> int:
    """How many records are due, and claimed by nobody."""
    row = models.execute(
        f"SELECT count(*) FROM file_records WHERE {UNCLAIMED} AND next_attempt_at <= ?",
        (utc_text(now),),
    ).fetchone()
    return int(row[0])


def upcoming(now: datetime) -> tuple[int, datetime | None]:
    """How many records wait for a later try, when the first of them is due."""
    count, first = models.execute(
        "SELECT count(*), min(next_attempt_at) FROM file_records "
        f"WHERE {UNCLAIMED} AND next_attempt_at > ?",
        (utc_text(now),),
    ).fetchone()
    return int(count), utc_moment(first) if first else None
