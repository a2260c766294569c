"""Reaches directories without passing through a symbolic link."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flood.syscalls import open_without_links

#: What a directory may be at most, files likewise without the x: the umask takes from it, yet
#: however loose that is, not every user may write.
MODE: Final = 0o775
FILE_MODE: Final = 0o664

_PATH: Final = os.O_PATH | os.O_DIRECTORY


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the directory, which serves as `dir_fd` only; raises the OSError of the way
    to it, with ELOOP where a link is part of it."""
    descriptor = open_without_links(path, _PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def listed(path: str) -> Iterator["Iterator[os.DirEntry[str]]"]:
    """The entries of the directory; raises as `opened` does."""
    descriptor = open_without_links(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def make(path: str) -> None:
    """Create a directory with all that is missing above it; nothing happens if it is there.

    Raises OSError: NotADirectoryError or ELOOP for a file or a link in the way, FileNotFoundError
    if somebody took a part of it away meanwhile.
    """
    # Not level by level from below: a path may have more levels than Python recurses.
    missing: list[str] = []
    while True:
        try:
            directory = open_without_links(path, _PATH)
            break
        except FileNotFoundError:
            path, name = os.path.split(path)
            missing.append(name)
    try:
        for name in reversed(missing):
            try:
                os.mkdir(name, MODE, dir_fd=directory)
            except FileExistsError:
                pass  # somebody was faster; what it is, the next call tells
            below = os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = below
    finally:
        os.close(directory)
