"""flood-put: copies files into the spool."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import partial
from typing import Final

from humanize import naturalsize

from flood import config, destination, log, models, stall, startup
from flood.advice import Advice
from flood.command_line import Parser
from flood.config import Settings
from flood.destination import Destination
from flood.errors import ConfigError, FloodError, NoRoomError, SpoolError
from flood.fsck_kinds import as_given
from flood.put import PATIENCE, Put
from flood.put_copy import Copier
from flood.put_locks import idle, put_lock, untaken
from flood.put_outcome import Delivered
from flood.put_plan import Plan, Refusal, Stopped, resolve
from flood.put_rows import Rows, check_set_up, connect
from flood.put_wait import Wait, held_up
from flood.room import check_room
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_TRY_AGAIN
from flood.stop import Stop
from flood.temporary import Temporary
from flood.terminal import Terminal, prepare

_NAME: Final = "flood-put"
_DESCRIPTION: Final = """\
Copies files into the spool, from where they are uploaded to BUCKET with the
credentials of PROFILE. Exit status 0 means that every file is safe there, even
if the power fails now; with --wait, that every file is uploaded.

  flood-put a.txt s3://prod/photos/b.txt       becomes b.txt
  flood-put a.txt s3://prod/photos/2026/       becomes 2026/a.txt
  flood-put a.txt c.txt s3://prod/photos/2026  becomes 2026/a.txt, 2026/c.txt
  flood-put -r dir s3://prod/photos/2026/      becomes 2026/dir/...
  flood-put -r dir s3://prod/photos/2026       becomes 2026/...
  flood-put -r dir s3://prod/photos            becomes dir/...
"""
_EPILOG: Final = """\
Paths are taken as they are: nothing in s3://... is decoded. A name that begins
with a dash comes after --. Only regular files are put, each with its time of
modification. A symbolic link that is named on the command line is followed;
those inside a directory are skipped with a warning. Empty directories leave no
trace, as S3 has none. A directory without -r, or a file that cannot be put, is
an error; the others are put all the same. A source that changes while it is
copied is copied once more, then refused.

Nothing is ever replaced. Where an earlier file of the same name still waits to
be taken by flood-watch, flood-put waits up to 5 seconds for its turn; then it
refuses that file, with exit status 75, and says if no flood-watch is there to
take the earlier one.

flood-watch need not be running, the files wait for it; but it must have been
started once on this server directory. Without --database the one that it uses
then is taken. Without write access to that, files are put without records, and
--wait is refused. Unless a log level is set, only warnings are logged.

If several exit statuses apply: 130 comes before 2, 2 before 1, 1 before 75.
What was delivered before an error stays delivered."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-put; return its exit status."""
    prepare()
    stop = Stop()
    stop.install()
    models.be_brief_when(stop.is_set)
    parser = _parser()
    options, settings = config.load(parser, argv, os.environ)
    if len(options.names) < 2:
        parser.error("give at least one SOURCE, then the destination s3://PROFILE/BUCKET/PATH")
    quiet_log = settings.origins["log_level"] == "default"
    log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
    terminal = Terminal(_NAME, quiet=options.quiet)
    try:
        return _put(options, settings, stop, terminal)
    except Stopped as stopped:
        terminal.problem(f"interrupted: {stopped}" if str(stopped) else "interrupted")
        return EXIT_INTERRUPTED
    except FloodError as error:
        for line in as_given(str(error), settings).splitlines():
            terminal.problem(line)
        return EXIT_INTERRUPTED if stop.is_set() else error.exit_status
    finally:
        models.close()


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = (
        f"{_NAME} [-r] [--wait] [--dry-run] [--quiet] [settings]\n"
        "                 SOURCE... s3://PROFILE/BUCKET/PATH"
    )
    parser.add_argument(
        "names",
        metavar="SOURCE... s3://PROFILE/BUCKET/PATH",
        nargs="+",
        help="files, or directories with -r; where they go",
    )
    parser.gathers = "names"
    parser.add_argument("-r", "--recursive", action="store_true", help="put directories, too")
    parser.add_argument("--wait", action="store_true", help="return when everything is uploaded")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be put where")
    parser.add_argument("--quiet", action="store_true", help="print errors and warnings only")
    return parser


def _put(options: argparse.Namespace, settings: Settings, stop: Stop, terminal: Terminal) -> int:
    target = destination.parse(options.names[-1])
    startup.announce(settings, os.environ)
    credentials = startup.read_credentials(settings, os.environ)
    profiles = credentials.profiles
    if target.profile not in profiles:
        raise ConfigError(
            f"the credentials in {credentials.path} have no profile {target.profile!r}; "
            f"they have {', '.join(sorted(profiles))}"
        )
    spool = Spool(settings.server_directory)
    recorded = check_set_up(spool, settings.database)
    named = None if settings.origins["database"] == "default" else settings.database
    plan = resolve(
        options.names[:-1],
        target,
        recursive=options.recursive,
        spool=spool.root,
        database=named or recorded,
        refusal=Refusal(
            settings.ignore, normalizes=profiles[target.profile].provider.normalizes_keys
        ),
        stopping=stop.is_set,
    )
    for text in (*plan.warnings, *plan.problems):
        terminal.problem(text)
    if options.dry_run:
        for source in plan.sources:
            terminal.show(f"{source.path} -> {target.uri(source.key)}")
        if terminal.unheard is not None:
            terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return EXIT_FAILED if plan.problems or terminal.unheard else EXIT_OK
    rows = _rows(spool, named, target, options.wait, terminal)
    delivered = Delivered()
    no_room = False
    try:
        _deliver(spool, target, plan, rows, delivered, stop, terminal, settings)
    except NoRoomError as error:
        terminal.problem(str(error))
        no_room = True
    whose = settings if named else config.with_database(settings, recorded)
    untold = _tell_refused(spool, delivered, terminal, whose)
    if options.wait:
        missed = _wait(spool, target, delivered, stop, terminal, whose)
    else:
        missed = 0
        _tell_delivered(spool, target, delivered, terminal, whose if untold else None)
    if plan.problems or delivered.failed or missed:
        return EXIT_FAILED
    return EXIT_TRY_AGAIN if no_room or delivered.refused else EXIT_OK


def _rows(
    spool: Spool, database: str | None, target: Destination, wait: bool, terminal: Terminal
) -> Rows:
    obstacle = connect(spool, database, _now())
    if obstacle is not None and wait:
        raise SpoolError(f"{obstacle}, so --wait cannot know how uploads end: nothing was put")
    if obstacle is not None:
        terminal.notice(f"{obstacle}: files are put without records")
    return Rows(
        target,
        recording=obstacle is None,
        required=wait,
        now=_now,
        notice=terminal.problem,
    )


def _deliver(
    spool: Spool,
    target: Destination,
    plan: Plan,
    rows: Rows,
    delivered: Delivered,
    stop: Stop,
    terminal: Terminal,
    settings: Settings,
) -> None:
    if not plan.sources:
        return
    check_room(spool.root, settings.min_free, len(plan.sources), plan.size)
    try:
        with (
            put_lock(spool, stop.wait, stop.is_set),
            terminal.bytes_bar("copying", plan.size) as advance,
            closing(
                Copier(spool, target, stopping=stop.is_set, advance=advance, warn=terminal.problem)
            ) as copier,
        ):
            Put(
                spool,
                target,
                copier,
                rows,
                delivered,
                patience=PATIENCE,
                clock=time.monotonic,
                pause=stop.wait,
                stopping=stop.is_set,
                ignores=Temporary(settings.ignore).fits,
                problem=terminal.problem,
            ).run(plan.sources)
    except Stopped as stopped:
        total = _files(len(plan.sources))
        raise Stopped(f"{delivered.files} of {total} had been delivered") from stopped
    except FloodError:
        if delivered.files:
            terminal.problem(f"{_files(delivered.files)} had been delivered before this:")
        raise


def _tell_refused(
    spool: Spool, delivered: Delivered, terminal: Terminal, settings: Settings
) -> bool:
    """Say why trying again later will not help, if nobody takes what waits; False if that was
    said."""
    why = untaken(spool, settings) if delivered.refused else None
    if why is not None:
        terminal.problem(why)
    return why is None


def _tell_delivered(
    spool: Spool,
    target: Destination,
    delivered: Delivered,
    terminal: Terminal,
    settings: Settings | None,
) -> None:
    """`settings` are None where it is known already that nobody takes files."""
    terminal.say(f"{_amount(delivered)} delivered to {target.uri()}")
    why = idle(spool, settings) if settings and delivered.files else None
    if why is not None:
        terminal.notice(why)


def _wait(
    spool: Spool,
    target: Destination,
    delivered: Delivered,
    stop: Stop,
    terminal: Terminal,
    settings: Settings,
) -> int:
    records = {record: target.uri(key) for record, key in delivered.records.items()}
    with terminal.files_bar("uploading", len(records)) as advance:
        missed = Wait(
            clock=time.monotonic,
            pause=stop.wait,
            stopping=stop.is_set,
            idle=partial(_idle, spool, settings),
            held_up=partial(_held_up, spool, target, delivered, settings),
            advance=advance,
            problem=terminal.problem,
            notice=terminal.notice,
        ).run(records)
    if not records:
        return 0
    if missed:
        terminal.say(f"{delivered.files - missed} of {_files(delivered.files)} uploaded")
    else:
        terminal.say(f"{_amount(delivered)} uploaded to {target.uri()}")
    return missed


def _idle(spool: Spool, settings: Settings) -> str | None:
    """Why nobody uploads the files for now, whose records can be asked for."""
    why = idle(spool, settings)
    if why is not None:
        return why
    with suppress(models.DatabaseError):  # whoever waits for the records tells of that
        if processes := stall.look(spool, _now()):
            return f"the files wait, as {stall.WHY}; {stall.remedy(processes)}"
    return None


def _held_up(
    spool: Spool, target: Destination, delivered: Delivered, settings: Settings, record: int
) -> str | None:
    """What the file of this record waits for."""
    place = target.place(delivered.records[record])
    advice = Advice(settings, models.path())
    return held_up(spool, place, record, settings.ignore, advice, now=_now)


def _amount(delivered: Delivered) -> str:
    return f"{_files(delivered.files)}, {naturalsize(delivered.size, binary=True)}"


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


if __name__ == "__main__":
    sys.exit(main())
