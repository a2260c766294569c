"""Makes a new database for a spool whose own is gone or broken."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone

from flood import binding, models, schema
from flood.errors import SpoolError, SpoolLockedError
from flood.locks import COMMANDS_LOCK, CONSUMERS_LOCK, PUT_LOCK, WATCH_LOCK, FileLock, WorkerLocks
from flood.spool import Spool, set_aside


@contextmanager
def alone(spool: Spool, workers: WorkerLocks) -> Iterator[None]:
    """Keep flood-watch, consumers, all commands away. Raises SpoolLockedError if any of them is at
    work: one that has the old database open would go on writing to that."""
    with ExitStack() as stack:
        for path, who in (
            (WATCH_LOCK, "flood-watch"),
            (CONSUMERS_LOCK, "a consumer"),
            (PUT_LOCK, "flood-put"),
            (COMMANDS_LOCK, "flood-retry, flood-prune or flood-notify"),
        ):
            lock = FileLock(spool.absolute(path))
            try:
                free = lock.patiently(lock.try_exclusive)
            except OSError as error:
                raise SpoolError(f"cannot lock {lock.path}: {error.strerror}") from error
            if not free:
                raise SpoolLockedError(
                    f"{who} is at work on {spool.root}: stop flood-watch with all consumers, let "
                    "other commands of flood end, then repair"
                )
            stack.callback(lock.release)
        if not workers.all_dead():
            raise SpoolLockedError(
                f"a worker is still at work on {spool.root}: stop all consumers, then repair"
            )
        yield


def rebuild(spool: Spool, database: str, queue: Callable[[], None], now: datetime) -> list[str]:
    """Keep what is left of the database aside, make a new one that belongs to this spool; return
    where the old files are now. The spool must be held `alone`. `queue` makes the queue's tables.

    Raises SpoolError, what the database raises, the OSError of a rename.
    """
    models.close()
    stamp = now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    try:
        kept = set_aside(database, f".broken-{stamp}")
    except FileExistsError as error:
        raise SpoolError(f"{error.filename} is there already: try again in a second") from error
    schema.migrate(database, create=True, server_directory=spool.root)
    binding.bind(spool, database, create=True, now=now)
    queue()
    return kept
