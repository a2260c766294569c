"""Opens a spool for a command that changes its records."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from shlex import quote

from flood import (
    binding,
    devices,
    directories,
    fsck_database,
    models,
    owners,
    read_only,
    schema,
    users,
)
from flood.config import Settings
from flood.errors import (
    FloodError,
    NoRoomError,
    ReadOnlyError,
    SpoolError,
    SpoolLockedError,
    TryAgainError,
)
from flood.locks import COMMANDS_LOCK, FileLock
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_TRY_AGAIN


@contextmanager
def opened(settings: Settings, now: datetime) -> Iterator[Spool]:
    """The spool, with the models bound to its database: the one that it was set up with, unless
    `settings` name another. Meanwhile nobody puts a new database in the place of that.

    Raises SpoolError where either is missing, or they do not belong together; SpoolLockedError
    while the database is being replaced; ReadOnlyError where the filesystem takes no writes.
    """
    spool = Spool(settings.server_directory)
    database = fsck_database.find(spool, settings)
    spool.check_present()
    lock = FileLock(spool.absolute(COMMANDS_LOCK))
    try:
        free = lock.patiently(lock.try_shared)
    except OSError as error:
        if read_only.refused(error, lock.path):
            raise read_only.told(f"cannot lock {lock.path}") from error
        remedy = _access_to(lock.path, spool)
        if models.no_room(error):
            remedy = "make room on its disk"
        raise kind(error)(f"cannot lock {lock.path}: {error.strerror}; {remedy}") from error
    if not free:
        raise SpoolLockedError(f"flood-fsck repairs {spool.root}: try again afterwards")
    try:
        compare = partial(binding.compare, spool.root, database, create=False)
        binding.check_there(spool.root, database)
        schema.migrate(database, create=False, server_directory=spool.root, check=compare)
        binding.bind(spool, database, create=False, now=now)
        devices.follow(spool)
        yield spool
    finally:
        lock.release()


def _access_to(path: str, spool: Spool) -> str:
    """What a person does about a lock file that is denied to this user, or cannot be made."""
    denied = directories.nearest(path)
    if users.owns(denied):
        return users.opening([denied])
    if owners.user_of(spool.root) == os.geteuid():
        return f"sudo chown {users.with_group(users.mine())} {quote(denied)}"
    return "run this as the user of flood-watch, and remove that file if it is another's"


def kind(error: Exception) -> type[FloodError]:
    """What an error of the disk's or the database's is to whoever meets it as he starts."""
    if models.no_room(error):
        return NoRoomError
    if read_only.refused(error, models.path()):
        return ReadOnlyError
    return TryAgainError if "locked" in str(error) else SpoolError


def exit_status(error: Exception) -> int:
    """The exit status of a command that this error ends."""
    if isinstance(error, FloodError):
        return error.exit_status
    return EXIT_TRY_AGAIN if issubclass(kind(error), TryAgainError) else EXIT_FAILED
