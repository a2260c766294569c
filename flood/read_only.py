"""Tells of filesystems that nobody can write to."""

import errno
import os
from typing import Final

from flood.errors import ReadOnlyError

_WORDS: Final = os.strerror(errno.EROFS)

#: What a person does about one.
ADVICE: Final = (
    "look at the kernel's log (dmesg) for why, have the disk checked and mounted for writing "
    "again; or, where systemd has started this, see ReadWritePaths= of its unit"
)

# What SQLite says where it may not write, which depends on the files that it finds.
_REFUSALS: Final = ("readonly", "unable to open", "disk I/O error")


def mounted(path: str) -> bool:
    """Whether what lies there is on a filesystem that is mounted read-only, as Linux does after an
    error of the disk's."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def refused(error: BaseException, path: str) -> bool:
    """Whether that is why the system, or SQLite on the database at `path`, raised this error."""
    if isinstance(error, OSError):
        return error.errno == errno.EROFS
    return any(sign in str(error) for sign in _REFUSALS) and mounted(path)


def explained(error: BaseException) -> str:
    """That error, in words that say so."""
    text = str(error)
    return text if _WORDS in text else f"{text} ({_WORDS})"


def told(doing: str) -> ReadOnlyError:
    """What is raised where `doing`, which begins with "cannot", was refused."""
    return ReadOnlyError(f"{doing}: {_WORDS}: {ADVICE}")
