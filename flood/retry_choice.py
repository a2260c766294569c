"""Chooses the records that flood-retry is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from flood import departures, layout, models, queries, versions, whereabouts
from flood.columns import utc_text
from flood.destination import Destination
from flood.due_queries import UNCLAIMED
from flood.layout import Place
from flood.record_values import ROW_COLUMNS, Row, chunks, row_from
from flood.spool import Spool
from flood.states import FAILED, PROCESSING
from flood.walk import Found

#: Rows in one answer; between two answers nothing of the database is held.
_PAGE: Final = 5000

_COLUMNS: Final = (
    f"{ROW_COLUMNS}, error_code, {versions.SINCE}, "
    f"{versions.place('file_records')}, next_attempt_at"
)

#: How many files are looked at for one without a record.
_LOOKED: Final = 1000

#: A failed file that lies in failed, as far as is known.
_FAILED: Final = "current_state = 'failed' AND left_at IS NULL"


@dataclass(frozen=True)
class Chosen:
    """A record that may be retried, with the code of its last failure; `since`, as the tables hold
    it, is when it failed, or for one that waits when it was taken, `due` when it may be tried.
    Versions of one key come in the order of `version`."""

    row: Row
    error_code: str | None
    since: str
    version: int
    due: str | None

    def waits(self, now: datetime) -> bool:
        """Whether it is one that waits for its retry."""
        return isinstance(self.due, str) and self.due > utc_text(now)


@dataclass(frozen=True)
class Stray:
    """A file in failed that no record has there; `coming` is the record that is about to, as who
    gave the file up was killed before he could write it, None if somebody renamed it there."""

    path: str
    coming: int | None


@dataclass(frozen=True)
class Choice:
    """What was asked for: everything that fits each of these, of which an empty one fits all.
    `older` and `newer` are in seconds; `keys` are shell patterns (Python's fnmatch)."""

    ids: frozenset[int] = frozenset()
    destinations: Sequence[Destination] = ()
    profiles: Sequence[str] = ()
    buckets: Sequence[str] = ()
    keys: Sequence[str] = ()
    errors: Sequence[str] = ()
    older: float | None = None
    newer: float | None = None

    @property
    def names(self) -> set[int | Destination]:
        """What is named by itself: records, files, directories."""
        return {*self.ids, *self.destinations}

    def naming(self, one: Chosen) -> set[int | Destination]:
        """Those of `names` that mean this record."""
        meaning: set[int | Destination] = {
            each for each in self.destinations if _is_at(one.row, each)
        }
        return meaning | ({one.row.id} if one.row.id in self.ids else set())

    def fits(self, one: Chosen, now: datetime) -> bool:
        """Whether this record was asked for."""
        row = one.row
        return (
            (not self.names or bool(self.naming(one)))
            and (row.profile in self.profiles or not self.profiles)
            and (row.bucket in self.buckets or not self.buckets)
            and (one.error_code in self.errors or not self.errors)
            and (not self.keys or any(fnmatchcase(row.key, pattern) for pattern in self.keys))
            and (self.older is None or one.since <= _ago(now, self.older))
            and (self.newer is None or one.since >= _ago(now, self.newer))
        )


def _ago(now: datetime, seconds: float) -> str:
    return utc_text(now - timedelta(seconds=seconds))


def _is_at(row: Row, destination: Destination) -> bool:
    if (row.profile, row.bucket) != (destination.profile, destination.bucket):
        return False
    if destination.into:
        return row.key.startswith(f"{destination.key}/" if destination.key else "")
    return row.key == destination.key


def failed(choice: Choice, now: datetime) -> Iterator[Chosen]:
    """The failed records that were asked for, by id."""
    yield from _every(_FAILED, choice, now)


def unclaimed(choice: Choice, now: datetime) -> Iterator[Chosen]:
    """The records that wait for their retry, or only for a worker, and were asked for, by id."""
    yield from _every(UNCLAIMED, choice, now)


def _every(where: str, choice: Choice, now: datetime) -> Iterator[Chosen]:
    # What lies in failed, or waits, has indices of its own, which are in no order of ids.
    ids = [
        row[0]
        for row in models.execute(
            f"SELECT id FROM file_records WHERE {where} ORDER BY +id"
        ).fetchall()
    ]
    for start in range(0, len(ids), _PAGE):
        for one in _by_id(ids[start : start + _PAGE], where):
            if choice.fits(one, now):
                yield one


def stray(spool: Spool, named: int | Destination) -> Stray | None:
    """A file that lies in failed where the destination says, or the record of this number will say
    so, and that no record has there; None if there is none, or only among many."""
    return _ahead(spool, named) if isinstance(named, int) else _lost(spool, named)


def _ahead(spool: Spool, record_id: int) -> Stray | None:
    for one in _by_id([record_id], f"current_state = '{PROCESSING}'"):
        place = whereabouts.lies_in(spool, one.row)
        if place is not None and place.state == FAILED:
            return Stray(place.path, record_id)
    return None


def _lost(spool: Spool, destination: Destination) -> Stray | None:
    path = Place(FAILED, destination.profile, destination.bucket, destination.key).path
    here = spool.identify(path) is not None and not spool.behind_link(path)
    lying = [path] if here else []
    if destination.into:
        found = spool.walk(path.rstrip("/"))
        lying = [each.path for each in islice(found, _LOOKED) if isinstance(each, Found)]
    lost = next((each for each in lying if departures.latest_at(each) is None), None)
    return None if lost is None else Stray(lost, _coming(spool, lost))


def _coming(spool: Spool, path: str) -> int | None:
    place = layout.parse(path)
    if place is None:
        return None
    keys = {place.key, layout.without_suffix(place.key) or place.key}
    paths = [Place(PROCESSING, place.profile, place.bucket, key).path for key in keys]
    for row in queries.at_paths(paths, PROCESSING).values():
        if whereabouts.lies_in(spool, row) == place:
            return row.id
    return None


def still_failed(ids: Sequence[int]) -> list[Chosen]:
    """Those of these records whose files lie in failed, as far as is known, by id."""
    return _by_id(ids, _FAILED)


def still_unclaimed(ids: Sequence[int], now: datetime) -> tuple[list[Chosen], list[Chosen]]:
    """Those of these records that wait for their retry, and those that are due, each by id."""
    every = _by_id(ids, UNCLAIMED)
    return [one for one in every if one.waits(now)], [one for one in every if not one.waits(now)]


def _by_id(ids: Sequence[int], where: str) -> list[Chosen]:
    found = []
    for part, marks in chunks(ids):
        for columns in models.execute(
            f"SELECT {_COLUMNS} FROM file_records WHERE id IN ({marks}) AND {where} ORDER BY id",
            tuple(part),
        ).fetchall():
            found.append(Chosen(row_from(columns), *columns[11:15]))
    return found
