"""Ends a process together with the flood-watch that started it."""

import os
import signal
from collections.abc import Mapping
from typing import Final

from flood import syscalls
from flood.states import EXIT_USAGE

#: Set by flood-watch for what it starts of flood's: that ends when it does, and has no settings but
#: the ones that it hands it.
VARIABLE: Final = "FLOOD_PARENT_PID"


def told() -> dict[str, str]:
    """What flood-watch adds to the environment of what it starts."""
    return {VARIABLE: str(os.getpid())}


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that is none of flood-watch's own."""
    return {name: value for name, value in environ.items() if name != VARIABLE}


def end_with(environ: Mapping[str, str]) -> None:
    """Have this process end when its parent does, if that is flood-watch."""
    parent = environ.get(VARIABLE)
    if parent is None:
        return
    tie(parent, signal.SIGTERM)


def tie(parent: str, number: int) -> None:
    """Have this process get a signal when the process with the id `parent`, which started it, ends;
    raise SystemExit if it has ended already."""
    syscalls.die_with_parent(number)
    if str(os.getppid()) != parent:
        raise SystemExit(EXIT_USAGE)  # it died before the kernel knew to tell
