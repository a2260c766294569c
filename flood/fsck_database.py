"""Looks at the database as a whole, at its tie to the spool."""

import os
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from flood import binding, cards, devices, directories, fsck_damage, models, put_rows, schema
from flood import fsck_kinds as kinds
from flood.config import Settings
from flood.errors import SpoolError
from flood.fsck_kinds import Finding
from flood.spool import Spool

_HIDING: Final = (
    kinds.DATABASE_GONE,
    kinds.DATABASE_FOREIGN,
    kinds.DATABASE_BROKEN,
    kinds.DATABASE_EMPTY,
    kinds.SCHEMA_OLD,
    kinds.DAMAGED,
    kinds.DEVICE_CHANGED,
)


def find(spool: Spool, settings: Settings) -> str:
    """The path of the spool's database: the one that `settings` name, or else the one that the
    spool was set up with. Raises SpoolError if that is another one, or the spool was never set
    up."""
    named = None if settings.origins["database"] == "default" else settings.database
    binding.check_lost(spool.root, settings.database)
    if not os.path.isdir(spool.root):
        cards.check_way(spool.root)
        if binding.never_bound(settings.database):
            put_rows.check_set_up(spool, named)
        raise SpoolError(
            f"there is no directory {spool.root}",
            "is its disk mounted? If it is, set --server-directory (FLOOD_SERVER_DIRECTORY)",
        )
    if named is not None and os.path.exists(named):
        binding.check(spool.root, named)
        return named
    recorded = put_rows.check_set_up(spool, named)
    if named is not None and os.path.exists(recorded):
        directories.check_open(named)
        raise SpoolError(
            f"the database {named} does not exist, and {spool.root} belongs to {recorded}",
            "correct --database (FLOOD_DATABASE) or leave it out",
        )
    return named or recorded


def look(spool: Spool, path: str, now: datetime) -> list[Finding]:
    """What is wrong with the database at `path`, whose records can be read only if nothing of that
    `hides` them. The models are bound to it afterwards, for reading.

    Raises SpoolError if it cannot be read, or belongs to another spool.
    """
    if not os.path.exists(path):
        _check_way(path)
        return [Finding(kinds.DATABASE_GONE, path)]
    problems = schema.open_for_looking(path, spool.root)
    others = ", ".join(schema.strangers())
    if others:
        _check_own(spool, path, f"it has tables such as {others}")
        return [Finding(kinds.DATABASE_FOREIGN, path, detail=f"it has tables such as {others}")]
    if problems:
        _check_own(spool, path, problems[0])
        if schema.is_empty(problems):
            return [Finding(kinds.DATABASE_EMPTY, path)]
        some = "; ".join(problems[:3])
        more = f"; {len(problems) - 3} more" if len(problems) > 3 else ""
        return [Finding(kinds.DATABASE_BROKEN, path, detail=some + more)]
    if schema.outdated(path):
        return [Finding(kinds.SCHEMA_OLD, path)]
    damaged = fsck_damage.of_spool()
    if damaged:
        _check_own(spool, path, f"whose own row is damaged, {damaged[0].detail}")
        return damaged
    if binding.bound_to() is None:
        put_rows.check_set_up(spool, path)
        return [Finding(kinds.UNBOUND, path), *fsck_damage.of_records()]
    binding.bind(spool, path, create=False, now=now)
    if devices.changed(spool):
        return [Finding(kinds.DEVICE_CHANGED, path)]
    found = fsck_damage.of_records()
    if not _is_its(spool, path):
        recorded = put_rows.check_set_up(spool, path)
        found.append(Finding(kinds.CARD_OUTDATED, path, detail=f"it remembers {recorded}"))
    return found


def _check_way(path: str) -> None:
    """Raise SpoolError where the database may well lie on a disk that is not mounted, or in a
    directory that this user may not enter."""
    directories.check_open(path)
    schema.check_link(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise SpoolError(
            f"there is no directory {directory} for the database {path}",
            f"{models.AWAY} Only if it is gone for good, make the directory, then: flood-fsck "
            "--repair",
        )


def hides(findings: Iterable[Finding]) -> bool:
    """Whether records cannot be read before these are mended."""
    return any(each.kind in _HIDING for each in findings)


def _check_own(spool: Spool, path: str, problem: str) -> None:
    """Raise SpoolError for a broken database that may be another one's: it must not be touched."""
    if not _is_its(spool, path):
        raise SpoolError(f"{path} is no database of flood's ({problem})", "correct --database")


def _is_its(spool: Spool, path: str) -> bool:
    """Whether it is the database that the spool remembers."""
    return os.path.realpath(put_rows.check_set_up(spool, path)) == os.path.realpath(path)
