"""Says what to do about a spool that is not where its database is used."""

import json
import os
from itertools import chain
from shlex import quote
from typing import Final, NamedTuple

from flood import cards, layout, models
from flood.columns import name_from
from flood.errors import SpoolError
from flood.layout import CARD
from flood.states import FAILED, INCOMING, PROCESSING, STATES

#: How many records of files that have failed are looked at, the latest: there may be a million.
_FAILED: Final = 10_000


class Missing(NamedTuple):
    """One of the files that are in no store, and not there either: the state that its record has it
    in, where it should lie."""

    state: str
    path: str


class Lost(NamedTuple):
    """What is `seen`, what a person does about it, in the order in which it is likely. `again` is
    the command that makes the directory the spool, None where that one is still there; `bare`
    whether there is more amiss than the card, as nothing of a spool is there."""

    seen: str
    advice: str
    again: str | None = None
    missing: Missing | None = None
    bare: bool = False

    def error(self) -> SpoolError:
        """The same, to be raised."""
        return SpoolError(f"{self.seen}: {self.advice}{self._last()}")

    def _last(self) -> str:
        if self.again is None:
            return ""
        if self.missing is not None:
            state, path = self.missing
            which = "have failed" if state == FAILED else "wait for their upload"
            return (
                f" Files that {which}, such as {path}, are not there; if they are gone for good, "
                "flood-check says how to go on without them"
            )
        if self.bare:
            return " If the spool is gone for good, flood-check says how to go on without it"
        return f" If only {CARD} was deleted, write it again: {self.again}"


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
        bare=not any(os.path.isdir(f"{server_directory}/{state}") for state in STATES),
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


def _missing(server_directory: str) -> Missing | None:
    """One of the files that are in no store, but lie in none of the directories here."""
    waiting = models.execute(
        "SELECT current_state, spool_path FROM file_records WHERE current_state IN (?, ?)",
        (PROCESSING, INCOMING),
    )
    # The state stands in the text, or SQLite would not take the partial index.
    failed = models.execute(
        "SELECT current_state, spool_path FROM file_records WHERE current_state = 'failed' "
        "AND left_at IS NULL ORDER BY completed_at DESC LIMIT ?",
        (_FAILED,),
    )
    for state, value in chain(waiting, failed):
        path = name_from(value)
        if state == FAILED and not path.startswith(f"{FAILED}/"):
            continue  # it was gone before it could come there
        place = layout.parse(path)
        # A row may be a step behind its file.
        ways = (path, *(place.moved(state).path for state in STATES if place))
        if not any(os.path.lexists(f"{server_directory}/{way}") for way in ways):
            return Missing(state, layout.text(path))
    return None
