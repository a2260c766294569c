"""What a spool says of itself: its card, or what lies in the place of that."""

import json
import os
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import PurePath
from shlex import quote

from flood import directories
from flood.errors import SpoolError
from flood.layout import CARD, PRIVATE
from flood.states import STATES
from flood.text import printable
from flood.walk import kind_of


def read(server_directory: str) -> dict[str, str] | None:
    """The spool's id, its database, where it lay when that was written; None if it was never set
    up. Raises SpoolError for one that cannot be read, or is damaged."""
    path = f"{server_directory}/{CARD}"
    check_way(server_directory)  # before it is opened, as a FIFO would be waited at for ever
    try:
        with open(path, encoding="utf-8") as file:
            card = json.load(file)
        known = {name: card[name] for name in ("id", "database")}
        if "directory" in card:  # flood did not always write it
            known["directory"] = card["directory"]
        if not all(isinstance(value, str) and value for value in known.values()):
            raise ValueError("its values are no text")
        return known
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise SpoolError(
            f"cannot read {path}: {error.strerror}: give this user access to it"
        ) from error
    except OSError as error:
        raise SpoolError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpoolError(
            f"cannot read {path}, it is damaged ({error})",
            "remove it, then start flood-watch with the spool's own database; it writes a new one, "
            "or says how to write it again",
        ) from error


def database_of(server_directory: str) -> str | None:
    """The database that this spool was set up with; None if it never was."""
    card = read(server_directory)
    return card["database"] if card else None


def is_its_own(server_directory: str) -> bool:
    """Whether the card there says that it is of this very server directory."""
    try:
        card = read(server_directory)
    except SpoolError:
        return False
    return card is not None and card.get("directory") == server_directory


def in_the_way(server_directory: str) -> tuple[str, str] | None:
    """What lies where the card, or a directory on the way to it, has to be: its path, with what is
    wrong in words; None if nothing does, or nobody can tell."""
    own = f"{server_directory}/{PRIVATE}"
    path, wanted = f"{server_directory}/{CARD}", stat.S_IFREG
    if os.path.isfile(path):
        return None
    while True:
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            path, wanted = os.path.dirname(path), stat.S_IFDIR
            continue
        except OSError:
            return None
        # Above flood's own directory a link is as good.
        if stat.S_IFMT(mode) == wanted or (os.path.isdir(path) and not path.startswith(own)):
            return None
        return path, f"{path} must be a {kind_of(wanted)}, but a {kind_of(mode)} is in its place"


def check_way(server_directory: str) -> None:
    """Raise SpoolError if something else lies where the spool, or its card, has to be, or nobody
    can tell."""
    directories.check_open(f"{server_directory}/{CARD}")
    found = in_the_way(server_directory)
    if found is not None:
        raise SpoolError(
            found[1],
            "move it away, put the right one back if there was one, or correct --server-directory "
            "(FLOOD_SERVER_DIRECTORY); flood-check tells more",
        )


def around(directory: str) -> str | None:
    """The spool in one of whose own directories this one is, however it is named."""
    return next((printable(spool) for spool in _around(directory)), None)


def _around(path: str) -> Iterator[str]:
    """The spools in whose own directories the path is, however it is named."""
    for way in (path, os.path.realpath(path)):
        parts = PurePath(way)
        for below, parent in zip((parts, *parts.parents), parts.parents, strict=False):
            if below.name in (*STATES, PRIVATE) and os.path.exists(parent / CARD):
                yield str(parent)


def check_outside(server_directory: str) -> None:
    """Raise SpoolError for a server directory inside another spool, which takes its files for its
    own."""
    spool = around(server_directory)
    if spool is not None:
        raise SpoolError(
            f"{server_directory} is inside the spool {spool}, whose files flood takes away",
            "set --server-directory (FLOOD_SERVER_DIRECTORY) to a directory outside of that",
        )


def check_database_outside(server_directory: str, database: str) -> None:
    """Raise SpoolError for a database inside another spool, which carries it off; where it must not
    be in its own the settings are held to."""
    own = os.path.realpath(server_directory)
    for spool in _around(database):
        if os.path.realpath(spool) != own:
            setting = "set --database (FLOOD_DATABASE) to"
            there = os.path.lexists(database)
            raise SpoolError(
                f"the database {printable(database)} is inside the spool {printable(spool)}, whose "
                "files flood takes away",
                f"with flood stopped, move it with its -wal and -shm out of that, then {setting} "
                "where it is now"
                if there
                else f"{setting} a path outside of that",
            )


def moving_away(path: str) -> str:
    """The command that gives what lies there another name, over which nothing is lost."""
    names = (f"{path}.away{number if number > 1 else ''}" for number in count(1))
    return f"mv {quote(path)} {quote(next(name for name in names if not os.path.lexists(name)))}"
