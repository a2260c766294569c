"""Holds flood-watch to its own server directory, which may go away for a while."""

import errno
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from flood import binding, cards, devices, directories, read_only, users
from flood.errors import SpoolError, SpoolLockedError
from flood.layout import PRIVATE
from flood.locks import WATCH_LOCK, FileLock
from flood.spool import Spool

#: A flood-put that looks whether a flood-watch runs has the lock for an instant.
_LOOKS: Final = 6
_PAUSE: Final = 0.1


class Home:
    """The lock on the server directory of `spool`, whose database is `database`; `now` answers
    aware times."""

    def __init__(self, spool: Spool, database: str, *, now: Callable[[], datetime]) -> None:
        self._spool = spool
        self._database = database
        self._now = now
        self._lock = FileLock(spool.absolute(WATCH_LOCK))
        self._refused = f"cannot use the server directory {spool.root}"

    def enter(self) -> None:
        """Make the directory if need be, and lock it.

        Raises SpoolLockedError if another flood-watch has it, SpoolError if it cannot be used,
        ReadOnlyError where that is its filesystem's doing.
        """
        cards.check_outside(self._spool.root)
        cards.check_database_outside(self._spool.root, self._database)
        binding.check_lost(self._spool.root, self._database)
        cards.check_way(self._spool.root)
        try:
            directories.make(self._spool.root)
            self._take()
        except OSError as error:
            if read_only.refused(error, self._spool.root):
                raise read_only.told(self._refused) from error
            raise SpoolError(f"{self._refused}: {error.strerror}", self._advice()) from error
        # Before the database, which is not to be made for nothing.
        own = self._spool.absolute(PRIVATE)
        if os.path.islink(own):
            raise SpoolError(
                f"{self._refused}: {own} must be a directory, but a link is in its place: put "
                "the directory there; flood-check tells how"
            )
        if read_only.mounted(self._spool.root):
            raise read_only.told(self._refused)
        if not os.access(self._spool.root, os.W_OK | os.X_OK, effective_ids=True):
            raise SpoolError(f"{self._refused}: {os.strerror(errno.EACCES)}", self._advice())

    def check(self) -> None:
        """Return if the directory is there.

        One that is back as another directory, as after a backup was restored, is locked anew if it
        is the same spool. Raises SpoolError while it is away, SpoolLockedError if another
        flood-watch was faster.
        """
        self._spool.check_present()
        if not self._lock.stands():
            binding.bind(self._spool, self._database, create=False, now=self._now())
            devices.follow(self._spool)
            self._lock.release()
            self._take()

    def leave(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def _advice(self) -> str:
        closed = directories.nearest(self._spool.root)
        if users.owns(closed):
            return users.opening([closed])
        return f"give this user write access to {closed}, or set --server-directory to another"

    def _take(self) -> None:
        for _ in range(_LOOKS):
            if self._lock.try_exclusive():
                return
            time.sleep(_PAUSE)
        raise SpoolLockedError(
            f"another flood-watch is at work on {self._spool.root}: one is enough, stop it first"
        )
