"""Reaches directories without passing through a symbolic link."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from logging import WARNING, getLogger
from typing import Final

from flood import log, users
from flood.errors import SpoolError
from flood.syscalls import open_without_links

#: What a directory may be at most, files likewise without the x: the umask takes from it, yet
#: however loose that is, not every user may write.
MODE: Final = 0o775
FILE_MODE: Final = 0o664

#: How many directories are kept open at once; each transaction moves a few hundred files.
MOST: Final = 64

_PATH: Final = os.O_PATH | os.O_DIRECTORY
_INHERITED: Final = stat.S_ISGID | stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO

logger = getLogger(__name__)

#: Refusals of modes that the log has told of.
_told: set[str] = set()


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the directory, which serves as `dir_fd` only; raises the OSError of the way
    to it, with ELOOP where a link is part of it."""
    descriptor = open_without_links(path, _PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Kept:
    """Descriptors of directories that are reached again and again.

    What lies at a path may be another directory meanwhile: whoever finds nothing in one forgets it.
    """

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._again: set[str] = set()

    def reach(self, path: str) -> int:
        """A descriptor as that of `opened`, which lasts until the path is forgotten; raises as
        `opened` does."""
        known = self._open.get(path)
        if known is not None:
            self._again.add(path)
            return known
        descriptor = self._open[path] = open_without_links(path, _PATH)
        return descriptor

    def forget(self, *paths: str) -> bool:
        """Reach these anew the next time; whether one of them had been reached before its last."""
        again = not self._again.isdisjoint(paths)
        for path in paths:
            self._again.discard(path)
            descriptor = self._open.pop(path, None)
            if descriptor is not None:
                os.close(descriptor)
        return again

    def trim(self) -> None:
        """Give all descriptors back if there are MOST, or more."""
        if len(self._open) >= MOST:
            self.close()

    def close(self) -> None:
        """Give all descriptors back."""
        self.forget(*self._open)


@contextmanager
def listed(path: str) -> Iterator["Iterator[os.DirEntry[str]]"]:
    """The entries of the directory; raises as `opened` does."""
    descriptor = open_without_links(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def nearest(path: str) -> str:
    """What is there of an absolute path: itself, or of all above it the last that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def closed(path: str) -> str | None:
    """The directory on the way to an absolute path, also through links, that this user may not
    enter, so that he cannot tell what lies there; None if there is none."""
    try:
        os.stat(path)
        return None
    except PermissionError:
        path = os.path.realpath(path)
    except OSError:
        return None
    while True:
        path = os.path.dirname(path)
        try:
            os.lstat(path)
        except PermissionError:
            continue
        except OSError:
            return None
        return path


def check_open(path: str) -> None:
    """Raise SpoolError where this user cannot tell whether anything lies at `path`."""
    found = closed(path)
    if found is not None:
        raise SpoolError(unseen(found), users.access_to([found]))


def unseen(directory: str) -> str:
    """What is said of a directory that this user may not enter."""
    return f"cannot look into {directory}: {os.strerror(errno.EACCES)}"


def make(path: str, *, alike: bool = False) -> None:
    """Create a directory with all that is missing above it; nothing happens if it is there.

    With `alike` each gets the group and the mode of the one above it, from root its owner, too:
    whoever may take a file out of the one must be able to take it out of the other, whichever user
    makes it; the log says once where the system refuses such a mode. Otherwise the umask has its
    say.

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
            below = _make_one(name, directory, alike)
            os.close(directory)
            directory = below
    finally:
        os.close(directory)


def _make_one(name: str, parent: int, alike: bool) -> int:
    """Return a descriptor of the directory, which may be there already."""
    try:
        os.mkdir(name, MODE, dir_fd=parent)
    except FileExistsError:
        alike = False  # somebody was faster; what it is, the next call tells
    directory = os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if alike:
        _make_alike(name, parent, directory)
    return directory


def _make_alike(name: str, parent: int, directory: int) -> None:
    above, own = os.fstat(parent), os.fstat(directory)
    mode = above.st_mode & _INHERITED
    if above.st_mode & stat.S_ISVTX:
        return  # where everybody keeps his files from the others, so does this one
    # Only root can give it to the owner of the one above, and has to: the mode may let nobody else.
    owner = above.st_uid if os.geteuid() == 0 else own.st_uid
    if (own.st_uid, own.st_gid) != (owner, above.st_gid):
        try:
            os.chown(name, owner, above.st_gid, dir_fd=parent, follow_symlinks=False)
        except OSError:
            mode &= ~stat.S_IRWXG  # this user's own group has no part in it
    if mode != stat.S_IMODE(own.st_mode):
        try:
            os.chmod(f"/proc/self/fd/{directory}", mode | stat.S_IRWXU)
        except OSError as error:
            _tell_refused(directory, mode, str(error.strerror))


def _tell_refused(directory: int, mode: int, reason: str) -> None:
    """The filesystem may have its own rules for who may do what, a sandbox may forbid the setgid
    bit; it would be said of each directory that is made."""
    if reason in _told:
        return
    _told.add(reason)
    log.event(
        logger,
        WARNING,
        "mode refused",
        path=os.readlink(f"/proc/self/fd/{directory}"),
        mode=f"{mode:04o}",
        reason=reason,
        next="others may be kept from it, and from more that are made like it: chmod them, and see "
        "what refuses that to flood, as systemd's RestrictSUIDSGID= does",
    )
