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


def _fetching(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which raises what the connection makes of an error."""
    readable = _readable(call)

    @wraps(call)
    def fetching(cursor: "Cursor", *arguments: Any) -> Any:
        try:
            return readable(cursor, *arguments)
        except sqlite3.DatabaseError as error:
            raise cursor.connection.translated(error) from error  # type: ignore[attr-defined]  # made by Connection

    return fetching


class Cursor(sqlite3.Cursor):
    """Raises sqlite3.DatabaseError for a complaint that is no UTF-8, too, as rows are fetched what
    `Connection.translated` makes of it."""

    execute = _readable(sqlite3.Cursor.execute)
    executemany = _readable(sqlite3.Cursor.executemany)
    fetchone = _fetching(sqlite3.Cursor.fetchone)
    fetchmany = _fetching(sqlite3.Cursor.fetchmany)
    fetchall = _fetching(sqlite3.Cursor.fetchall)
    __next__ = _fetching(sqlite3.Cursor.__next__)


class Connection(sqlite3.Connection):
    """Its cursors are such ones, those of `execute` and the like, too."""

    def translated(self, error: sqlite3.DatabaseError) -> Exception:
        """What is raised for an error that shows when rows are fetched, as of a damaged page."""
        return error

    def cursor(self, *_factory: Any) -> Cursor:  # type: ignore[override]  # always of one kind
        return super().cursor(Cursor)
