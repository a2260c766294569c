"""Writes many rows into a database at once."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager


@contextmanager
def without_indices(
    connection: sqlite3.Connection, left_out: Collection[str] = ()
) -> Iterator[None]:
    """Take the indices away meanwhile, which is faster than keeping them up to date, and make all
    but those that are `left_out` again."""
    indices = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in indices:
        connection.execute(f"DROP INDEX {name}")
    yield
    for name, sql in indices:
        if name not in left_out:
            connection.execute(sql)
