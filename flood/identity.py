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


def identity_of(status: os.stat_result) -> Identity:
    """The identity in the answer of a stat call, each number as the signed 64 bits that SQLite has.

    Overlay filesystems have inodes beyond that; a time after the year 2262 is one, in nanoseconds.
    """
    identity = Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if min(identity) >= -_HALF and max(identity) < _HALF:
        return identity
    return Identity(*((number + _HALF) % (2 * _HALF) - _HALF for number in identity))
