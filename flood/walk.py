"""Finds the files below a directory."""

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from flood import directories
from flood.identity import Identity, identity_of

#: So many names are counted at a time.
_SOME: Final = 1000


@dataclass(frozen=True)
class Found:
    """A regular file as a walk met it, by its path relative to the server directory; `changed` is
    when its inode last changed, in seconds since the epoch, if the walk looked."""

    path: str
    identity: Identity
    uid: int
    changed: float = 0.0


@dataclass(frozen=True)
class Oddity:
    """Something in the spool that is not flood's to touch; `kind` in words."""

    path: str
    kind: str

    @property
    def unreadable(self) -> bool:
        """Whether it is a directory that this user cannot look into."""
        return self.kind.startswith("unreadable")

    @property
    def reason(self) -> str:
        """Why it is left alone."""
        return f"it is {self.kind if self.unreadable else f'no regular file but a {self.kind}'}"


def walk(root: str, directory: str) -> Iterator[Found | Oddity]:
    """Every regular file below a directory, whose path is relative to `root`, following no link;
    what is no regular file or cannot be read comes as an Oddity. Directories that vanish meanwhile
    are passed over."""
    return (found for found in steps(root, directory) if found is not None)


def steps(root: str, directory: str) -> Iterator[Found | Oddity | None]:
    """The same, with None for each step that finds neither: whoever has something else to do in
    between may go by their number, as a directory takes its time, too."""
    waiting = [directory]
    while waiting:
        current = waiting.pop()
        yield None
        try:
            with directories.listed(f"{root}/{current}") as entries:
                for entry in entries:
                    path = f"{current}/{entry.name}"
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(path)
                            yield None
                            continue
                        status = entry.stat(follow_symlinks=False)
                    except PermissionError:
                        raise  # names alone can be read, and tell of no file what it is
                    except OSError:
                        continue  # taken away between the listing and the look
                    if stat.S_ISREG(status.st_mode):
                        yield Found(path, identity_of(status), status.st_uid, status.st_ctime)
                    else:
                        yield Oddity(path, kind_of(status.st_mode))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                yield Oddity(current, f"unreadable ({error.strerror})")


def counts(root: str, directory: str) -> Iterator[tuple[str, int] | Oddity]:
    """How many files lie directly in each directory below one, a few at a time, without a look at
    any of them; what is neither file nor directory counts, too. A directory that cannot be read
    comes as an Oddity."""
    waiting = [directory]
    while waiting:
        current = waiting.pop()
        try:
            with directories.listed(f"{root}/{current}") as entries:
                while some := list(islice(entries, _SOME)):
                    below = [each.name for each in some if each.is_dir(follow_symlinks=False)]
                    waiting += [f"{current}/{name}" for name in below]
                    yield current, len(some) - len(below)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                yield Oddity(current, f"unreadable ({error.strerror})")


def kind_of(mode: int) -> str:
    """What lies somewhere, in words; `mode` as stat tells it."""
    kinds = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    )
    return next((word for test, word in kinds if test(mode)), "special file")
