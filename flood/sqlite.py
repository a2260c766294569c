"""Connections to SQLite that know its complaints even where they cannot be read."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final

#: SQLite's own words for SQLITE_CORRUPT (sqlite.org/rescode.html#corrupt).
MALFORMED: Final = "database disk image is malformed"

#: The words of Python's sqlite3 for a text that is none, in a row that SQLite finds in order.
UNDECODABLE: Final = "Could not decode to UTF-8"


def _readable(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which raises sqlite3.DatabaseError instead of UnicodeDecodeError, and for a
    text in a row that is none what the connection makes of that."""

    # SQLite quotes names of a damaged schema byte by byte; where those are no UTF-8, Python's
    # sqlite3 fails on the message instead of raising the error that it tells of.
    @wraps(call)
    def readable(cursor: "Cursor", *arguments: Any) -> Any:
        try:
            return call(cursor, *arguments)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(MALFORMED) from error
        except sqlite3.OperationalError as error:
            # Python 3.10 reads the first row as it executes.
            if UNDECODABLE not in str(error):
                raise
            raise cursor.connection.translated(error) from error  # type: ignore[attr-defined]  # made by Connection

    return readable


def _fetching(call: Callable[..., Any], rows: Callable[[Any], Sequence[Any]]) -> Callable[..., Any]:
    """The same call, which raises what the connection makes of an error, and has it check the
    `rows` in the answer."""
    readable = _readable(call)

    @wraps(call)
    def fetching(cursor: "Cursor", *arguments: Any) -> Any:
        connection: Connection = cursor.connection  # type: ignore[assignment]  # which made it
        try:
            answer = readable(cursor, *arguments)
        except sqlite3.DatabaseError as error:
            raise connection.translated(error) from error
        if answer:
            connection.check(cursor.description, rows(answer))
        return answer

    return fetching


def _one(row: Any) -> Sequence[Any]:
    return (row,)


def _all(rows: Any) -> Sequence[Any]:
    return rows  # type: ignore[no-any-return]  # a list of them


class Cursor(sqlite3.Cursor):
    """Raises sqlite3.DatabaseError for a complaint that is no UTF-8, too, as rows are fetched what
    `Connection.translated` makes of it."""

    execute = _readable(sqlite3.Cursor.execute)
    executemany = _readable(sqlite3.Cursor.executemany)
    fetchone = _fetching(sqlite3.Cursor.fetchone, _one)
    fetchmany = _fetching(sqlite3.Cursor.fetchmany, _all)
    fetchall = _fetching(sqlite3.Cursor.fetchall, _all)
    __next__ = _fetching(sqlite3.Cursor.__next__, _one)


class Connection(sqlite3.Connection):
    """Its cursors are such ones, those of `execute` and the like, too."""

    def translated(self, error: sqlite3.DatabaseError) -> Exception:
        """What is raised for an error that shows when rows are fetched, as of a damaged page."""
        return error

    def check(self, description: Sequence[Any], rows: Sequence[Any]) -> None:
        """Raise what is to be raised for rows that are not what they should be."""

    def cursor(self, *_factory: Any) -> Cursor:  # type: ignore[override]  # always of one kind
        return super().cursor(Cursor)
