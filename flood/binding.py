"""Holds a server directory to the one database that belongs to it."""

import json
import os
import stat
import uuid
from datetime import datetime
from itertools import count
from shlex import quote

from flood import layout, models
from flood.columns import utc_text
from flood.errors import SpoolError
from flood.layout import CARD
from flood.spool import Spool
from flood.walk import kind_of


def check(server_directory: str, database: str) -> None:
    """Raise SpoolError if the spool was set up with another database that still exists, or if it is
    a copy of one that does. It needs no database, so that none is made in the wrong place."""
    # A second database for a spool that has one would make two records of the same files.
    card = _read(server_directory)
    if card is not None and _is_another(card["database"], database):
        raise SpoolError(
            f"the spool {server_directory} belongs to the database {card['database']}, "
            f"not to {database}",
            f"correct --database, or remove {server_directory}/{CARD} if the spool is to start "
            "with a new one",
        )
    # Files of one would be looked for, and be missed, in the other.
    original = card and _original(card, server_directory)
    if original:
        raise SpoolError(
            f"the spool {server_directory} is a copy of {original}, which is still there, and both "
            "have the same records",
            f"set --server-directory to {original}; or, with that one stopped, rename it, and "
            f"{server_directory} is the spool",
        )


def in_the_way(server_directory: str) -> tuple[str, str] | None:
    """What lies where the card, or a directory on the way to it, has to be: its path, with what is
    wrong in words; None if nothing does, or nobody can tell."""
    own = f"{server_directory}/{layout.PRIVATE}"
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
    """Raise SpoolError if something else lies where the spool, or its card, has to be."""
    found = in_the_way(server_directory)
    if found is not None:
        raise SpoolError(
            found[1],
            "move it away, put the right one back if there was one, or correct --server-directory "
            "(FLOOD_SERVER_DIRECTORY); flood-check tells more",
        )


def check_there(server_directory: str, database: str) -> None:
    """Raise SpoolError if `database` does not exist though the spool was set up with one, for
    whoever does not make any: a first start of flood-watch is not what it lacks."""
    try:
        os.lstat(database)
        return
    except (FileNotFoundError, NotADirectoryError):
        card = _read(server_directory)
    except OSError:
        return  # opening it tells why
    if card is None:
        return
    if _is_another(card["database"], database):
        raise SpoolError(
            f"the database {database} does not exist, and {server_directory} belongs to "
            f"{card['database']}",
            "set --database (FLOOD_DATABASE) to that one",
        )
    raise SpoolError(f"the database {database} is gone", models.GONE)


def check_mounted(server_directory: str, database: str) -> None:
    """Raise SpoolError if the server directory is not there, but the database belongs to a spool:
    a directory in the place of a disk that is not mounted would be taken for it, and could keep it
    from being mounted there. It binds the models to `database` if it has to look."""
    if os.path.lexists(server_directory) or not os.path.isfile(database):
        return
    models.bind(database)
    try:
        recorded = bound_to()
    except models.DatabaseError:
        return  # whatever it is, bringing it up to date tells better
    if recorded is not None:
        raise _unmounted(server_directory, database, recorded)


def bind(spool: Spool, database: str, *, create: bool, now: datetime) -> str:
    """Compare the ids of both sides, and return the spool's id; raise SpoolError if they differ.

    With `create` (flood-watch) two new sides get an id, and a new database gets that of its spool,
    whose own was lost. The models must be bound to `database`.
    """
    card, recorded = compare(spool.root, database, create=create)
    spool_id = recorded or (card["id"] if card else uuid.uuid4().hex)
    # The spool's side first: should this process die in between, the next start completes it.
    new = {"id": spool_id, "database": database, "directory": spool.root}
    if create and card != new:
        spool.keep(CARD, json.dumps(new) + "\n")
    if recorded is None:
        with models.write():
            models.execute(
                "INSERT INTO spool (id, spool_id, created_at) VALUES (1, ?, ?) "
                "ON CONFLICT (id) DO NOTHING",
                (spool_id, utc_text(now)),
            )
    spool.expect(spool_id)
    models.expect(spool_id)
    return spool_id


def compare(
    server_directory: str, database: str, *, create: bool
) -> tuple[dict[str, str] | None, str | None]:
    """Return the spool's card, the id that the database has; raise SpoolError as `bind` does, but
    write nothing. The models must be bound to `database`, which must have its tables."""
    card = _read(server_directory)
    recorded = bound_to()
    if card is None and recorded is None and not create:
        raise SpoolError(
            f"{server_directory} is no spool yet: start flood-watch on it first, "
            "or set --server-directory (FLOOD_SERVER_DIRECTORY) to the one that flood-watch uses"
        )
    if card is None and recorded is not None:
        # An unmounted disk looks like this, and must not become a second, empty spool.
        raise _unmounted(server_directory, database, recorded)
    if card is not None and recorded is not None and card["id"] != recorded:
        raise SpoolError(
            f"the spool {server_directory} does not belong to the database {database}: one of "
            f"both was replaced, or restored from elsewhere. The spool's id is {card['id']} (it "
            f"was set up with {card['database']}), the database's is {recorded}",
            "put the right one back, or correct --server-directory or --database",
        )
    if recorded is None and not create:
        raise SpoolError(
            f"the database {database} is empty, it belongs to no spool yet: start flood-watch first"
        )
    check(server_directory, database)
    return card, recorded


def _unmounted(server_directory: str, database: str, recorded: str) -> SpoolError:
    return SpoolError(
        f"{server_directory} is not the spool of the database {database}: is its disk mounted? "
        f"If it is, and only {CARD} was deleted, write it again: "
        f"{rewriting(server_directory, database, recorded)}"
    )


def rewriting(server_directory: str, database: str, recorded: str) -> str:
    """The command that makes a directory the spool again whose id the database has recorded."""
    text = json.dumps({"id": recorded, "database": database})
    found = in_the_way(server_directory)
    first = f"{moving_away(found[0])} && " if found else ""
    return (
        f"{first}mkdir -p {quote(f'{server_directory}/{layout.PRIVATE}')} && "
        f"echo {quote(text)} > {quote(f'{server_directory}/{CARD}')}"
    )


def moving_away(path: str) -> str:
    """The command that gives what lies there another name, over which nothing is lost."""
    names = (f"{path}.away{number if number > 1 else ''}" for number in count(1))
    return f"mv {quote(path)} {quote(next(name for name in names if not os.path.lexists(name)))}"


def bound_to() -> str | None:
    """The id of the spool that this database belongs to; None if it belongs to none yet."""
    row = models.execute("SELECT spool_id FROM spool WHERE id = 1").fetchone()
    return str(row[0]) if row else None


def _is_another(recorded: str, database: str) -> bool:
    """Whether `recorded` still exists, and is not `database` by another name."""
    try:
        return not os.path.samefile(recorded, database)
    except OSError:
        return os.path.exists(recorded)  # then `database` is the one that is not there


def _original(card: dict[str, str], server_directory: str) -> str | None:
    """Where the spool lies that this one was copied from; None where there is none any more."""
    directory = card.get("directory", server_directory)
    try:
        if os.path.samefile(f"{directory}/{CARD}", f"{server_directory}/{CARD}"):
            return None  # at most another name of it, as of a bind mount
        other = _read(directory)
    except (OSError, SpoolError):
        return None
    return directory if other is not None and other["id"] == card["id"] else None


def database_of(server_directory: str) -> str | None:
    """The database that this spool was set up with; None if it never was."""
    card = _read(server_directory)
    return card["database"] if card else None


def is_its_own(server_directory: str) -> bool:
    """Whether the card there says that it is of this very server directory."""
    try:
        card = _read(server_directory)
    except SpoolError:
        return False
    return card is not None and card.get("directory") == server_directory


def owner_of(server_directory: str) -> int | None:
    """The id of the user that flood-watch runs as; None if the spool was never set up."""
    try:
        return os.stat(f"{server_directory}/{CARD}").st_uid
    except OSError:
        return None


def _read(server_directory: str) -> dict[str, str] | None:
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
