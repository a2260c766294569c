"""Finds places that flood trusts, yet every user of the machine may change."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from flood.text import printable

#: Directories of a spool that nobody but flood fills.
_OWN: Final = (".flood", "processing", "completed", "failed")
_SHARED: Final = ("incoming", "incoming_tmp")


def of_spool(server_directory: str, database: str) -> list[str]:
    """What is wrong with the modes of a spool with its database, each in one line with the command
    that mends it; what is not there is passed over."""
    own = [f"{server_directory}/{name}" for name in _OWN]
    shared = [f"{server_directory}/{name}" for name in _SHARED]
    found = [
        # Who can make files beside a database can make those in which SQLite looks for changes.
        *_writable([server_directory, os.path.dirname(database), *own]),
        *_loose(shared),
        *_writable([database, *(f"{database}{end}" for end in ("-wal", "-shm"))]),
        *above(server_directory),
        *above(database),
    ]
    return list(dict.fromkeys(found))


def above(path: str) -> list[str]:
    """What is wrong with the directories that lead to a file: whoever may rename in one of them can
    put another file in its place. The sticky bit prevents that."""
    every: dict[str, None] = {}
    for way in (os.path.abspath(path), os.path.realpath(path)):
        while way != (way := os.path.dirname(way)):
            every[way] = None
    return list(_loose(every))


def _writable(paths: Iterable[str]) -> Iterator[str]:
    for path, mode in _modes(paths):
        if mode & stat.S_IWOTH:
            yield _line(path, mode, "every user may write to it", "o-w")


def _loose(paths: Iterable[str]) -> Iterator[str]:
    for path, mode in _modes(paths):
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield _line(path, mode, "every user may rename or remove what is in it", "+t")


def _modes(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    for path in paths:
        try:
            yield path, os.stat(path).st_mode
        except OSError:
            continue


def _line(path: str, mode: int, what: str, change: str) -> str:
    shown = printable(path)
    return f"{shown}: {what} (mode {stat.S_IMODE(mode):04o}); run chmod {change} {shown}"
