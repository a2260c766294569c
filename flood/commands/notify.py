"""flood-notify: tells somebody that files have failed, wait for too long, or do so no more."""

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Final

from flood import (
    cards,
    config,
    digest,
    digest_records,
    digest_text,
    log,
    messenger,
    models,
    notify,
    parent,
    startup,
)
from flood.command_line import Parser
from flood.config import Settings
from flood.errors import FloodError
from flood.fsck_kinds import as_given
from flood.opening import exit_status, opened
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from flood.stop import Stop
from flood.terminal import Terminal, prepare

_NAME: Final = "flood-notify"
_DESCRIPTION: Final = """\
Tells somebody, once in --notify-interval at most, when files have failed, when
the oldest file has waited for longer than --notify-age, and when all is well
again: by a command that gets the digest on its standard input, as JSON, or by
any service that apprise knows.

flood-watch runs it every two minutes once --notify-command or --notify-urls is
set. Where no flood-watch keeps running, let cron run it.

  flood-notify --test      tells that this is a test, to see whether it arrives
  flood-notify --dry-run   shows what would be told
"""
_EPILOG: Final = """\
The command's words are split as a shell does, yet no shell reads it. Exit
status 0 says that it has told somebody; after a minute it is killed. Of
services, one URL stands in each line of the file, to which only its owner may
have access (chmod 600), who is the user that flood-notify runs as, or root.
They need apprise: flood-check prints what installs that, where it is missing.

What nobody could be told is tried again five minutes later. It may be run at
any time, beside itself: nothing is told twice. Where there is nothing to tell
it says so on a terminal only. Without --database the one is taken that
flood-watch uses.

Exit status: 0 somebody was told, or there was nothing to tell; 1 nobody could
be told in one of the ways that are set, or the disk or the database failed; 2
wrong usage or configuration; 75 the database is locked, or its disk full: try
again later; 130 interrupted."""

_UNSET: Final = (
    "nobody is to be told: set notify-command, or notify-urls to a file with the URLs of services"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-notify; return its exit status."""
    prepare()
    stop = Stop()
    stop.install()
    models.be_brief_when(stop.is_set)
    parent.end_with(os.environ)
    parser = _parser()
    if parent.VARIABLE in os.environ:
        parser.read_no_files()
    options, settings = config.load(parser, argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
    startup.announce(settings, os.environ)
    terminal = Terminal(_NAME, quiet=False)
    if options.test and options.dry_run:
        parser.error("--test does not go with --dry-run: take one of them")
    if options.json and not options.dry_run:
        parser.error("--json is for --dry-run: give that, too")
    if not options.dry_run and not notify.ways(settings):
        log.fatal(_NAME, _UNSET)
        return EXIT_USAGE
    try:
        if options.test:
            return _test(settings, stop, terminal)
        if options.dry_run:
            return _show(settings, options.json, terminal)
        return _run(settings, stop, terminal)
    except (FloodError, OSError, models.DatabaseError) as error:
        log.fatal(_NAME, as_given(models.explain(error), settings))
        return EXIT_INTERRUPTED if stop.is_set() else exit_status(error)
    finally:
        models.close()


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--test | --dry-run [--json]] [settings]"
    parser.add_argument("--test", action="store_true", help="tell that this is a test, at once")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be told")
    parser.add_argument(
        "--json", action="store_true", help="with --dry-run: as the command would get it"
    )
    return parser


def _run(settings: Settings, stop: Stop, terminal: Terminal) -> int:
    outcome = notify.Notify(
        settings, send=_send(stop), now=_now, clock=time.monotonic, stopping=stop.is_set
    ).run()
    if stop.is_set():
        return EXIT_INTERRUPTED
    if sys.stdout.isatty():
        found = outcome.found
        terminal.say(outcome.why if found is None else digest_text.title(found))
    return EXIT_OK if outcome.told else EXIT_FAILED


def _test(settings: Settings, stop: Stop, terminal: Terminal) -> int:
    # A test needs no spool: where there is one, the database is its own, as of a true digest.
    database = settings.database
    if settings.origins["database"] == "default":
        database = cards.database_of(os.path.realpath(settings.server_directory)) or database
    found = digest.test(settings.server_directory, database, _now())
    ways = notify.ways(settings)
    told = 0
    for way in ways:
        with terminal.busy(f"telling by {way.name}"):
            answer = _send(stop)(way.command, digest_text.as_json(found).encode())
        told += answer.told
        if answer.told:
            said = f"; it said: {answer.words}" if answer.words else ""
            for line in f"{way.name}: a test was told{said}".splitlines():
                terminal.say(line)
        else:
            for line in f"{way.name}: the test failed: {answer.words}".splitlines():
                terminal.problem(line)
    if stop.is_set():
        return EXIT_INTERRUPTED
    return EXIT_OK if told == len(ways) else EXIT_FAILED


def _show(settings: Settings, as_json: bool, terminal: Terminal) -> int:
    with opened(settings, _now()) as spool:
        known = digest_records.memory()
        found = notify.look(spool, settings, known, now=_now, clock=time.monotonic, gather=0.0)
    if found.kind == digest.NOTHING:
        terminal.notice("nothing to tell")
        return EXIT_OK
    if as_json:
        told = digest_text.as_json(found)
    else:
        told = f"{digest_text.title(found)}\n\n{digest_text.text(found)}"
    for line in told.splitlines():
        terminal.show(line)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return EXIT_FAILED
    return EXIT_OK


def _send(stop: Stop) -> notify.Send:
    return partial(messenger.send, stop=stop, clock=time.monotonic)


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
