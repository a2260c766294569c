"""flood-drain: uploads what is due, then ends."""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from flood import (
    cards,
    config,
    drain_report,
    draining,
    due_queries,
    log,
    models,
    retention_report,
    startup,
    tasks,
)
from flood.command_line import Parser, valued
from flood.config import Settings
from flood.consumers import WORKERS
from flood.errors import FloodError, SpoolError, SpoolLockedError
from flood.fsck_kinds import as_given
from flood.kinds import counts, durations
from flood.opening import exit_status
from flood.removal import Pruned
from flood.retention import Keeping, Retention
from flood.spool import Spool
from flood.states import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TRY_AGAIN,
    EXIT_USAGE,
    FAILED,
)
from flood.stop import Stop
from flood.terminal import Terminal, prepare
from huey_config import huey

_NAME: Final = "flood-drain"
_DAY: Final = 86_400

#: How long a run that has nothing to upload any more deletes what nobody wants to keep, in seconds;
#: what comes in meanwhile waits for the next run.
_PRUNING: Final = 60.0

_DESCRIPTION: Final = """\
Uploads what is due, as a consumer does, then ends: files that flood-watch has
taken in, those whose retry has come, those that a killed worker left. It needs
no daemon and can be run from cron, beside consumers, beside another
flood-drain; they share the work.
"""
_EPILOG: Final = """\
It waits for no retry that is still to come: the next run does that. With
--max-time it stops in order once so much time has passed: running transfers
have five seconds left, what is broken off then is tried again by the next run,
at no cost. A file that has had most of that time is told of, as no later run
would do better.

Where the database is refused room on its disk it ends: it does not wait, as
consumers do.

Once nothing is due any more it deletes what is not to be kept, as consumers do
by and by, for a minute at most; the next run goes on where that ended. A file
that cannot be deleted is told of.

It says nothing where all is well and no terminal is there to read it. Files
that failed are told of by their cause, with exit status 1. Without --database
the one is taken that flood-watch uses. Unless a log level is set, only errors
are logged, with FLOOD_* variables that set nothing; that a file is to be tried
again is no error.

Exit status: 0 everything that was due was worked off, or the time was over; 1
files failed, or could not be deleted, or one needs more than --max-time, or
the disk or the database failed; 2 wrong usage, configuration or credentials,
also if files wait for a profile that the credentials do not have; 75
flood-fsck has the spool to itself, another program the database, the disk is
full or away; 130 interrupted. If several apply, 130 comes before 2, 2 before
1, 1 before 75."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-drain; return its exit status."""
    began = time.monotonic()
    prepare()
    stop = Stop()
    stop.install()
    options, settings = config.load(_parser(), argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    if quiet_log:  # a variable that sets nothing is told of as by any other command
        log.configure("warning", settings.log_format)
        startup.announce(settings, os.environ)
    log.configure(
        "error" if quiet_log else settings.log_level,
        settings.log_format,
        without=(FAILED,) if quiet_log else (),  # told by their cause at the end
    )
    terminal = Terminal(_NAME, quiet=not sys.stderr.isatty())
    deadline = began + options.max_time
    # Nor is anybody waited for beyond the time that this has.
    models.be_brief_when(lambda: stop.is_set() or huey.stopping() or time.monotonic() >= deadline)
    try:
        return _drain(options, settings, deadline, stop, terminal)
    except SpoolLockedError as error:
        terminal.notice(str(error))
        status = error.exit_status
    except FloodError as error:
        for line in as_given(str(error), settings).splitlines():
            terminal.problem(line)
        status = error.exit_status
    except (OSError, models.DatabaseError) as error:
        terminal.problem(as_given(f"cannot go on: {models.explain(error)}", settings))
        status = EXIT_FAILED if tasks.tally().failed else exit_status(error)
    finally:
        models.close()
    return EXIT_INTERRUPTED if stop.is_set() else status


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--workers N] [--max-time DURATION] [settings]"
    parser.add_argument(
        "--workers",
        metavar="N",
        type=valued(counts(1, 64)),
        default=WORKERS,
        help=f"threads, each of which transfers several files at once [default: {WORKERS}]",
    )
    parser.add_argument(
        "--max-time",
        metavar="DURATION",
        type=valued(durations(1, _DAY)),
        default=math.inf,
        help="stop in order after so much time [default: none]",
    )
    return parser


def _drain(
    options: argparse.Namespace,
    settings: Settings,
    deadline: float,
    stop: Stop,
    terminal: Terminal,
) -> int:
    huey.set_up(_on_its_database(settings), os.environ, sweeps=False)
    spool = tasks.spool()
    trouble: list[Exception] = []
    if not stop.is_set() and not draining.at_rest(_now()):
        with terminal.files_bar("uploading", due_queries.count(_now())) as advance:
            draining.drain(options.workers, _until(deadline, stop, advance, trouble))
        # Last, as a store may hang, and each run would ask it anew.
        if not trouble:
            with terminal.busy("aborting unfinished uploads"):
                tasks.clear(lambda: stop.is_set() or time.monotonic() >= deadline)
    finished = not stop.is_set()
    failed = _tell(terminal, options.max_time)
    if trouble:
        raise trouble[0]
    undeleted = False
    if finished and spool.present():
        undeleted = _prune(spool, deadline, stop, terminal)
        if stop.is_set():
            terminal.problem("interrupted; what was deleted stays deleted")
            return EXIT_INTERRUPTED
    homeless = {profile for profile, _ in due_queries.destinations(_now())}
    homeless -= huey.credentials.profiles.keys()
    for profile in sorted(homeless):
        terminal.problem(drain_report.without_profile(profile, huey.credentials.path))
    waiting = drain_report.later(*due_queries.upcoming(_now()), _now())
    if waiting is not None:
        terminal.say(waiting)
    if not finished:
        terminal.problem("interrupted: what was not uploaded is tried again by the next run")
        return EXIT_INTERRUPTED
    if homeless:
        return EXIT_USAGE
    if failed or undeleted:
        return EXIT_FAILED
    return EXIT_OK if spool.present() else EXIT_TRY_AGAIN


def _prune(spool: Spool, deadline: float, stop: Stop, terminal: Terminal) -> bool:
    """Delete what is not to be kept, as each sweep does; whether something could not be."""
    settings, pruned = huey.settings, Pruned()
    retention = Retention(
        spool,
        settings.database,
        Keeping(settings.keep_completed, settings.keep_failed, settings.keep_records),
        now=_now,
        clock=time.monotonic,
        stopping=stop.is_set,
    )
    left = min(_PRUNING, deadline - time.monotonic())
    if left <= 0 or not retention.due():
        return False
    try:
        # Of a spool that went away meanwhile the exit status tells.
        with suppress(SpoolError), terminal.busy("looking for what is not to be kept"):
            retention.run(left, pruned=pruned)
    except (OSError, models.DatabaseError):
        if not stop.is_set():  # who is to stop waits for no other writer
            raise
    for line in retention_report.undeleted(pruned.failed, spool.root):
        terminal.problem(line)
    return bool(pruned.failed)


def _on_its_database(settings: Settings) -> Settings:
    recorded = cards.database_of(settings.server_directory)
    if settings.origins["database"] != "default" or recorded is None:
        return settings
    return replace(settings, database=recorded)


def _until(
    deadline: float, stop: Stop, advance: Callable[[int], None], trouble: list[Exception]
) -> Callable[[], bool]:
    shown = 0

    def over() -> bool:
        nonlocal shown
        settled = tasks.tally().settled
        advance(settled - shown)
        shown = settled
        if huey.without_room is not None:
            trouble.append(huey.without_room)
            return True
        try:
            return stop.is_set() or time.monotonic() >= deadline or draining.drained(_now())
        except (OSError, models.DatabaseError) as error:
            trouble.append(error)  # raised once the workers have ended
            return True

    return over


def _tell(terminal: Terminal, max_time: float) -> bool:
    """Say what was done; whether something failed."""
    tally = tasks.tally()
    lines = [*drain_report.failures(tally), *drain_report.too_long(tally, max_time)]
    for line in lines:
        terminal.problem(line)
    if not tally.failed:
        terminal.say(drain_report.done(tally))
    return bool(lines)


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
