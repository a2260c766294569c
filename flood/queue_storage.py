"""The queue's storage: huey's tables on the connection of flood's own models."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from logging import getLogger
from typing import Any, Final, TypeVar

from huey.storage import SqliteStorage

from flood import models
from flood.bell import Bell, ring

#: How long an idle worker listens before it looks for work that nobody rang for, in seconds.
LISTEN: Final = 2.0

#: What SQLite says of tables that are gone, or not huey's.
_BROKEN: Final = (
    *("no such table", "no such column", "has no column named"),
    *("because it is a view", "views may not be indexed"),  # as somebody made one of their names
)

# No time that Python knows is later, nor anything due that SQLite takes for later than a number.
_NEVER: Final = 253402300800.0  # the year 10000

logger = getLogger("flood.queue")

_T = TypeVar("_T")


class FloodStorage(SqliteStorage):
    """Huey's tables, read and written on the connection of flood's own models.

    Whatever is enqueued inside `models.write()` commits with it, and rings the bell after that.
    """

    blocking = True  # dequeue waits by itself; no worker needs to poll

    def __init__(self, name: str = "flood", **options: Any) -> None:
        super().__init__(name, create_tables=False, **options)
        self._bell: Bell | None = None

    @contextmanager
    def db(  # huey's signature; the connection outlives a statement whatever `close` says
        self,
        commit: bool = False,
        close: bool = False,  # noqa: ARG002
    ) -> Iterator[Any]:
        with models.write() if commit else nullcontext():
            cursor = models.connection().cursor()
            try:
                yield cursor
            except sqlite3.DatabaseError as error:
                raise models.DatabaseError(str(error)) from error
            finally:
                cursor.close()

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        models.close()

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        with models.write():
            self._mended(lambda: super(FloodStorage, self).enqueue(data, priority))
            models.database.after_commit(lambda: ring(models.path()))

    def dequeue(self) -> Any:
        if self._bell is None:
            self._bell = Bell(models.path())
        self._bell.listen()
        data = self._mended(super().dequeue)
        if data is None:
            self._bell.wait(LISTEN)  # whoever asked asks again
        return data

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        self._mended(lambda: super(FloodStorage, self).add_to_schedule(data, _utc(ts)))

    def read_schedule(self, ts: datetime) -> Any:
        return self._mended(lambda: self._read_schedule(_utc(ts)))

    def _read_schedule(self, ts: datetime) -> Any:
        # Every consumer asks twice a second: no turn is waited for that finds nothing.
        look = (
            "select 1 from schedule where queue = ? and (timestamp <= ? or timestamp > ?) limit 1"
        )
        if not self.sql(look, (self.name, ts.timestamp(), _NEVER), results=True):
            return []
        return [*super().read_schedule(ts), *self._never_due()]

    def _never_due(self) -> list[Any]:
        """What somebody put into the schedule for no time at all, which would stay for ever."""
        never = (self.name, _NEVER)
        where = "queue = ? and timestamp > ?"
        if not self.sql(f"select 1 from schedule where {where} limit 1", never, results=True):
            return []
        with self.db(commit=True) as cursor:
            found = cursor.execute(f"select data from schedule where {where}", never).fetchall()
            cursor.execute(f"delete from schedule where {where}", never)
        return [row[0] for row in found]

    def of_priority(self, priority: float) -> list[bytes]:
        """The tasks of exactly this priority that wait in the queue."""
        rows = self._mended(
            lambda: self.sql(
                "select data from task where queue = ? and priority = ?",
                (self.name, priority),
                results=True,
            )
        )
        return [row[0] for row in rows]

    def _mended(self, call: Callable[[], _T]) -> _T:
        """The call's result, after making the queue's tables anew if somebody broke them: nothing
        that they hold is needed."""
        try:
            return call()
        except models.DatabaseError as error:
            if not any(words in str(error) for words in _BROKEN):
                raise
            logger.warning("the queue's tables are made anew: %s", error)
        self.make_anew()
        return call()

    def initialize_schema(self) -> None:
        """Make the queue's tables where they are missing."""
        self._mended(super().initialize_schema)

    def make_anew(self) -> None:
        """Replace the queue's tables, and views of their names, by empty ones."""
        with self.db(commit=True) as cursor:
            found = cursor.execute(
                "select type, name from sqlite_master where type in ('table', 'view')"
                " and name collate nocase in ('task', 'schedule', 'kv', 'counter')"
            ).fetchall()
            for kind, name in found:
                cursor.execute(f"drop {kind} {name}")
        super().initialize_schema()


def _utc(moment: datetime) -> datetime:
    # huey hands over naive UTC, whose timestamp() would be taken as local time.
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
