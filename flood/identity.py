"""Tells a file from another of its name."""

import os
from typing import Final, NamedTuple

_HALF: Final = 2**63


class Identity(NamedTuple):
    """What tells a file from another of the same name; mtime in nanoseconds since the epoch."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def changed_ns(status: os.stat_result) -> int:
    """When the inode last changed, in nanoseconds since the epoch: an owner can set a file's times
    back, that one nobody can. 0 for a file with several names (hard links), where it tells nothing
    of the content: each rename of one of them is a change."""
    return status.st_ctime_ns if status.st_nlink == 1 else 0


def touched(status: os.stat_result, before: int) -> bool:
    """Whether the inode has changed since `changed_ns` was `before`, where that tells anything."""
    return before != 0 and status.st_ctime_ns != before


def identity_of(status: os.stat_result) -> Identity:
    """The identity in the answer of a stat call, each number as the signed 64 bits that SQLite has.

    Overlay filesystems have inodes beyond that; a time after the year 2262 is one, in nanoseconds.
    """
    identity = Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if min(identity) >= -_HALF and max(identity) < _HALF:
        return identity
    return Identity(*((number + _HALF) % (2 * _HALF) - _HALF for number in identity))
