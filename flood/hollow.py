"""Removes directories that hold nothing any more."""

import math
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
    """A directory on the way down: what is still to be looked at in it, the last first; when it had
    changed at the first look, and since then by the removals here, in nanoseconds; what below it
    was the last to be looked at, in parts."""

    path: str
    below: list[str]
    holds: bool
    changed: int
    left: int | None
    after: tuple[str, ...] = ()


def hollow(
    spool: Spool, now: float, *, after: str = "", dry: bool = False
) -> Iterator[tuple[str, bool]]:
    """Remove the directories below buckets that hold nothing, in incoming those that nobody has
    touched for REST; `now` is seconds since the epoch. Each gives its path with whether it is gone,
    so that whoever is in a hurry may stop there, and go on `after` that path another time. The
    order is that of the names, what is below a directory before it. `dry` removes nothing.

    A change time, unlike a time of modification, is nothing that tar or rsync sets back.
    """
    mark = after.split("/") if after else []
    states = (*_OWN, INCOMING)
    begun = states.index(mark[0]) if mark and mark[0] in states else 0
    for state in states[begun:]:
        limit = (now - REST) * 1e9 if state == INCOMING else math.inf
        for profile in spool.subdirectories(state):
            for bucket in spool.subdirectories(f"{state}/{profile}"):
                place = [state, profile, bucket]
                done = mark[:1] == [state] and place <= mark[:_BUCKET]
                if not done:
                    yield from _below(spool, "/".join(place), limit, dry, ())
                elif place == mark[:_BUCKET] and len(mark) > _BUCKET:
                    yield from _below(spool, "/".join(place), limit, dry, tuple(mark[_BUCKET:]))


def _below(
    spool: Spool, bucket: str, limit: float, dry: bool, after: tuple[str, ...]
) -> Iterator[tuple[str, bool]]:
    way = [_look(spool, bucket, after)]
    while way:
        level = way[-1]
        if level.below:
            name = level.below.pop()
            began = level.after[:1] == (name,)
            rest = level.after[1:] if began else ()
            way.append(_look(spool, f"{level.path}/{name}", rest))
            continue
        way.pop()
        gone = not level.holds and level.changed < limit and level.path.count("/") >= _BUCKET
        # The look may have been at other directories for minutes since.
        gone = gone and (limit == math.inf or spool.changed_ns(level.path) == level.left)
        if gone and not dry:
            try:
                gone = spool.remove_directory(level.path)
            except OSError:
                gone = False  # not flood's to remove: somebody else's, on a read-only disk
        if way and gone:
            way[-1].left = spool.changed_ns(way[-1].path)
        elif way:
            way[-1].holds = True
        yield level.path, gone


def _look(spool: Spool, path: str, after: tuple[str, ...]) -> _Level:
    below: list[str] = []
    holds = False
    # Before the listing: what comes into it afterwards makes it look older, and is found.
    changed = spool.changed_ns(path)
    try:
        with directories.listed(spool.absolute(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    holds = True
    except OSError:
        changed = None
    if changed is None:
        return _Level(path, [], True, 0, None)  # gone, or not to be read
    below.sort(reverse=True)
    if after:
        # What was looked at, and is there, had something in it.
        left = [name for name in below if name > after[0] or (name == after[0] and after[1:])]
        holds = holds or len(left) < len(below)
        below = left
    return _Level(path, below, holds, changed, changed, after)
