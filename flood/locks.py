"""Locks that the kernel gives back when their process dies (flock(2))."""

import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from io import FileIO
from typing import Final

from flood import owners
from flood.directories import FILE_MODE, MODE
from flood.layout import PRIVATE
from flood.layout import WORKERS as WORKERS
from flood.spool import Spool

#: The server directory itself, as a file of its own could be deleted while it is held.
WATCH_LOCK: Final = "."
PUT_LOCK: Final = f"{PRIVATE}/put.lock"
#: Shared by consumers, from before they open the database until they end.
CONSUMERS_LOCK: Final = f"{PRIVATE}/consumers.lock"
#: Shared by consumers at their start, where a held database or a full disk may keep them.
STARTING_LOCK: Final = f"{PRIVATE}/starting.lock"
#: Shared by commands that write to the database: flood-retry, flood-prune, flood-notify.
COMMANDS_LOCK: Final = f"{PRIVATE}/commands.lock"
#: Held by a flood-watch that runs flood-notify.
NOTIFY_LOCK: Final = f"{PRIVATE}/notify.lock"

_READING: Final = 0o444
_MADE: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileLock:
    """A lock on a directory, or on a file that is created if need be and stays."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    def try_exclusive(self) -> bool:
        """Take the lock for this process alone, or return False at once."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take the lock beside other sharers, or return False at once."""
        return self._try(fcntl.LOCK_SH)

    def stands(self) -> bool:
        """Whether what is locked still lies at the path."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except OSError:
            return False

    def patiently(self, take: Callable[[], bool]) -> bool:
        """Take the lock by `take`, one of the above, in half a second: somebody who only looks
        whether it is free has it for an instant."""
        for _ in range(5):
            if take():
                return True
            time.sleep(0.1)
        return take()

    def write(self, content: bytes) -> None:
        """Have the locked file hold this alone, for whoever looks at it; raises OSError."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor < 0:
            self._descriptor = opened(self.path)

    def _try(self, operation: int) -> bool:
        self._open()
        try:
            fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno == errno.EWOULDBLOCK:
                return False
            raise
        return True


def lay(spool: Spool) -> None:
    """Make the lock files that are not there yet, as long as there is room for them: whoever comes
    to make some on a disk that takes no more files must not need another one. Raises OSError."""
    for name in (PUT_LOCK, CONSUMERS_LOCK, STARTING_LOCK, COMMANDS_LOCK):
        path = spool.absolute(name)
        if not os.path.lexists(path):
            os.close(opened(path))


def opened(path: str) -> int:
    """A descriptor of a directory, or of a file that is made if need be."""
    if os.path.isdir(path):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except PermissionError:
            # Another user's; flock needs no more than reading, but to write there.
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return _made(path, os.stat(os.path.dirname(path)))


def _made(path: str, owner: os.stat_result | None) -> int:
    """A new file that whom `owner` is of can lock, too: a command of root's, or of another user's
    with whatever umask, must not lock him out for ever."""
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    owners.give(made, owner)
    with suppress(OSError):  # the filesystem has its own rules for who may do what
        own = os.fstat(made)
        if owner is not None and own.st_uid != owner.st_uid:
            os.fchmod(made, stat.S_IMODE(own.st_mode) | _READING)
    return made


def held(path: str) -> bool:
    """Whether anybody holds this lock file, shared or alone. For the instant of the question nobody
    else can take it."""
    try:
        # flock needs no more than reading, which is all that other users may do.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class WorkerLocks:
    """Which workers live, by their locks below `.flood/workers`.

    A worker is one thread of one process. Its lock goes when the thread, or the process, ends.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._directory = spool.absolute(WORKERS)
        self._local = threading.local()
        self._owners: set[str] = set()
        self._pid = os.getpid()
        self._forked = threading.Lock()

    def own(self) -> str:
        """This thread's name as an owner of claims; its lock is held from the first call on, a new
        one if somebody removed that. Safe after a fork: the child gets names of its own."""
        if self._pid != os.getpid():
            # Two threads of the child may come here at once; nobody of the parent ever does.
            with self._forked:
                if self._pid != os.getpid():
                    self._owners, self._local = set(), threading.local()
                    self._pid = os.getpid()
        owner: str | None = getattr(self._local, "owner", None)
        if owner is not None and not os.fstat(self._local.lock.fileno()).st_nlink:
            # Somebody removed the file. To the others this worker is dead, and they would take over
            # whatever it claims while it sends it.
            self.disown()
            owner = None
        if owner is None:
            owner, self._local.lock = self._lock()
            self._local.owner = owner
            self._owners.add(owner)
        return owner

    def disown(self) -> None:
        """Give this thread's name up, so that a sweep takes over what it left unsettled."""
        owner: str | None = getattr(self._local, "owner", None)
        if owner is not None:
            self._owners.discard(owner)
            self._local.lock.close()
            del self._local.owner

    def note(self, content: bytes) -> None:
        """Write into this thread's lock file, if it has one, for whoever looks at its work; raises
        OSError. The kernel removes the lock of a worker that dies, a sweep the file."""
        if getattr(self._local, "owner", None) is not None:
            os.pwrite(self._local.lock.fileno(), content, 0)

    def of_process(self) -> list[str]:
        """The names of all workers of this process."""
        return sorted(self._owners) if self._pid == os.getpid() else []

    def dead(self, owner: str) -> bool:
        """Whether the worker behind this name is gone. A stopped one lives; so does one whose lock
        cannot be looked at."""
        try:
            with open(f"{self._directory}/{owner}", "rb", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            # On a disk that is not mounted nothing is found, which says nothing.
            return self._spool.present()
        except OSError:
            return False
        return True

    def forget_dead(self, spared: Collection[str]) -> None:
        """Remove the lock files of dead workers but those of `spared`, who still own claims."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for owner in names:
            if owner in spared:
                continue
            try:
                with open(f"{self._directory}/{owner}", "rb", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._spool.remove(f"{WORKERS}/{owner}")
            except OSError:
                continue  # alive, or another sweep was faster

    def ended(self) -> list[str]:
        """The names of dead workers whose lock files are still there."""
        try:
            return sorted(name for name in os.listdir(self._directory) if self.dead(name))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def all_dead(self) -> bool:
        """Whether no worker lives."""
        try:
            return all(self.dead(name) for name in os.listdir(self._directory))
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _lock(self) -> tuple[str, FileIO]:
        # Not the directory's, which is root's for the moment in which another thread gives it away.
        whose = owners.of_spool(self._spool.root)
        if not os.path.isdir(self._directory):
            # Not its parents: where they are gone, the spool is, and must not be made anew.
            with suppress(FileExistsError):
                os.mkdir(self._directory, MODE)
                made = os.open(self._directory, _MADE)
                owners.give(made, whose)
                os.close(made)
        while True:
            owner = uuid.uuid4().hex
            file = FileIO(_made(f"{self._directory}/{owner}", whose), "r+")
            fcntl.flock(file, fcntl.LOCK_EX)
            # Between the two calls a sweep may have found the file unlocked and removed it.
            if os.fstat(file.fileno()).st_nlink:
                return owner, file
            file.close()
