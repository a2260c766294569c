"""What lies in the spool, looked at without changing anything."""

import errno
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

from flood import directories, layout, syscalls
from flood.errors import SpoolError
from flood.identity import Identity, identity_of
from flood.states import INCOMING, PROCESSING
from flood.text import printable
from flood.walk import Found, Oddity, counts, kind_of, steps, walk

PATH_MAX: Final = 4096  # with the NUL at the end, linux/limits.h

#: What is wrong with a path of which `Tree.too_long` is true, and what to do.
TOO_LONG: Final = (
    f"with the spool's own its path has more than {PATH_MAX - 1} bytes, which Linux does not take:"
    " shorten the names of its directories"
)

#: What the way to a file says that is not, or not any more, in the spool.
NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

#: What opening a file says of this machine, not of the file.
SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Vanished(Exception):
    """The file is not there any more, or another one is there under its name."""


class NotRegular(Exception):
    """What lies there is no regular file."""


class Tree:
    """The tree of files below one server directory. Paths are relative to it.

    Whoever drops files may also make symbolic links, at any time: no file is opened through one.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self._id: str | None = None

    def absolute(self, path: str) -> str:
        """The path that the operating system takes."""
        return f"{self.root}/{path}"

    def expect(self, spool_id: str) -> None:
        """Take no other spool for this one from now on."""
        self._id = spool_id

    def present(self) -> bool:
        """Whether the server directory is there, and this very spool: an unmounted disk leaves an
        empty directory behind, in which every file would seem to have vanished."""
        try:
            with open(self.absolute(layout.CARD), encoding="utf-8") as card:
                return self._id is None or self._id in card.read()
        except OSError as error:
            # A look takes no descriptor; whether it is this spool's card, the next one compares.
            return error.errno in SHORT and os.path.exists(self.absolute(layout.CARD))
        except ValueError:
            return False

    def check_present(self) -> None:
        """Raise SpoolError unless the spool is there, and this user can tell."""
        if self.present():
            return
        directories.check_open(self.absolute(layout.CARD))
        other = os.path.exists(self.absolute(layout.CARD))
        raise SpoolError(
            f"{self.root} is another spool now: is the right disk mounted there?"
            if other
            else f"{self.root} is no spool any more, it has no {layout.CARD}: is its disk mounted?"
        )

    def identify(self, path: str) -> Identity | None:
        """The identity of the regular file at `path`, following no link; None if none is there."""
        try:
            status = os.lstat(self.absolute(path))
        except OSError:
            return None
        return identity_of(status) if stat.S_ISREG(status.st_mode) else None

    def found(self, path: str) -> Identity | None:
        """The same, but raises PermissionError where this user cannot look: that is not gone."""
        identity = self.identify(path)
        if identity is None and (closed := self.closed(path)) is not None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), closed)
        return identity

    def changed_ns(self, path: str) -> int | None:
        """When the inode last changed, as by a rename, in nanoseconds since the epoch; None if it
        is gone. Unlike `flood.identity.changed_ns` it is for directories, too, and for files with
        several names."""
        try:
            return os.lstat(self.absolute(path)).st_ctime_ns
        except OSError:
            return None

    def changed_at(self, path: str) -> datetime | None:
        """The same as an aware time; None if the file is gone, or the time is beyond calendars."""
        changed = self.changed_ns(path)
        try:
            return None if changed is None else datetime.fromtimestamp(changed / 1e9, timezone.utc)
        except (OSError, OverflowError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        """Whether anything at all lies at `path`."""
        return os.path.lexists(self.absolute(path))

    def closed(self, path: str) -> str | None:
        """The directory on the way to `path` that this user may not look into; None if there is
        none, or nothing lies there."""
        try:
            os.lstat(self.absolute(path))
        except PermissionError:
            above = path.rpartition("/")[0]
            return self.closed(above) or above
        except OSError:
            return None
        return None

    def refuses(self, *paths: str) -> str | None:
        """The first directory that keeps this user from moving a file away from one of these paths,
        or there: one that he may not look into, or not write to, which may be one above those that
        are still to be made; None if there is none."""
        for path in paths:
            closed = self.closed(path)
            if closed is not None:
                return closed
            above = directories.nearest(os.path.dirname(self.absolute(path)))
            if not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
                return os.path.relpath(above, self.root)
        return None

    def refusal(self, error: OSError, source: str, target: str) -> str:
        """Why a move failed, with the directory that refuses it, for people."""
        denied = isinstance(error, PermissionError)
        directory = self.refuses(source, target) if denied else None
        return printable(f"{error.strerror}{f' in {directory}' if directory else ''}")

    def is_directory(self, path: str) -> bool:
        """Whether a directory lies at `path`, following no link."""
        try:
            return stat.S_ISDIR(os.lstat(self.absolute(path)).st_mode)
        except OSError:
            return False

    def behind_link(self, path: str) -> bool:
        """Whether a symbolic link is among the directories above `path`: what lies there is none of
        the spool's, as no link is followed."""
        try:
            with directories.opened(os.path.dirname(self.absolute(path))):
                return False
        except OSError as error:
            return error.errno in (errno.ELOOP, errno.ENOTDIR)

    def too_long(self, path: str) -> bool:
        """Whether the system takes no such path, or none that the file would have in processing."""
        state, slash, rest = path.partition("/")
        longest = PROCESSING if state == INCOMING else state
        return len(os.fsencode(self.absolute(f"{longest}{slash}{rest}"))) >= PATH_MAX

    def oddity(self, path: str) -> str | None:
        """What lies at `path` in words, if it is neither a regular file nor a directory."""
        try:
            mode = os.lstat(self.absolute(path)).st_mode
        except OSError:
            return None
        return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else kind_of(mode)

    def open(self, path: str) -> tuple[int, Identity]:
        """Open a regular file for reading, following no link: its descriptor, its identity.

        Raises Vanished, NotRegular, or the OSError of open(2).
        """
        try:
            # Without O_NONBLOCK a FIFO that took the file's place would block for ever.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = syscalls.open_without_links(self.absolute(path), flags)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise Vanished(path) from error
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotRegular(path) from error
            raise
        return _regular(descriptor, path)

    def hold(self, path: str) -> tuple[int, Identity]:
        """Get hold of a regular file without opening it, which needs no right to read it: a
        descriptor, its identity. What the file occupies is not given back before that is closed.

        Raises Vanished, NotRegular, or the OSError of open(2).
        """
        try:
            descriptor = syscalls.open_without_links(self.absolute(path), os.O_PATH)
        except OSError as error:
            if error.errno in NOT_THERE:
                raise Vanished(path) from error
            raise
        return _regular(descriptor, path)

    def walk(self, directory: str) -> Iterator[Found | Oddity]:
        """Every regular file below a directory, with what is none, as `flood.walk.walk` does."""
        return walk(self.root, directory)

    def steps(self, directory: str) -> Iterator[Found | Oddity | None]:
        """The same in steps, as `flood.walk.steps` does."""
        return steps(self.root, directory)

    def counts(self, directory: str) -> Iterator[tuple[str, int] | Oddity]:
        """How many files lie in each directory below one, as `flood.walk.counts` does."""
        return counts(self.root, directory)

    def subdirectories(self, directory: str) -> list[str]:
        """The names of the directories directly below `directory`, without links."""
        try:
            with directories.listed(self.absolute(directory)) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            return []

    def obstacle(self, path: str) -> str | None:
        """What stands where a directory above `path` should be."""
        parts = path.split("/")
        for length in range(1, len(parts)):
            above = "/".join(parts[:length])
            try:
                if not stat.S_ISDIR(os.lstat(self.absolute(above)).st_mode):
                    return above
            except OSError:
                return None
        return None


def _regular(descriptor: int, path: str) -> tuple[int, Identity]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotRegular(path)
    return descriptor, identity_of(status)
