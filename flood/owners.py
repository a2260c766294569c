"""Has what root makes belong to who is to use it."""

import os
from contextlib import suppress


def give(made: int, like: str) -> None:
    """Have the new file, or directory, of root's behind this descriptor belong to whom `like`
    belongs to; another user can give nothing away."""
    if os.geteuid() == 0:
        with suppress(OSError):  # the filesystem has its own rules for who may do what
            owner = os.stat(like)
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
    give(made, database)
    return made
