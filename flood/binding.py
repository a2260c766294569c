"""Holds a server directory to the one database that belongs to it."""

import json
import os
import uuid
from contextlib import suppress
from datetime import datetime

from flood import cards, directories, lost, models, schema
from flood.columns import name_from, name_value, utc_text
from flood.errors import SpoolError
from flood.layout import CARD
from flood.spool import Spool


def check(server_directory: str, database: str) -> None:
    """Raise SpoolError if the spool was set up with another database that still exists, or if it is
    a copy of one that does. It needs no database, so that none is made in the wrong place; if it
    raises, the models may be bound to that."""
    # A second database for a spool that has one would make two records of the same files.
    card = cards.read(server_directory)
    if card is None:
        return
    if _is_another(card["database"], database):
        advice = "correct --database (FLOOD_DATABASE)"
        if not os.path.lexists(database) or _recorded(database) is None:
            advice += (
                f", or remove {server_directory}/{CARD} if the spool is to start with a new one"
            )
        raise SpoolError(
            f"the spool {server_directory} belongs to the database {card['database']}, "
            f"not to {database}",
            advice,
        )
    _check_copy(server_directory, card["id"], card.get("directory"))


def _check_copy(server_directory: str, spool_id: str, original: str | None) -> None:
    # Files of one would be looked for, and be missed, in the other.
    if original is not None and lost.is_another(original, server_directory, spool_id):
        raise SpoolError(
            f"the spool {server_directory} is a copy of {original}, which is still there, and both "
            "have the same records",
            f"set --server-directory to {original}; or, if {server_directory} has the files that "
            f"wait, stop flood, rename {original}, and {server_directory} is the spool",
        )


def check_there(server_directory: str, database: str) -> None:
    """Raise SpoolError if `database` does not exist though the spool was set up with one, for
    whoever does not make any: a first start of flood-watch is not what it lacks."""
    try:
        os.lstat(database)
        return
    except (FileNotFoundError, NotADirectoryError):
        card = cards.read(server_directory)
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


def check_lost(server_directory: str, database: str) -> None:
    """Raise SpoolError if the server directory has no card, but the database belongs to a spool:
    a directory in the place of a disk that is not mounted would be taken for it, and could keep it
    from being mounted there. The models may be bound to it afterwards, for reading."""
    try:
        os.stat(f"{server_directory}/{CARD}")
        return
    except (FileNotFoundError, NotADirectoryError):
        found = look_lost(server_directory, database)
    except OSError:
        return  # nobody can tell
    if found is not None:
        raise found.error()


def look_lost(server_directory: str, database: str) -> lost.Lost | None:
    """What to do about a server directory without a card; None if the database is of no spool, or
    tells nothing. The models may be bound to it afterwards, for reading."""
    if not os.path.isfile(database):
        return None
    recorded = _recorded(database)
    if recorded is None:
        return None
    try:
        return lost.look(server_directory, database, recorded, _directory())
    except models.DatabaseError:
        return None  # whatever it is, bringing it up to date tells better


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
    if create and (recorded is None or _directory() != spool.root):
        with models.write():
            models.execute(
                "INSERT INTO spool (id, spool_id, created_at) VALUES (1, ?, ?) "
                "ON CONFLICT (id) DO NOTHING",
                (spool_id, utc_text(now)),
            )
            models.execute("UPDATE spool SET directory = ? WHERE id = 1", (name_value(spool.root),))
    spool.expect(spool_id)
    models.expect(spool_id)
    return spool_id


def compare(
    server_directory: str, database: str, *, create: bool
) -> tuple[dict[str, str] | None, str | None]:
    """Return the spool's card, the id that the database has; raise SpoolError as `bind` does, but
    write nothing. The models must be bound to `database`, which must have its tables."""
    card = cards.read(server_directory)
    recorded = bound_to()
    if card is None and recorded is None and not create:
        raise SpoolError(
            f"{server_directory} is no spool yet: start flood-watch on it first, "
            "or set --server-directory (FLOOD_SERVER_DIRECTORY) to the one that flood-watch uses"
        )
    if card is None and recorded is not None:
        # An unmounted disk looks like this, and must not become a second, empty spool.
        raise lost.look(server_directory, database, recorded, _directory()).error()
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
    if recorded is not None:
        _check_copy(server_directory, recorded, _directory())
    return card, recorded


def bound_to() -> str | None:
    """The id of the spool that this database belongs to; None if it belongs to none yet."""
    row = models.execute("SELECT spool_id FROM spool WHERE id = 1").fetchone()
    return str(row[0]) if row else None


def _directory() -> str | None:
    """Where the spool lay when flood-watch last looked after this database; None if it is of an
    older flood, which did not write that down."""
    try:
        row = models.execute("SELECT directory FROM spool WHERE id = 1").fetchone()
    except models.DatabaseError as error:
        if "no such column" not in str(error):
            raise
        return None
    return name_from(row[0]) if row and row[0] is not None else None


def _recorded(database: str) -> str | None:
    """The id of the spool that a database belongs to; None if it tells of none. The models are
    bound to it afterwards, for reading."""
    try:
        # That it is of an older flood does not matter here.
        with suppress(SpoolError):
            schema.open_for_reading(database)
        return bound_to()
    except models.DatabaseError:
        return None


def never_bound(database: str) -> bool:
    """Whether no spool has this database, as it is not there, or says so itself; not where nobody
    can tell. The models may be bound to it afterwards, for reading."""
    if not os.path.lexists(database):
        return directories.closed(database) is None
    try:
        with suppress(SpoolError):
            schema.open_for_reading(database)
        return bound_to() is None
    except models.DatabaseError as error:
        return "no such table" in str(error)


def _is_another(recorded: str, database: str) -> bool:
    """Whether `recorded` still exists, and is not `database` by another name."""
    try:
        return not os.path.samefile(recorded, database)
    except OSError:
        return os.path.exists(recorded)  # then `database` is the one that is not there
