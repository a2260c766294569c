"""Tells the files of flood's own database from others."""

import os
from collections.abc import Sequence
from shlex import quote
from typing import Final

from flood import directories, users

#: What the file ends in that wakes consumers.
BELL: Final = "-bell"

_SUFFIXES: Final = ("", "-journal", "-wal", "-shm", "-writers")


def files(database: str) -> list[str]:
    """The database itself with what may lie beside it."""
    return [f"{database}{suffix}" for suffix in _SUFFIXES]


def is_own(database: str, path: str, status: os.stat_result, *, any_name: bool = False) -> bool:
    """Whether the file at `path`, which `status` is of, is one of those that SQLite and flood keep
    for `database`, also by a hard link, with `any_name` by way of a symbolic link, too.

    Such a file must not be opened: when a process closes it, it loses all its locks on it, and the
    database with them, whoever else in the process has it open (sqlite.org/howtocorrupt.html,
    section 2.2).
    """
    named = os.path.basename(path).startswith(os.path.basename(database))
    if not (named or any_name or status.st_nlink > 1):
        return False
    own = files(database)
    if os.path.realpath(path) in map(os.path.realpath, own):
        return True  # it comes and goes with those who have the database open
    return any(_is(each, status) for each in own)


def denied_parts(path: str) -> list[str]:
    """What this user may not use of the database, of the way to it, of what SQLite has beside it:
    of the way the first directory alone, as nobody can tell what is behind that."""
    closed = directories.closed(path)
    if closed is not None:
        return [closed]
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        return []
    return [
        each
        for each in (*filter(os.path.exists, files(path)), directory)
        if not os.access(each, os.R_OK | os.W_OK, effective_ids=True)
    ]


def taking(path: str, user: str) -> str | None:
    """What makes the files of a database `user`'s, who owns the spool, where others, as root, have
    put them there; None if there are none of others'."""
    own = (*files(path), f"{path}{BELL}")
    foreign = [each for each in own if _owner(each) not in (user, None)]
    return f"sudo chown {user}: {' '.join(map(quote, foreign))}" if foreign else None


def mends(path: str, denied: Sequence[str]) -> str:
    """What this user, who owns the spool, does about parts of its database that are denied to
    him."""
    me = users.mine()
    given = users.opening(denied)
    if not all(map(users.owns, denied)):
        given = f"have its owner give {me} all rights to {denied[0]}"
    return taking(path, me) or given


def _owner(path: str) -> str | None:
    try:
        return users.owner(path)
    except OSError:
        return None  # not there, or nobody can tell


def _is(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False
