"""Connections to SQLite that know its complaints even where they cannot be read."""

import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

#: SQLite's own words for SQLITE_CORRUPT (sqlite.org/rescode.html#corrupt).
MALFORMED: Final = "database disk image is malformed"


def _readable(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which raises sqlite3.DatabaseError instead of UnicodeDecodeError."""

    # SQLite quotes names of a damaged schema byte by byte; where those are no UTF-8, Python's
    # sqlite3 fails on the message instead of raising the error that it tells of.
    @wraps(call)
    def readable(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(MALFORMED) from error

    return readable


class Cursor(sqlite3.Cursor):
    """Raises sqlite3.DatabaseError for a complaint that is no UTF-8, too."""

    execute = _readable(sqlite3.Cursor.execute)
    executemany = _readable(sqlite3.Cursor.executemany)
    fetchone = _readable(sqlite3.Cursor.fetchone)
    fetchmany = _readable(sqlite3.Cursor.fetchmany)
    fetchall = _readable(sqlite3.Cursor.fetchall)
    __next__ = _readable(sqlite3.Cursor.__next__)


class Connection(sqlite3.Connection):
    """Its cursors are such ones, those of `execute` and the like, too."""

    def cursor(self, *_factory: Any) -> Cursor:  # type: ignore[override]  # always of one kind
        return super().cursor(Cursor)
