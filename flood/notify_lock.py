"""Lets others know whether a flood-watch runs flood-notify."""

import hashlib
import json
import os
from contextlib import suppress
from typing import Final

from flood.config import Settings
from flood.locks import NOTIFY_LOCK, FileLock, held
from flood.spool import Spool

#: What others find: nobody holds the lock; who does has these settings; has others; this user may
#: not look.
NOBODY: Final = "nobody"
THESE: Final = "these"
OTHERS: Final = "others"
UNKNOWN: Final = "unknown"

#: The settings of which it depends who is told, and when.
_SETTINGS: Final = ("notify_command", "notify_urls", "notify_interval", "notify_age")


class NotifyLock:
    """The lock of a flood-watch on this spool that runs flood-notify with these settings. Nothing
    depends on it but what flood-check says, so that no failure of it is told."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self._lock = FileLock(spool.absolute(NOTIFY_LOCK))
        self._note = _note(settings)

    def hold(self) -> None:
        """Take the lock, unless it is held; anew where the spool is another directory by now."""
        if self._lock.stands():
            return
        self._lock.release()
        with suppress(OSError):
            if self._lock.patiently(self._lock.try_exclusive):
                self._lock.write(self._note)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def look(spool: Spool, settings: Settings) -> str:
    """Who holds the lock of this spool: one of the above."""
    path = spool.absolute(NOTIFY_LOCK)
    try:
        if not held(path):
            return NOBODY
        with open(path, "rb") as file:
            return THESE if file.read() == _note(settings) else OTHERS
    except OSError:
        return UNKNOWN


def _note(settings: Settings) -> bytes:
    # A digest, as the command may say more than every user of this machine is to know.
    told = json.dumps([getattr(settings, name) for name in _SETTINGS])
    return hashlib.sha256(os.fsencode(told)).hexdigest().encode()
