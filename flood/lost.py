"""Says what to do about a spool that is not where its database is used."""

import json
import os
from itertools import chain
from shlex import quote
from typing import Final, NamedTuple

from flood import cards, directories, layout, models, owners, users
from flood.columns import name_from
from flood.errors import SpoolError
from flood.layout import CARD
from flood.spool import ALL_RIGHTS
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
    """The command that makes a directory the spool again whose id the database has recorded; it
    becomes the user's whom flood is to run as, whoever runs the command."""
    text = json.dumps({"id": spool_id, "database": database, "directory": server_directory})
    own, card = f"{server_directory}/{layout.PRIVATE}", f"{server_directory}/{CARD}"
    user = owners.user_of(server_directory, database) or 0
    found = cards.in_the_way(server_directory)
    away = found[0] if found else None
    there = [each for each in (server_directory, own) if os.path.isdir(each) and each != away]
    foreign = [each for each in there if not _is_of(each, user)]
    place = os.path.dirname(away) if away else directories.nearest(own)
    able = os.geteuid() == 0 or (os.geteuid() == user and not foreign and _may_use(place))
    sudo = "" if able else "sudo "
    steps = [f"{sudo}{cards.moving_away(away)}"] if away else []
    steps.append(f"{sudo}mkdir -p {quote(own)}")
    into = f"> {quote(card)}" if able else f"| sudo tee {quote(card)} > /dev/null"
    steps.append(f"echo {quote(text)} {into}")
    if user:
        made = [each for each in (server_directory, own) if each not in there]
        places = " ".join(map(quote, (*foreign, *made, card)))
        steps.append(f"{sudo}chown {users.name(user)} {places}")
    return " && ".join(steps)


def _is_of(directory: str, user: int) -> bool:
    """Whether this user can use the directory, as far as this one can tell."""
    if os.stat(directory).st_uid == user:
        return True
    return os.geteuid() == user != 0 and _may_use(directory)


def _may_use(directory: str) -> bool:
    return os.access(directory, ALL_RIGHTS, effective_ids=True)


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
