"""Removes directories that hold nothing any more."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flood import directories
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, PROCESSING

#: Where flood's own moves leave directories behind.
_OWN: Final = (PROCESSING, COMPLETED, FAILED)

#: How long a directory of incoming must have rested, in seconds: its producer may be about to put
#: something there.
REST: Final = 86_400.0

#: A bucket's directory is so many levels below the server directory, and stays.
_BUCKET: Final = 3


@dataclass
class _Level:
    """A directory on the way down: what is still to be looked at in it, when it last changed."""

    path: str
    below: list[str]
    holds: bool
    changed: float


def hollow(spool: Spool, now: float, *, dry: bool = False) -> Iterator[str | None]:
    """Remove the directories below buckets that hold nothing, in incoming those that nobody has
    touched for REST; `now` is seconds since the epoch. Each gives its path once it is gone; None
    comes after each other one, so that whoever is in a hurry may stop there. `dry` removes nothing.

    A change time, unlike a time of modification, is nothing that tar or rsync sets back.
    """
    for state in (*_OWN, INCOMING):
        limit = now - REST if state == INCOMING else math.inf
        for profile in spool.subdirectories(state):
            for bucket in spool.subdirectories(f"{state}/{profile}"):
                yield from _below(spool, f"{state}/{profile}/{bucket}", limit, dry)


def _below(spool: Spool, bucket: str, limit: float, dry: bool) -> Iterator[str | None]:
    way = [_look(spool, bucket)]
    while way:
        level = way[-1]
        if level.below:
            way.append(_look(spool, f"{level.path}/{level.below.pop()}"))
            continue
        way.pop()
        gone = not level.holds and level.changed < limit and level.path.count("/") >= _BUCKET
        if gone and not dry:
            try:
                gone = spool.remove_directory(level.path)
            except OSError:
                gone = False  # not flood's to remove: somebody else's, on a read-only disk
        if way and not gone:
            way[-1].holds = True
        yield level.path if gone else None


def _look(spool: Spool, path: str) -> _Level:
    below: list[str] = []
    holds = False
    try:
        # Before the listing: what comes into it afterwards makes it look older, and is found.
        changed = os.lstat(spool.absolute(path)).st_ctime
        with directories.listed(spool.absolute(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    holds = True
    except OSError:
        return _Level(path, [], True, 0.0)  # gone, or not to be read
    return _Level(path, below, holds, changed)
