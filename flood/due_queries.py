"""Questions about what is due, or will be."""

from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

from flood import models
from flood.columns import name_from, name_value, utc_text
from flood.stored import utc_moment

#: Among so many destinations whose turn comes is looked for.
_LOOKS: Final = 32

_UNCLAIMED: Final = "current_state = 'processing' AND owner IS NULL"
_BEFORE_ALL: Final = ("", "")  # no profile has an empty name


def destinations(now: datetime) -> list[tuple[str, str]]:
    """Each profile with each bucket that has a due, unclaimed record."""
    at = utc_text(now)
    return [
        (name_from(profile), name_from(bucket))
        for profile, bucket in _each(_BEFORE_ALL)
        if _is_due(profile, bucket, at)
    ]


def unclaimed() -> list[tuple[str, str]]:
    """Each profile with each bucket that has an unclaimed record, due or not."""
    return [(name_from(profile), name_from(bucket)) for profile, bucket in _each(_BEFORE_ALL)]


def destinations_after(start: tuple[str, str], now: datetime) -> Iterator[tuple[str, str]]:
    """The other destinations that have a due, unclaimed record, in the order of their names from
    `start` on, then from the first. Of very many only some are looked at."""
    at = utc_text(now)
    for profile, bucket in islice(_all_beyond(name_value(start[0]), name_value(start[1])), _LOOKS):
        if _is_due(profile, bucket, at):
            yield name_from(profile), name_from(bucket)


def _is_due(profile: Any, bucket: Any, at: str) -> bool:
    row = models.execute(
        f"SELECT EXISTS (SELECT 1 FROM file_records WHERE {_UNCLAIMED} "
        "AND profile = ? AND bucket = ? AND next_attempt_at <= ?)",
        (profile, bucket, at),
    ).fetchone()
    return bool(row[0])


def _all_beyond(profile: Any, bucket: Any) -> Iterator[tuple[Any, Any]]:
    """Where else unclaimed records wait: what comes after this destination, then what before."""
    first = None
    for each in _each((profile, bucket)):
        first = first or each
        yield each
    for each in _each(_BEFORE_ALL):
        if each in ((profile, bucket), first):
            return
        yield each


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
        f"SELECT profile, bucket FROM file_records WHERE {_UNCLAIMED} AND {within} "
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
        f"SELECT profile, bucket FROM file_records WHERE {_UNCLAIMED} "
        f"AND size >= 5242880 AND next_attempt_at <= ? AND size >= ? AND +profile IN ({marks}) "
        "ORDER BY next_attempt_at, id LIMIT 1",
        (utc_text(now), large, *map(name_value, profiles)),
    ).fetchone()
    return (name_from(row[0]), name_from(row[1])) if row else None


def anything(now: datetime) -> bool:
    """Whether a record waits for nothing but a worker."""
    at = utc_text(now)
    return any(_is_due(*each, at) for each in _each(_BEFORE_ALL))


def dated_ahead(moment: datetime, limit: int) -> list[tuple[int, str, str]]:
    """Records that wait beyond the moment and were last written after it, at most `limit` of them:
    their ids, when they were written, when they are due, both as the table has them."""
    at = utc_text(moment)
    found: list[tuple[int, str, str]] = []
    # A record is due no sooner than it was written: what waits for its turn is not gone through.
    for destination in _each(_BEFORE_ALL):
        found += models.execute(
            f"SELECT id, last_updated, next_attempt_at FROM file_records WHERE {_UNCLAIMED} AND "
            "profile = ? AND bucket = ? AND next_attempt_at > ? AND last_updated > ? LIMIT ?",
            (*destination, at, at, limit - len(found)),
        )
        if len(found) == limit:
            break
    return found


def count(now: datetime) -> int:
    """How many records are due, and claimed by nobody."""
    row = models.execute(
        f"SELECT count(*) FROM file_records WHERE {_UNCLAIMED} AND next_attempt_at <= ?",
        (utc_text(now),),
    ).fetchone()
    return int(row[0])


def upcoming(now: datetime) -> tuple[int, datetime | None]:
    """How many records wait for a later try, when the first of them is due."""
    count, first = models.execute(
        "SELECT count(*), min(next_attempt_at) FROM file_records "
        f"WHERE {_UNCLAIMED} AND next_attempt_at > ?",
        (utc_text(now),),
    ).fetchone()
    return int(count), utc_moment(first) if first else None
