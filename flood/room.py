"""Looks whether filesystems have room."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from flood.errors import NoRoomError

#: The share of a filesystem's inodes that flood leaves free, beside `--min-free` bytes.
INODE_SHARE: Final = 0.001

#: Once there was too little room, this many times as much must be free, so that a disk at the very
#: limit does not make flood change its mind, and say so, every other second.
_ENOUGH: Final = 1.1

#: What makes room.
_DELETE: Final = "delete what is not needed, as in completed"

Filesystem = Callable[[str], os.statvfs_result]


class Lack(NamedTuple):
    """What there is too little of, with what a person does about it."""

    seen: str
    remedy: str


def check_room(
    directory: str,
    min_free: float,
    files: int = 1,
    size: int = 0,
    filesystem: Filesystem = os.statvfs,
) -> None:
    """Raise NoRoomError unless the directory's filesystem takes so many files of so many bytes in
    all, and has `min_free` bytes with INODE_SHARE of its inodes left then."""
    short = _short(filesystem(directory), directory, min_free, files, size)
    if short is not None:
        raise NoRoomError(f"{short.seen}: {_DELETE}")


def _short(
    status: os.statvfs_result, directory: str, min_free: float, files: int, size: int
) -> Lack | None:
    room = status.f_bavail * status.f_frsize
    if size + min_free > room:
        wanted = f"{_told(size)} are to be written, " if size else ""
        return Lack(
            f"{directory} has no room: {wanted}{_told(room)} are free, of which "
            f"flood leaves {_told(int(min_free))} (--min-free)",
            f"{_DELETE}, or lower --min-free",
        )
    # Filesystems that make inodes as they need them say 0.
    if status.f_files and files + math.ceil(status.f_files * INODE_SHARE) > status.f_favail:
        fit = "file fits" if status.f_favail == 1 else "files fit"
        return Lack(
            f"{directory} has no room: {status.f_favail} more {fit} on its filesystem, of "
            f"{status.f_files}, and flood leaves a thousandth",
            _DELETE,
        )
    return None


def lacking(path: str) -> str | None:
    """What the filesystem of what lies there has none of any more, "byte" or "inode"; None if it
    has both, or cannot be asked."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    # One that knows no limit says that it has 0 in all.
    if status.f_blocks and not status.f_bavail:
        return "byte"
    return "inode" if status.f_files and not status.f_favail else None


def lack(directory: str, min_free: float) -> Lack | None:
    """What there is too little of on the directory's filesystem for files to be taken in; None if
    there is enough. Raises OSError if it cannot be asked."""
    short = _short(os.statvfs(directory), directory, min_free, files=1, size=0)
    if short is not None:
        return short
    lacks = lacking(directory)  # which not even a `min_free` of 0 allows
    return None if lacks is None else Lack(f"{directory} has no room: no {lacks} is left", _DELETE)


def first_lack(server_directory: str, database: str, min_free: float) -> Lack | None:
    """The first of what the filesystems of the spool and of the database lack, as far as these can
    be asked."""
    for directory in (server_directory, os.path.dirname(database)):
        with suppress(OSError):
            if (found := lack(directory, min_free)) is not None:
                return found
    return None


def _told(size: int) -> str:
    # It takes long to import, and most looks find room enough.
    from humanize import naturalsize

    return naturalsize(size, binary=True)


class Room:
    """Whether each of some directories' filesystems has room for more files."""

    def __init__(
        self, directories: Sequence[str], min_free: int, filesystem: Filesystem = os.statvfs
    ) -> None:
        self._directories = directories
        self._min_free = min_free
        self._filesystem = filesystem
        self._short = False

    def check(self) -> None:
        """Raise NoRoomError while one of them has too little; OSError if it cannot be asked."""
        min_free = self._min_free * _ENOUGH if self._short else self._min_free
        self._short = True
        for directory in self._directories:
            check_room(directory, min_free, filesystem=self._filesystem)
        self._short = False
