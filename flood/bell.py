"""Wakes idle consumers through an inotify watch on a file beside the database."""

import os
import threading
import time

from inotify_simple import INotify, flags

from flood import owners
from flood.database_files import BELL


def bell_path(database: str) -> str:
    """The file that is touched when there is work."""
    return f"{database}{BELL}"


def ring(database: str) -> None:
    """Wake every consumer that waits; call it after the commit that they are to see."""
    try:
        # Opening for writing makes IN_CLOSE_WRITE on close even though nothing is written.
        os.close(owners.beside(database, BELL))
    except OSError:
        pass  # the work is committed, and who waits looks for it without a ring before long


class Bell:
    """What a thread waits on; each thread has a watch of its own, so that none misses a ring."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._local = threading.local()

    def listen(self) -> None:
        """Hear rings from now on; call it before looking for work."""
        watch: INotify | None = getattr(self._local, "watch", None)
        if watch is not None and self._local.pid == os.getpid():
            return
        self._local.pid = os.getpid()
        self._local.watch = None
        watch = None
        try:
            watch = INotify(nonblocking=True)
            os.close(owners.beside(self._database, BELL))
            watch.add_watch(bell_path(self._database), flags.CLOSE_WRITE | flags.DELETE_SELF)
            self._local.watch = watch
        except OSError:
            # No inotify instance to be had (fs.inotify.max_user_instances): wait() then sleeps in
            # short steps, which finds work as surely, a little later.
            if watch is not None:
                watch.close()

    def wait(self, seconds: float) -> None:
        """Return on a ring since the last call, or after so many seconds."""
        watch: INotify | None = getattr(self._local, "watch", None)
        if watch is None:
            time.sleep(min(seconds, 0.2))
            return
        events = watch.read(timeout=int(seconds * 1000))
        if any(event.mask & (flags.DELETE_SELF | flags.IGNORED) for event in events):
            watch.close()
            self._local.watch = None

    def close(self) -> None:
        """Stop listening in this thread."""
        watch: INotify | None = getattr(self._local, "watch", None)
        if watch is not None:
            watch.close()
            self._local.watch = None
