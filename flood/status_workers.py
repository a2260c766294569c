"""Finds the workers that live, with what they say of their work."""

import os
from dataclasses import dataclass
from typing import Final

from flood import locks, syscalls
from flood.doing import Doing, decode
from flood.locks import WORKERS
from flood.spool import Spool

#: How often a note is read that is being written at that moment.
_LOOKS: Final = 3

#: More than any note has, in bytes.
_MOST: Final = 4096


@dataclass(frozen=True)
class Worker:
    """A thread of a consumer that lives; `doing` is None where it left no word."""

    owner: str
    doing: Doing | None


def living(spool: Spool) -> list[Worker]:
    """Every worker that lives, those of one process beside each other."""
    try:
        owners = os.listdir(spool.absolute(WORKERS))
    except OSError:
        return []  # of a spool that no consumer has seen yet, or another user's
    found = [Worker(owner, said(spool, owner)) for owner in owners if lives(spool, owner)]
    return sorted(found, key=lambda one: (one.doing.pid if one.doing else 0, one.owner))


def able(spool: Spool) -> set[str]:
    """The names of the workers that can go on: they live, and nobody has stopped their process. One
    that only stands in is gone as soon as one of the others is free."""
    return {
        one.owner
        for one in living(spool)
        if one.doing is None or not (one.doing.stands_in or syscalls.is_stopped(one.doing.pid))
    }


def lives(spool: Spool, owner: str) -> bool:
    """Whether this worker lives; one whose lock this user may not look at counts as alive."""
    try:
        return locks.held(spool.absolute(f"{WORKERS}/{owner}"))
    except OSError:
        return True


def said(spool: Spool, owner: str) -> Doing | None:
    """What this worker said last; None if nothing can be made of it."""
    for _ in range(_LOOKS):
        try:
            with open(spool.absolute(f"{WORKERS}/{owner}"), "rb") as file:
                doing = decode(file.read(_MOST))
        except OSError:
            return None
        if doing is not None:
            return doing
    return None
