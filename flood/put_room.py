"""Looks whether the spool has room."""

import os
from collections.abc import Callable

from flood.errors import NoRoomError
from flood.spool import Spool


def check_room(
    spool: Spool,
    files: int,
    size: int,
    filesystem: Callable[[str], os.statvfs_result] = os.statvfs,
) -> None:
    """Raise NoRoomError unless the spool has room for so many files of so many bytes in all."""
    status = filesystem(spool.root)
    room = status.f_bavail * status.f_frsize
    if size > room:
        raise NoRoomError(f"{spool.root} has no room: {size} bytes are needed, {room} are free")
    # Filesystems that make inodes as they need them say 0.
    if status.f_files and files > status.f_favail:
        raise NoRoomError(f"{spool.root} has room for {status.f_favail} more files, not {files}")
