"""Looks at the rights to the directories in which files of a spool lie."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from shlex import quote
from typing import Final

from flood import directories, owners, users
from flood.check_findings import ERROR, SPOOL, Finding
from flood.config import Settings, command
from flood.phrases import NAMED, named
from flood.spool import ALL_RIGHTS, Spool
from flood.states import INCOMING, STATES
from flood.temporary import Temporary

#: How many names in buckets are looked through in each part of the spool, for directories among
#: them; in each single directory a tenth of them. What was uploaded may be millions of files.
NAMES: Final = 100_000

_BUCKETS: Final = 2  # a bucket's path has so many slashes: state, profile, bucket


def look(spool: Spool, settings: Settings) -> Iterator[Finding]:
    """Directories from which this user could take nothing, or into which it could move nothing."""
    closed, sticky = _of_producers(spool, settings)
    user = owners.name_of(spool.root)
    if closed:
        yield Finding(
            SPOOL,
            "rights",
            ERROR,
            f"this user may not use {named(closed)}",
            "what lies there stays there: it takes all rights to a directory to move files out",
            "have producers give them, as by their umask and group; for those that are there: "
            + _taking(user, _some(spool, closed)),
        )
    own = [path for state in STATES if state != INCOMING for path in denied(spool, state)]
    if own:
        yield Finding(
            SPOOL,
            "rights",
            ERROR,
            f"this user may not use {named(own)}",
            "files that have to go there, or away from there, stay where they are: it takes all "
            "rights to a directory to move files into it, or out",
            mends(settings, user, _some(spool, own)),
        )
    if sticky:
        places = " ".join(map(quote, _some(spool, sticky)))
        yield Finding(
            SPOOL,
            "rights",
            ERROR,
            f"files of others lie in {named(sticky)}, which is sticky (mode 1777)",
            "they stay there: only who owns such a directory takes others' files out of it",
            f"let flood's user own it: sudo chown {user} {places}",
        )


def denied(spool: Spool, state: str, names: int = NAMES) -> list[str]:
    """The directories below that of a state, which holds flood's own files, that this user may not
    use; those of profiles and buckets are all looked at, those below them as far as they are among
    so many names."""
    if not _usable(spool.absolute(state)):
        return []  # which is told of as a whole
    found: list[str] = []
    waiting = deque([state])
    left = names
    while waiting:
        current = waiting.popleft()
        if current != state and not _usable(spool.absolute(current)):
            found.append(current)
        in_bucket = current.count("/") >= _BUCKETS
        below, looked_at = _below(spool, current, min(left, names // 10) if in_bucket else None)
        waiting += [f"{current}/{name}" for name in below]
        left -= looked_at if in_bucket else 0
    return sorted(path for path in found if spool.exists(path))


def mends(settings: Settings, user: str, paths: Sequence[str], recursive: str = "-R ") -> str:
    """What is to be done where this user is denied these paths in the spool of `user`."""
    if user != users.mine():
        again = command(settings, "sudo", "-u", user, "flood-check")
        return f"run flood as {user}, flood-check too: {again}"
    if all(map(forbidden_to_owner, paths)):
        return users.opening(paths)
    return _taking(user, paths, recursive)


def forbidden_to_owner(path: str) -> bool:
    """Whether it is this user's own, and only its mode denies it."""
    return users.owns(path) and not _usable(path)


def of_incoming(spool: Spool) -> Iterator[str]:
    """The directories of incoming, with those that cannot be read."""
    for path, names, _ in os.walk(spool.absolute(INCOMING)):
        yield path
        for name in names:
            below = os.path.join(path, name)
            readable = os.access(below, os.R_OK, effective_ids=True)
            if not (readable or os.path.islink(below)):
                yield below


def _taking(user: str, paths: Sequence[str], recursive: str = "-R ") -> str:
    places = " ".join(map(quote, paths))
    return f"sudo chown {recursive}{user} {places} && sudo chmod {recursive}u+rwX {places}"


def _some(spool: Spool, paths: Sequence[str]) -> list[str]:
    return [spool.absolute(path) for path in paths[:NAMED]]


def _of_producers(spool: Spool, settings: Settings) -> tuple[list[str], list[str]]:
    """Those of incoming that are denied, and those whose files of others are."""
    if not _usable(spool.absolute(INCOMING)):
        return [], []  # which is told of as a whole
    ignored = Temporary(settings.ignore).is_in
    closed, sticky = [], []
    for below in of_incoming(spool):
        path = os.path.relpath(below, spool.root)
        if ignored(path):
            continue
        if not _usable(below) and os.path.lexists(below):
            closed.append(path)
        elif _keeps(below):
            sticky.append(path)
    return sorted(closed), sorted(sticky)


def _below(spool: Spool, directory: str, most: int | None) -> tuple[list[str], int]:
    """Those of at most so many names in it that are directories, how many there were."""
    try:
        with directories.listed(spool.absolute(directory)) as entries:
            some = list(islice(entries, most))
            return sorted(x.name for x in some if x.is_dir(follow_symlinks=False)), len(some)
    except OSError:
        return [], 0  # closed, or taken away meanwhile


def _usable(path: str) -> bool:
    return os.access(path, ALL_RIGHTS, effective_ids=True)


def _keeps(path: str) -> bool:
    """Whether others' files lie in a directory out of which only their owners may take them, or
    its own (inode(7), the sticky bit)."""
    me = os.geteuid()
    try:
        status = os.stat(path)
        if not status.st_mode & stat.S_ISVTX or me in (0, status.st_uid):
            return False
        with os.scandir(path) as entries:
            return any(
                each.is_file(follow_symlinks=False)
                and each.stat(follow_symlinks=False).st_uid != me
                for each in entries
            )
    except OSError:
        return False  # taken away meanwhile
