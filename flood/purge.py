"""Empties incoming_tmp of what dead copies left."""

import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import log, models, queries, records, telling
from flood.locks import PUT_LOCK, FileLock
from flood.record_values import Reason
from flood.spool import Spool
from flood.states import INCOMING_TMP, PERMANENT
from flood.walk import Oddity

#: While any flood-put lives, files that were touched within so many seconds are spared: it may
#: have made them, and not locked them yet.
YOUNG: Final = 60.0

_BATCH: Final = 500
_ABANDONED: Final = Reason(
    PERMANENT,
    "abandoned",
    "flood-put ended before it had copied this file: put it again",
)

logger = getLogger(__name__)


def purge(spool: Spool, now: datetime) -> int:
    """Delete everything in incoming_tmp but what a live flood-put has; how many files that were.

    What lies there was never promised: flood-put succeeds only once its file is in incoming.
    """
    lock = FileLock(spool.absolute(PUT_LOCK))
    alone = lock.try_exclusive()
    try:
        deleted = 0
        files = _files(spool, alone, now)
        while batch := list(islice(files, _BATCH)):
            gone = [path for path in batch if _remove(spool, path)]
            with models.write():
                ended = [
                    row
                    for row in queries.at_paths(gone, INCOMING_TMP).values()
                    if records.vanish(row.id, now, reason=_ABANDONED)
                ]
            for row in ended:
                telling.ended(logger, row, _ABANDONED)
            deleted += len(gone)
        if alone:
            # Those of the buckets stay: somebody may have given producers rights to them.
            for profile in spool.subdirectories(INCOMING_TMP):
                for bucket in spool.subdirectories(f"{INCOMING_TMP}/{profile}"):
                    spool.remove_empty(f"{INCOMING_TMP}/{profile}/{bucket}")
    finally:
        lock.release()
    if deleted:
        log.event(logger, INFO, "incoming_tmp emptied", files=deleted)
    return deleted


def _remove(spool: Spool, path: str) -> bool:
    try:
        spool.remove(path)
    except FileNotFoundError:
        return False  # its flood-put was faster
    except OSError as error:
        log.event(logger, WARNING, "not emptied", path=path, reason=error.strerror)
        return False
    return True


def _files(spool: Spool, alone: bool, now: datetime) -> Iterator[str]:
    for found in spool.walk(INCOMING_TMP):
        if isinstance(found, Oddity) and found.unreadable:
            log.event(logger, WARNING, "not emptied", path=found.path, reason=found.kind)
        elif alone or isinstance(found, Oddity) or not in_use(spool, found.path, now):
            yield found.path


def in_use(spool: Spool, path: str, now: datetime) -> bool:
    """Whether some flood-put may still copy into this file, as long as any lives."""
    try:
        descriptor, _ = spool.open(path)
    except Exception:  # noqa: BLE001  gone already, or not to be looked at: spared either way
        return True
    try:
        if now.timestamp() - os.fstat(descriptor).st_ctime < YOUNG:
            return True
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
