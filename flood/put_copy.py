"""Copies one file into incoming_tmp."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flood import owners, read_only, syscalls, users
from flood.destination import Destination
from flood.errors import NoRoomError, SpoolError
from flood.identity import Identity, identity_of
from flood.put_plan import Source, Stopped
from flood.spool import Spool
from flood.states import INCOMING_TMP

#: Between two looks at the stop signal, in bytes.
_CHUNK: Final = 8 * 1024**2
_READ: Final = 1024**2

# A copy's mode where flood-watch, which has to read it, runs as another user.
_FOR_ALL: Final = 0o644

# What copy_file_range(2) answers where this pair of files is beyond it; then the bytes are read.
_NOT_IN_KERNEL: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
)


class NotCopied(Exception):
    """This one file cannot be put; the message says why."""


@dataclass
class Copy:
    """A copy in incoming_tmp; `identity` is what it has, or will have once it is filled.

    `lock` is a descriptor for reading only, whose flock keeps the purge away without making the
    file look as if somebody still wrote to it.
    """

    source: Source
    path: str
    target: str
    reader: int
    writer: int
    lock: int
    identity: Identity
    birth: float | None
    record: int | None = None

    def close(self) -> None:
        """Close what is open of it, the lock last."""
        self.close_data()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def close_data(self) -> None:
        """Close the source with the copy; only the lock stays."""
        for descriptor in (self.reader, self.writer):
            if descriptor >= 0:
                os.close(descriptor)
        self.reader = self.writer = -1


class Copier:
    """Makes copies for one destination. `advance` is told of bytes copied, less where a file is
    begun afresh; `warn` of what is odd. Close it at the end.

    Raises SpoolError if nothing can be written to this spool.
    """

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        *,
        stopping: Callable[[], bool],
        advance: Callable[[int], None],
        warn: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._destination = destination
        self._stopping = stopping
        self._advance = advance
        self._warn = warn
        self._in_kernel = hasattr(os, "copy_file_range")
        self._folder = f"{INCOMING_TMP}/{destination.profile}/{destination.bucket}"
        self._absolute = spool.absolute(self._folder)
        try:
            spool.make_directory(self._folder)
            self._directory = syscalls.open_without_links(
                self._absolute, os.O_RDONLY | os.O_DIRECTORY
            )
        except OSError as error:
            if read_only.refused(error, self._absolute):
                raise read_only.told(f"cannot write to {self._absolute}") from error
            denied = _denied([self._absolute])
            if isinstance(error, PermissionError) and denied is not None:
                raise SpoolError(denied) from error
            raise SpoolError(f"cannot write to {self._absolute}: {error.strerror}") from error
        self._own_spool = owners.user_of(spool.root) == os.geteuid()

    def close(self) -> None:
        """Give the directory's descriptor back."""
        os.close(self._directory)

    def begin(self, source: Source) -> Copy:
        """Open the source, and make an empty copy with a random name.

        Raises NotCopied, NoRoomError.
        """
        name = secrets.token_hex(8)
        copy = Copy(
            source=source,
            path=f"{self._folder}/{name}",
            target=self._destination.place(source.key).path,
            reader=-1,
            writer=-1,
            lock=-1,
            identity=Identity(0, 0, 0, 0),
            birth=None,
        )
        try:
            self._open(copy, name)
        except BaseException as error:
            made, readable = copy.writer >= 0, copy.reader >= 0
            copy.close()
            if made:
                self._spool.remove(copy.path)
            if isinstance(error, OSError):
                raise trouble(error, source, [self._absolute] * readable) from error
            raise
        return copy

    def _open(self, copy: Copy, name: str) -> None:
        # O_NONBLOCK: a FIFO that took the file's place would block for ever.
        links = 0 if copy.source.named else os.O_NOFOLLOW
        copy.reader = os.open(
            copy.source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | links
        )
        status = os.fstat(copy.reader)
        if not stat.S_ISREG(status.st_mode):
            raise NotCopied(f"{copy.source.path}: it is no regular file")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        copy.writer = os.open(name, flags, self._mode(status), dir_fd=self._directory)
        self._hand_over(copy.writer)
        reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        copy.lock = os.open(name, reading, dir_fd=self._directory)
        fcntl.flock(copy.lock, fcntl.LOCK_EX)
        made, wanted = identity_of(os.fstat(copy.writer)), identity_of(status)
        copy.identity = made._replace(size=wanted.size, mtime_ns=wanted.mtime_ns)
        copy.birth = syscalls.birth_time(f"{self._absolute}/{name}")

    def _hand_over(self, writer: int) -> None:
        """Let flood-watch read another user's copy: as the spool's owner, as whom it most likely
        runs, or as anybody."""
        if self._own_spool:
            return
        owner = owners.of_spool(self._spool.root)
        if os.geteuid() == 0 and owner is not None:
            os.fchown(writer, owner.st_uid, owner.st_gid)
        else:
            os.fchmod(writer, _FOR_ALL)  # whatever the umask took

    def _mode(self, status: os.stat_result) -> int:
        """The copy's mode, from which the umask takes: whoever could not read the source cannot
        read its copy either."""
        return 0o600 | (status.st_mode & 0o044)

    def fill(self, copy: Copy) -> None:
        """Copy the bytes that the source has now, with its times; nothing is flushed yet.

        A source that changes meanwhile is copied once more. Raises NotCopied, NoRoomError, Stopped.
        """
        try:
            status = self._steady(copy)
            os.utime(copy.writer, ns=(status.st_atime_ns, status.st_mtime_ns))
            copy.identity = identity_of(os.fstat(copy.writer))
        except OSError as error:
            raise trouble(error, copy.source) from error

    def _steady(self, copy: Copy) -> os.stat_result:
        for again in (True, False):
            before = os.fstat(copy.reader)
            copied = self._bytes(copy, before.st_size)
            # Files of /proc have a size of 0 and content all the same.
            more = os.pread(copy.reader, 1, before.st_size)
            after = os.fstat(copy.reader)
            same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if same and copied == before.st_size and not more:
                return before
            if again:
                self._warn(f"{copy.source.path}: it changed while it was copied; once more")
                self._advance(-copied)
                os.ftruncate(copy.writer, 0)
        raise NotCopied(f"{copy.source.path}: it keeps changing: put it when it stands still")

    def _bytes(self, copy: Copy, size: int) -> int:
        done = 0
        while done < size:
            if self._stopping():
                raise Stopped
            count = self._some(copy, done, min(_CHUNK, size - done))
            if count == 0:
                break
            done += count
            self._advance(count)
        return done

    def _some(self, copy: Copy, offset: int, length: int) -> int:
        if self._in_kernel:
            try:
                count = os.copy_file_range(copy.reader, copy.writer, length, offset, offset)
                if count:
                    return count
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    raise
                self._in_kernel = False
        data = memoryview(os.pread(copy.reader, min(length, _READ), offset))
        written = 0
        while written < len(data):
            written += os.pwrite(copy.writer, data[written:], offset + written)
        return written


def trouble(
    error: OSError, source: Source, directories: Sequence[str] = ()
) -> NotCopied | NoRoomError:
    """What an error of the operating system means for the run: the end for want of room, else of
    this file alone. `directories` are those of the spool that had to be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoomError(f"there is no room for {source.path} in the spool: {error.strerror}")
    if error.errno == errno.EROFS:  # which only writing meets
        return NotCopied(f"{source.path}: the spool is on a filesystem that is mounted read-only")
    denied = _denied(directories) if isinstance(error, PermissionError) else None
    return NotCopied(f"{source.path}: {denied or error.strerror}")


def _denied(directories: Sequence[str]) -> str | None:
    """Which of these keeps this user from writing, with what to do about it; None if none does."""
    for path, what in filter(None, map(_refusal, directories)):
        owner = users.owner(path)
        return f"this user may not {what} {path}: let {owner} allow it, or run flood-put as {owner}"
    return None


def _refusal(path: str) -> tuple[str, str] | None:
    """Which directory keeps this user from writing to the one at `path`, and what it refuses."""
    above = ["/"]
    for part in path.strip("/").split("/"):
        above.append(os.path.join(above[-1], part))
    for directory in above[:-1]:
        if os.path.isdir(directory) and not os.access(directory, os.X_OK, effective_ids=True):
            return directory, "look into"
    there = next(each for each in reversed(above) if os.path.isdir(each))
    return None if os.access(there, os.W_OK, effective_ids=True) else (there, "write to")
