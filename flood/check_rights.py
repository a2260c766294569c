"""Looks at the rights to the directories in which files of a spool lie."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from shlex import quote
from typing import Final

from flood import directories, owners, users
from flood.check_findings import ERROR, SPOOL, Finding
from flood.config import Settings, command
from flood.phrases import named
from flood.spool import ALL_RIGHTS, Spool
from flood.states import INCOMING, STATES
from flood.temporary import Temporary

#: How many names in buckets are looked through in each part of the spool, for directories among
#: them; in each single directory a tenth of them. What was uploaded may be millions of files.
NAMES: Final = 100_000

#: How many characters of paths are told in one command: a terminal's line ends at 4,095, and some
#: commands have the paths twice.
_LONGEST: Final = 1_500

_BUCKETS: Final = 2  # a bucket's path has so many slashes: state, profile, bucket


def look(spool: Spool, settings: Settings) -> Iterator[Finding]:
    """Directories from which this user could take nothing, or into which it could move nothing."""
    closed, sticky = _of_producers(spool, settings)
    user = owners.name_of(spool.root)
    passing = _passing(settings.ignore)
    if closed:
        yield Finding(
            SPOOL,
            "rights",
            ERROR,
            f"this user may not use {named(closed)}",
            "what lies there stays there: it takes all rights to a directory to move files out",
            "have producers give them, as by their umask and group; for those that are there: "
            + _all(spool, settings, user, closed, passing),
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
            _all(spool, settings, user, own),
        )
    if sticky:
        yield Finding(
            SPOOL,
            "rights",
            ERROR,
            f"files of others lie in {named(sticky)}, which is sticky (mode 1777)",
            "they stay there: only who owns such a directory takes others' files out of it",
            f"let flood's user own it: {_owning(spool, user, sticky, passing)}",
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


def mends(settings: Settings, user: str, paths: Sequence[str], *, deep: bool = True) -> str:
    """What is to be done where this user is denied these paths in the spool of `user`; `deep`: all
    that lies below them, too."""
    if user != users.mine():
        again = command(settings, "sudo", "-u", users.to_sudo(user), "flood-check")
        return f"run flood as {user}, flood-check too: {again}"
    if all(map(forbidden_to_owner, paths)):
        return users.opening(paths)
    return _taking(user, paths, deep=deep)


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


def _all(
    spool: Spool, settings: Settings, user: str, paths: Sequence[str], passing: str = ""
) -> str:
    """As `mends`, of however many paths in the spool, as one command that is not too long: else it
    finds them itself, but for what `passing` has it pass by."""
    every = [spool.absolute(path) for path in paths]
    if user != users.mine() or _are_short(every):
        return mends(settings, user, every)
    find = f"find {_around(spool, paths)} {passing}-type d"
    denied = r"! \( -readable -writable -executable \)"
    if all(map(forbidden_to_owner, every)):
        return rf"{find} -user {user} {denied} -exec chmod u+rwX {{}} \;"
    taking = f'chown -R {user} "$@" && chmod -R u+rwX "$@"'
    return f"{find} {denied} -prune -print0 | xargs -0r sudo sh -c {quote(taking)} -"


def _owning(spool: Spool, user: str, sticky: Sequence[str], passing: str) -> str:
    """The command that makes sticky directories the user's."""
    every = [spool.absolute(path) for path in sticky]
    if _are_short(every):
        return f"sudo chown {user} {' '.join(map(quote, every))}"
    found = f"{passing}-type d -perm -1000 ! -user {user}"
    return f"sudo find {_around(spool, sticky)} {found} -exec chown -h {user} {{}} +"


def _taking(user: str, paths: Sequence[str], *, deep: bool) -> str:
    recursive = "-R " if deep else ""
    if deep:
        every = frozenset(paths)
        paths = [each for each in paths if every.isdisjoint(map(str, PurePath(each).parents))]
    places = " ".join(map(quote, paths))
    return f"sudo chown {recursive}{user} {places} && sudo chmod {recursive}u+rwX {places}"


def _are_short(paths: Sequence[str]) -> bool:
    return len(" ".join(map(quote, paths))) <= _LONGEST


def _around(spool: Spool, paths: Sequence[str]) -> str:
    """The nearest directories that all the paths are in, one in each part of the spool."""
    parts = [[path for path in paths if path.split("/")[0] == state] for state in STATES]
    return " ".join(quote(spool.absolute(os.path.commonpath(part))) for part in parts if part)


def _passing(ignored: Sequence[str]) -> str:
    """What has find(1) pass by directories that flood leaves alone."""
    names = " -o ".join(
        f"-name {quote(each.removesuffix('/'))}" for each in ignored if each.endswith("/")
    )
    return rf"\( {names} \) -prune -o " if names else ""


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
