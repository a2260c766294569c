"""Tells which files could not be deleted."""

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final

from flood import read_only, users

#: How many files are named.
_NAMED: Final = 10

_ADVICE: Final = {
    os.strerror(errno.EACCES): "let flood's user write to the directory that it lies in",
    os.strerror(errno.EPERM): users.NOT_PERMITTED,
    os.strerror(errno.EROFS): read_only.ADVICE,
}
_OTHERWISE: Final = "see what is odd about it"


def undeleted(failed: Sequence[tuple[str, str]], root: str) -> Iterator[str]:
    """Each file below the server directory `root` whose time is over, yet that could not be
    deleted, with the reason, in lines for a person, and what to do; nothing if there is none."""
    for path, reason in failed[:_NAMED]:
        yield f"cannot delete {os.path.join(root, path)}: {reason}"
    if len(failed) > _NAMED:
        yield f"cannot delete {len(failed) - _NAMED} more"
    for reason in dict.fromkeys(reason for _, reason in failed):
        advice = _ADVICE.get(reason, _OTHERWISE)
        yield f"{reason}: {advice}; it is tried again by the next run"
