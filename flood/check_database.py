"""Looks at the database of a spool, without writing to it."""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from shlex import quote
from typing import Final

from flood import (
    check_directories,
    check_spool,
    database_files,
    fsck_database,
    models,
    owners,
    read_only,
    schema,
    users,
    writers,
)
from flood.check_findings import DATABASE, ERROR, OK, WARNING, Finding
from flood.config import Settings, command
from flood.errors import FloodError, NoRoomError, SpoolError
from flood.fsck_kinds import INDEX_MISSING, REPAIR_COMMAND, in_place
from flood.spool import Spool

#: Whose a file is that is not there, or in a directory that this user may not search.
_NOBODY_KNOWN: Final = "nobody known"

_REFUSED: Final = (
    "neither flood-watch nor consumers start; flood-put refuses, or puts without records"
)


def look(spool: Spool, settings: Settings, now: datetime) -> tuple[str | None, list[Finding]]:
    """The path of the database, None if its records cannot be read, with what there is to say of
    it. The models are bound to it afterwards, for reading."""
    fsck = command(settings, "flood-fsck")
    try:
        path = fsck_database.find(spool, settings)
        inside = check_directories.inside_another(spool, path)
        if inside is not None:
            return None, [inside]
        if read_only.mounted(path):
            return None, [_unwritable(path)]
        denied = database_files.denied_parts(path)
        if denied and not _is_gone(path):
            return None, [_denied(spool, path, denied)]
        wrong = list(_wrong(spool, path, settings, now))
    except NoRoomError as error:
        seen = str(error).removesuffix(f": {models.MAKE_ROOM}")
        return None, [Finding(DATABASE, "file", ERROR, seen, _REFUSED, models.MAKE_ROOM)]
    except FloodError as error:
        seen, advice = str(error), fsck
        if isinstance(error, SpoolError) and error.settings:
            seen, advice = error.seen, in_place(error.settings, command(settings, *REPAIR_COMMAND))
        return None, [Finding(DATABASE, "tie", ERROR, seen, _REFUSED, advice)]
    except (models.DatabaseError, OSError) as error:
        return None, [Finding(DATABASE, "file", ERROR, models.explain(error), _REFUSED, fsck)]
    found = [*wrong, *_elsewhere(path, settings)]
    if wrong:
        return None, found
    return path, [*found, *_healthy(path, settings), *_room(path, settings)]


def _unwritable(path: str) -> Finding:
    seen = f"{path} is on a filesystem that is mounted read-only"
    return Finding(DATABASE, "access", ERROR, seen, _REFUSED, read_only.ADVICE)


def _denied(spool: Spool, path: str, parts: list[str]) -> Finding:
    # Whose the spool is, flood is to run as: what root has put beside it does not change that.
    user = owners.name_of(spool.root, path)
    meaning = f"flood cannot work as this user; the spool belongs to {user}"
    mends = database_files.mends(path, user, parts)
    if user == users.mine():
        why = "modes forbid it" if all(map(users.owns, parts)) else "not all of this is his"
        meaning = f"it is the right user, to whom the spool belongs: {why}"
    return Finding(
        DATABASE,
        "access",
        ERROR,
        f"this user may not use {parts[0]}, which belongs to {_owner(parts[0])}",
        meaning,
        mends,
    )


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # nobody can tell
    return False


def _owner(path: str) -> str:
    try:
        return users.owner(path)
    except OSError:
        return _NOBODY_KNOWN


def _wrong(spool: Spool, path: str, settings: Settings, now: datetime) -> Iterator[Finding]:
    repair = command(settings, *REPAIR_COMMAND)
    for each in fsck_database.look(spool, path, now):
        kind = each.kind
        where = ", ".join(filter(None, (each.path, each.detail)))
        seen = f"{kind.title}: {where}"
        yield Finding(DATABASE, "integrity", ERROR, seen, kind.meaning, kind.mended_by(repair))


def _elsewhere(path: str, settings: Settings) -> Iterator[Finding]:
    """What flood-watch or a consumer would use, started here with these settings."""
    if os.path.realpath(settings.database) != os.path.realpath(path):
        yield Finding(
            DATABASE,
            "setting",
            WARNING,
            f"no setting names it: flood-watch and consumers would look for {settings.database}",
            "started from this directory they refuse, as the spool belongs to "
            f"{path}; flood-put and flood-check find it by themselves",
            f"write database = {quote(path)} into flood.conf",
        )


def _healthy(path: str, settings: Settings) -> Iterator[Finding]:
    yield from _held(path)
    steps = schema.applied(path)
    missing = schema.missing_indices()
    if missing:
        kind = INDEX_MISSING
        seen = f"{kind.title}: {', '.join(missing)}"
        mends = kind.mended_by(command(settings, *REPAIR_COMMAND))
        yield Finding(DATABASE, "indices", ERROR, seen, kind.meaning, mends)
    else:
        seen = f"{path} is sound, and of this flood's schema ({steps[-1]})"
        yield Finding(DATABASE, "integrity", OK, seen)
    mode = str(models.execute("PRAGMA journal_mode").fetchone()[0])
    if mode == "wal":
        yield Finding(DATABASE, "journal mode", OK, "wal")
    else:
        yield Finding(
            DATABASE,
            "journal mode",
            WARNING,
            f"it is {mode}, where flood sets wal",
            "whoever writes keeps all others from reading: flood is slow, and may wait in vain",
            f"stop flood, then: sqlite3 {quote(path)} 'PRAGMA journal_mode = WAL'",
        )


def _held(path: str) -> Iterator[Finding]:
    """Who keeps all others from writing."""
    stopped, alien = writers.stopped(path), writers.staying(path, time.sleep)
    for holder, how, mends in (
        (stopped, "and is stopped", f"kill -CONT {stopped}"),
        (
            alien,
            "which is none of flood's",
            f"have it end its transaction, or end it; this tells what it is: ps -fp {alien}",
        ),
    ):
        if holder is not None:
            yield Finding(
                DATABASE,
                "writers",
                ERROR,
                f"process {holder} holds it, {how}",
                "nobody else can write: no file is taken, none that is uploaded is settled",
                mends,
            )


def _room(path: str, settings: Settings) -> Iterator[Finding]:
    yield from check_spool.room(os.path.dirname(path), settings.min_free, topic=DATABASE)
