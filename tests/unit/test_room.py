"""Room on filesystems, as they report it."""

import os

import pytest

from flood.errors import NoRoomError
from flood.room import Room, check_room

MIB = 1024**2


class Disk:
    """A filesystem whose numbers a test sets."""

    def __init__(self, free: int, inodes: int = 10_000, free_inodes: int = 5_000) -> None:
        self.free, self.inodes, self.free_inodes = free, inodes, free_inodes
        self.asked: list[str] = []

    def __call__(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        blocks = self.free // 1024
        inodes = self.free_inodes
        # bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax
        return os.statvfs_result(
            (4096, 1024, 10 * blocks, 2 * blocks, blocks, self.inodes, inodes, inodes, 0, 255)
        )


def test_what_is_to_be_written_must_leave_enough() -> None:
    disk = Disk(10 * MIB)
    check_room("/spool", 4 * MIB, 1, 6 * MIB, disk)
    with pytest.raises(NoRoomError, match=r"/spool .* 6.1 MiB are to .* 10.0 MiB .* 4.0 MiB"):
        check_room("/spool", 4 * MIB, 1, 6 * MIB + 100_000, disk)
    assert disk.asked == ["/spool"] * 2


def test_a_thousandth_of_the_inodes_is_left() -> None:
    disk = Disk(10 * MIB, inodes=10_000, free_inodes=15)
    check_room("/spool", 0, 5, 0, disk)
    with pytest.raises(NoRoomError, match=r"15 more files fit"):
        check_room("/spool", 0, 6, 0, disk)
    disk.free_inodes = 1
    with pytest.raises(NoRoomError, match=r"1 more file fits"):
        check_room("/spool", 0, 1, 0, disk)


def test_filesystems_that_count_no_inodes_have_enough() -> None:
    check_room("/spool", 0, 10**9, 0, Disk(10 * MIB, inodes=0, free_inodes=0))


def test_a_disk_at_the_limit_changes_no_minds() -> None:
    disk = Disk(10 * MIB)
    room = Room(["/spool", "/database"], 10 * MIB, disk)
    room.check()
    disk.free = 10 * MIB - 1024
    for free in (10 * MIB - 1024, 10 * MIB, 11 * MIB - 1024):
        disk.free = free
        with pytest.raises(NoRoomError, match="/spool"):
            room.check()
    disk.free = 11 * MIB
    room.check()
    disk.free = 10 * MIB
    room.check()
    assert "/database" in disk.asked


def test_the_real_filesystem_is_asked(tmp_path: object) -> None:
    check_room(str(tmp_path), 0)
    with pytest.raises(NoRoomError):
        check_room(str(tmp_path), 1024**5)
