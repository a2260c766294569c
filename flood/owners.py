"""Tells whose a spool is, so that what root makes belongs to who is to use it."""

import os
from collections.abc import Iterator
from contextlib import suppress

from flood import cards, users
from flood.errors import SpoolError
from flood.layout import CARD, PRIVATE
from flood.states import PROCESSING


def of_spool(server_directory: str, database: str | None = None) -> os.stat_result | None:
    """The status of what says as whom flood is to run: its user, and group. That is the card; where
    root has it, or there is none, what else nobody but flood makes, if that is another user's. None
    if there is nothing of a spool. `database` is read off the card unless it is given.

    The server directory itself says nothing: a disk's is root's, a container's anybody's.
    """
    first = None
    for place in _tell(server_directory, database):
        status = _status(place)
        if status is not None and status.st_uid:
            return status
        first = first or status
    return first


def user_of(server_directory: str, database: str | None = None) -> int | None:
    """The id of the user that flood is to run as; None if there is nothing of a spool."""
    owner = of_spool(server_directory, database)
    return None if owner is None else owner.st_uid


def keeper(server_directory: str, database: str | None = None) -> int | None:
    """The same, where this is root, who looks after what is another user's; else None."""
    return user_of(server_directory, database) if os.geteuid() == 0 else None


def name_of(server_directory: str, database: str | None = None) -> str:
    """The name of the user that flood is to run as: this one, where there is nothing of a spool."""
    owner = user_of(server_directory, database)
    return users.mine() if owner is None else users.name(owner)


def give(made: int, owner: os.stat_result | None) -> None:
    """Have the new file, or directory, of root's behind this descriptor belong to whom this status
    is of; another user can give nothing away."""
    if os.geteuid() == 0 and owner is not None:
        with suppress(OSError):  # the filesystem has its own rules for who may do what
            os.fchown(made, owner.st_uid, owner.st_gid)


def beside(database: str, suffix: str) -> int:
    """A descriptor, for writing, of a file beside the database, which is made if need be, and is
    the database's owner's, as those are that SQLite makes there; raises OSError."""
    path = f"{database}{suffix}"
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # Through no link: what lies at its end would be given away, too.
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # somebody was faster
    give(made, _status(database))
    return made


def _tell(server_directory: str, database: str | None) -> Iterator[str]:
    for name in (CARD, PRIVATE, PROCESSING):
        yield f"{server_directory}/{name}"
    if database is None:
        with suppress(SpoolError):
            database = cards.database_of(server_directory)
    if database is not None:
        yield database


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
