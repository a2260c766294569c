"""Finds places that flood trusts, yet every user of the machine may change."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from flood.text import printable

#: Directories of a spool that nobody but flood fills.
_OWN: Final = (".flood", "processing", "completed", "failed")
_SHARED: Final = ("incoming", "incoming_tmp")

_MOVES_SPOOL: Final = (
    "stop flood, move its directories to one of their own, set --server-directory to that"
)
_MOVES_DATABASE: Final = (
    "stop flood, move the database, with the files beside it whose names begin like its own, to a "
    "directory of its own, set --database to it there"
)


class Exposed(NamedTuple):
    """What every user may change, with the command, or what else mends it."""

    seen: str
    mends: str
    is_command: bool = True

    @property
    def line(self) -> str:
        """Both, for a log."""
        return f"{self.seen}; {'run ' * self.is_command}{self.mends}"


def of_spool(server_directory: str, database: str) -> list[Exposed]:
    """What is wrong with the modes of a spool with its database; what is not there is passed
    over."""
    own = [f"{server_directory}/{name}" for name in _OWN]
    shared = [f"{server_directory}/{name}" for name in _SHARED]
    found = [
        # Who can make files beside a database can make those in which SQLite looks for changes.
        *_place(server_directory, _MOVES_SPOOL),
        *_place(os.path.dirname(database), _MOVES_DATABASE),
        *_writable(own),
        *_loose(shared),
        *_writable([database, *(f"{database}{end}" for end in ("-wal", "-shm"))]),
        *above(server_directory),
        *above(database),
    ]
    return list(dict.fromkeys(found))


def above(path: str) -> list[Exposed]:
    """What is wrong with the directories that lead to a file: whoever may rename in one of them can
    put another file in its place. The sticky bit prevents that."""
    every: dict[str, None] = {}
    for way in (os.path.abspath(path), os.path.realpath(path)):
        while way != (way := os.path.dirname(way)):
            every[way] = None
    return list(_loose(every))


def _place(path: str, moves: str) -> Iterator[Exposed]:
    for shown, mode in _modes([path]):
        if mode & stat.S_IWOTH and mode & stat.S_ISVTX:
            # As /tmp is: not flood's alone, and others are to write there.
            yield Exposed(_seen(shown, mode, "every user may write to it"), moves, is_command=False)
        else:
            yield from _writable([path])


def _writable(paths: Iterable[str]) -> Iterator[Exposed]:
    for path, mode in _modes(paths):
        if mode & stat.S_IWOTH:
            yield _changed(path, mode, "every user may write to it", "o-w")


def _loose(paths: Iterable[str]) -> Iterator[Exposed]:
    for path, mode in _modes(paths):
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield _changed(path, mode, "every user may rename or remove what is in it", "+t")


def _modes(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    for path in paths:
        try:
            yield path, os.stat(path).st_mode
        except OSError:
            continue


def _changed(path: str, mode: int, what: str, change: str) -> Exposed:
    return Exposed(_seen(path, mode, what), f"chmod {change} {printable(path)}")


def _seen(path: str, mode: int, what: str) -> str:
    return f"{printable(path)}: {what} (mode {stat.S_IMODE(mode):04o})"
