"""Looks whether somebody would be told."""

import shlex
from collections.abc import Iterator
from shutil import which
from typing import Final

from flood import services
from flood.check_findings import ERROR, NOTIFICATIONS, OK, WARNING, Finding
from flood.config import Settings, command
from flood.errors import ConfigError

_NOBODY: Final = "nobody is told of failed files in this way"


def look(settings: Settings, *, watching: bool) -> Iterator[Finding]:
    """Whether what notify-command and notify-urls name can be used, as far as that is known without
    telling anybody; nothing where neither is set. `watching` says whether flood-watch runs."""
    if settings.notify_command is not None:
        yield _command(settings.notify_command)
    if settings.notify_urls is not None:
        yield from _urls(settings.notify_urls)
    if settings.notify_command is None and settings.notify_urls is None:
        return
    trial = command(settings, "flood-notify", "--test")
    if watching:
        yield Finding(NOTIFICATIONS, "flood-notify", OK, f"flood-watch runs it; to try it: {trial}")
    else:
        yield Finding(
            NOTIFICATIONS,
            "flood-notify",
            WARNING,
            "flood-watch, which runs it, is not running",
            "nobody is told of anything, unless cron runs flood-notify",
            f"{command(settings, 'flood-watch')}, or have cron run "
            f"{command(settings, 'flood-notify')}",
        )


def _command(text: str) -> Finding:
    program = shlex.split(text)[0]
    found = which(program)
    if found is not None:
        return Finding(NOTIFICATIONS, "notify-command", OK, f"{found} can be run")
    return Finding(
        NOTIFICATIONS,
        "notify-command",
        ERROR,
        f"{program} is no program that this user can run",
        _NOBODY,
        "correct notify-command; no shell reads it, and a full path does not depend on PATH",
    )


def _urls(path: str) -> Iterator[Finding]:
    try:
        known = services.load(path)
    except ConfigError as error:
        for line in str(error).splitlines():
            seen, _, remedy = line.partition(": run ")
            if not remedy and services.INSTALL in line:
                seen, remedy = line.partition(": ")[0], services.INSTALL
            yield Finding(
                NOTIFICATIONS, "notify-urls", ERROR, seen, _NOBODY, remedy or f"correct {path}"
            )
        return
    names = ", ".join(sorted(one.name for one in known))
    yield Finding(NOTIFICATIONS, "notify-urls", OK, f"{names}, with apprise {services.version()}")
