"""Tells the files of flood's own database from others."""

import os
import stat
from collections.abc import Sequence
from shlex import quote
from typing import Final

from flood import directories, users, writers

#: What the file ends in that wakes consumers.
BELL: Final = "-bell"

_SUFFIXES: Final = ("", "-journal", "-wal", "-shm", *writers.QUEUES)


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


def mends(path: str, user: str, denied: Sequence[str]) -> str:
    """What gives `user`, who owns the spool, the parts of its database that are denied to this one,
    who may be another; what others, as root, have put beside them becomes his, too."""
    others = [each for each in denied if _is_others(each, user)]
    if not others and user != users.mine():
        return f"run flood as {user}, flood-check too"
    own = (*files(path), f"{path}{BELL}")
    taken = [each for each in own if _is_others(each, user)]
    whole = [each for each in others if each not in own and _is_for(each, user, path)]
    steps = [f"sudo chown {users.with_group(user)} {' '.join(map(quote, taken))}"] if taken else []
    steps += [f"sudo chown {user} {quote(each)}" for each in whole]
    steps += [
        f"sudo setfacl -m u:{user}:{'rwx' if _is_around(each, path) else 'x'} {quote(each)}"
        for each in others
        if each not in (*own, *whole)
    ]
    # Of what becomes his own only its mode can deny anything to him.
    closed = [
        each
        for each in denied
        if each not in others or (each in (*taken, *whole) and _is_closed(each))
    ]
    if closed:
        steps.append(("" if user == users.mine() else "sudo ") + users.opening(closed))
    return " && ".join(steps)


def _is_around(directory: str, path: str) -> bool:
    """Whether the database lies directly in it, and not deeper."""
    return directory in (os.path.dirname(path) or ".", os.path.dirname(os.path.realpath(path)))


def _is_for(directory: str, user: str, path: str) -> bool:
    """Whether nothing lies there but the database, and what is the user's, so that nobody misses
    the directory once that is his."""
    own = {os.path.basename(each) for each in (*files(path), f"{path}{BELL}")}
    try:
        names = os.listdir(directory)
    except OSError:
        return False  # nobody can tell
    return _is_around(directory, path) and not any(
        name not in own and _is_others(f"{directory}/{name}", user) for name in names
    )


def _is_others(path: str, user: str) -> bool:
    """Whether it is there, and somebody else's."""
    try:
        return users.owner(path) != user
    except OSError:
        return False  # not there, or nobody can tell


def _is_closed(path: str) -> bool:
    """Whether its mode denies it to its owner."""
    wanted = stat.S_IRWXU if os.path.isdir(path) else stat.S_IRUSR | stat.S_IWUSR
    return os.stat(path).st_mode & wanted != wanted


def _is(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False
