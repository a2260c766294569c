"""Looks whether somebody would be told."""

import os
import re
import shlex
from collections.abc import Iterator
from shutil import which
from typing import Final

from flood import notify_lock, owners, put_locks, services
from flood.check_findings import ERROR, NOTIFICATIONS, OK, WARNING, Finding
from flood.config import Settings, command
from flood.errors import ConfigError
from flood.spool import Spool

_NOBODY: Final = "nobody is told of failed files in this way"

#: As much of a script as the kernel reads to find its interpreter, in bytes (execve(2)).
_HEAD: Final = 256
_SCRIPT: Final = b"#!"
#: How all begins that it runs: a program, or a script that names its interpreter. With binfmt_misc
#: it can be told of others, which is too rare for a look.
_RUNNABLE: Final = re.compile(rb"\x7fELF|#![ \t]*[^ \t\n]")


def look(spool: Spool, settings: Settings) -> Iterator[Finding]:
    """Whether what notify-command and notify-urls name can be used, as far as that is known without
    telling anybody, whether somebody does; nothing where neither is set."""
    if settings.notify_command is not None:
        yield _command(settings.notify_command)
    if settings.notify_urls is not None:
        keeper = owners.keeper(settings.server_directory, settings.database)
        yield from _urls(settings.notify_urls, keeper)
    if settings.notify_command is None and settings.notify_urls is None:
        return
    yield _runs(spool, settings)


def _runs(spool: Spool, settings: Settings) -> Finding:
    about, nobody = "flood-notify", "nobody is told of anything, unless cron runs flood-notify"
    watch = command(settings, "flood-watch")
    who = notify_lock.look(spool, settings)
    if who == notify_lock.THESE:
        trial = command(settings, "flood-notify", "--test")
        return Finding(NOTIFICATIONS, about, OK, f"flood-watch runs it; to try it: {trial}")
    if who == notify_lock.UNKNOWN:
        return Finding(
            NOTIFICATIONS,
            about,
            WARNING,
            "this user may not know whether flood-watch runs it",
            nobody,
            "run flood-check as the user that flood-watch runs as",
        )
    if who == notify_lock.OTHERS:
        return Finding(
            NOTIFICATIONS,
            about,
            WARNING,
            "flood-watch runs it, with other notify settings than these: those of its start",
            "it is told to somebody else, in another way, or at other times",
            f"stop flood-watch, then start it with these settings: {watch}",
        )
    if spool.present() and put_locks.watching(spool):
        return Finding(
            NOTIFICATIONS,
            about,
            WARNING,
            "the flood-watch that is running does not run it: it was started without these "
            "settings",
            nobody,
            "stop flood-watch, then start it with these settings, or have cron run flood-notify "
            f"with them: {watch}",
        )
    return Finding(
        NOTIFICATIONS,
        about,
        WARNING,
        "flood-watch, which runs it, is not running",
        nobody,
        f"have cron run flood-notify with these settings, or: {watch}",
    )


def _command(text: str) -> Finding:
    program = shlex.split(text)[0]
    found = which(program)
    head = _head(found) if found is not None else None
    if head is not None and not _RUNNABLE.match(head):
        return Finding(
            NOTIFICATIONS,
            "notify-command",
            ERROR,
            f"{found} cannot be run: it is no program, nor a script, whose first line begins with "
            "#! and its interpreter; no shell runs it, as one would at a prompt",
            _NOBODY,
            f"write such a line, as #!/bin/sh, at the very beginning of {found}",
        )
    lacking = head and _lacking(head)
    if lacking:
        return Finding(
            NOTIFICATIONS,
            "notify-command",
            ERROR,
            f"{found} cannot be run: its first line names the interpreter {lacking}, which is no "
            "program that this user can run",
            _NOBODY,
            f"install {lacking}, or correct the first line of {found}",
        )
    if found is not None:
        return Finding(NOTIFICATIONS, "notify-command", OK, f"{found} can be run")
    mends = "correct notify-command; no shell reads it, and a full path does not depend on PATH"
    if "/" in program and os.path.isfile(program):
        mends = f"chmod +x {shlex.quote(program)}"
    return Finding(
        NOTIFICATIONS,
        "notify-command",
        ERROR,
        f"{program} is no program that this user can run",
        _NOBODY,
        mends,
    )


def _head(path: str) -> bytes | None:
    """How a file begins; None if this user, who may run it, may not read it."""
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return None


def _lacking(head: bytes) -> str | None:
    """The interpreter of a script that begins like this, where that cannot be run; None if it can,
    or this is none."""
    if not head.startswith(_SCRIPT):
        return None
    line = os.fsdecode(head).partition("\n")[0]
    # The kernel hands over all that follows the interpreter as one word.
    interpreter, _, rest = line[2:].strip(" \t").replace("\t", " ").partition(" ")
    if not (os.path.isfile(interpreter) and os.access(interpreter, os.X_OK)):
        return interpreter
    name = rest.strip()
    if name.startswith("-S"):
        name = name[2:].split()[0] if name[2:].split() else ""
    # Other options, and variables, are left to env.
    known = os.path.basename(interpreter) != "env" or name.startswith("-") or "=" in name
    return None if known or not name or which(name) else name


def _urls(path: str, keeper: int | None) -> Iterator[Finding]:
    try:
        known = services.load(path, keeper)
    except services.Refused as error:
        mends = error.remedy or f"correct {path}"
        yield Finding(NOTIFICATIONS, "notify-urls", ERROR, error.seen, _NOBODY, mends)
        return
    except ConfigError as error:
        for line in str(error).splitlines():
            yield Finding(NOTIFICATIONS, "notify-urls", ERROR, line, _NOBODY, f"correct {path}")
        return
    closed = services.closed_to(keeper, path)
    if closed is not None:
        mends = services.giving(path, keeper)
        yield Finding(NOTIFICATIONS, "notify-urls", ERROR, closed, _NOBODY, mends)
        return
    names = ", ".join(sorted(one.name for one in known))
    yield Finding(NOTIFICATIONS, "notify-urls", OK, f"{names}, with apprise {services.version()}")
