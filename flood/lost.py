"""Says what to do about a spool that is not where its database is used."""

import json
import os
from shlex import quote
from typing import NamedTuple

from flood import cards, layout, models
from flood.columns import name_from
from flood.errors import SpoolError
from flood.layout import CARD
from flood.states import INCOMING, PROCESSING, STATES


class Lost(NamedTuple):
    """What is `seen`, what a person does about it, in the order in which it is likely. `again` is
    the command that makes the directory the spool, None where that one is still there; `missing`
    one of the files that would fail as vanished then, None if none would."""

    seen: str
    advice: str
    again: str | None = None
    missing: str | None = None

    def error(self) -> SpoolError:
        """The same, to be raised."""
        return SpoolError(f"{self.seen}: {self.advice}{self._last()}")

    def _last(self) -> str:
        if self.again is None:
            return ""
        if self.missing is None:
            return f" If only {CARD} was deleted, write it again: {self.again}"
        return (
            f" Files that wait for their upload, such as {self.missing}, are not there; if they "
            "are gone for good, flood-check says how to go on without them"
        )


def look(server_directory: str, database: str, spool_id: str, directory: str | None) -> Lost:
    """What to do about a server directory without a card, used with the `database` of the spool
    `spool_id`, which lay at `directory` as far as is known. The models must be bound to it."""
    wrong = _wrong_with(server_directory)
    if directory is not None and is_another(directory, server_directory, spool_id):
        return Lost(
            f"{wrong}, and the database {database} belongs to the spool {directory}, which is "
            "still there",
            f"set --server-directory (FLOOD_SERVER_DIRECTORY) to {directory}, or for another spool "
            "--database (FLOOD_DATABASE) to one of its own",
        )
    known = directory not in (None, server_directory)
    whose = f"the spool that was at {directory}" if known else "a spool"
    return Lost(
        f"{wrong}, but the database {database} belongs to {whose}",
        "set --server-directory (FLOOD_SERVER_DIRECTORY) to where that is now; is its disk "
        "mounted?",
        rewriting(server_directory, database, spool_id),
        _missing(server_directory),
    )


def is_another(directory: str, server_directory: str, spool_id: str) -> bool:
    """Whether the spool of this id lies at `directory`, which is not another name of the server
    directory, as of a bind mount."""
    try:
        if os.path.samefile(f"{directory}/{CARD}", f"{server_directory}/{CARD}"):
            return False
    except OSError:
        pass
    try:
        card = cards.read(directory)
    except SpoolError:
        return False
    return card is not None and card["id"] == spool_id


def rewriting(server_directory: str, database: str, spool_id: str) -> str:
    """The command that makes a directory the spool again whose id the database has recorded."""
    text = json.dumps({"id": spool_id, "database": database, "directory": server_directory})
    found = cards.in_the_way(server_directory)
    first = f"{cards.moving_away(found[0])} && " if found else ""
    return (
        f"{first}mkdir -p {quote(f'{server_directory}/{layout.PRIVATE}')} && "
        f"echo {quote(text)} > {quote(f'{server_directory}/{CARD}')}"
    )


def _wrong_with(server_directory: str) -> str:
    found = cards.in_the_way(server_directory)
    if found is not None:
        return found[1]
    if not os.path.isdir(server_directory):
        return f"there is no directory {server_directory}"
    return f"{server_directory} has no {CARD}"


def _missing(server_directory: str) -> str | None:
    """One of the files that wait for their upload, but lie in none of the directories here."""
    waiting = models.execute(
        "SELECT spool_path FROM file_records WHERE current_state IN (?, ?)", (PROCESSING, INCOMING)
    )
    for (value,) in waiting:
        path = name_from(value)
        place = layout.parse(path)
        # A row may be a step behind its file.
        ways = (path, *(place.moved(state).path for state in STATES if place))
        if not any(os.path.lexists(f"{server_directory}/{way}") for way in ways):
            return layout.text(path)
    return None
