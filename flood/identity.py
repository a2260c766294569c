"""Tells a file from another of its name."""

import os
from typing import NamedTuple


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
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return Identity(*((number + 2**63) % 2**64 - 2**63 for number in numbers))
