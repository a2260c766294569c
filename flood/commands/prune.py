"""flood-prune: deletes what nobody wants to keep."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Final

from humanize import naturalsize

from flood import config, log, models, retention_report, startup
from flood.command_line import Parser
from flood.config import Settings
from flood.errors import FloodError
from flood.fsck_kinds import as_given
from flood.opening import exit_status, opened
from flood.removal import Pruned
from flood.retention import CANNOT_REMOVE, Keeping, Retention
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from flood.stop import Stop
from flood.terminal import Terminal, prepare

_NAME: Final = "flood-prune"
_DESCRIPTION: Final = """\
Deletes what the owner of the spool does not want to keep: files that lie in
completed for longer than --keep-completed, files in failed for longer than
--keep-failed, the records of files that are gone after --keep-records,
directories that hold nothing.

Consumers do the same by themselves, once a minute, so does each flood-drain.
This does it at once, or with --dry-run shows what it would do.
"""
_EPILOG: Final = """\
A file of completed is deleted only if its record has the store's receipt for
it, and it is the very file of that record: what somebody has changed since
stays, so does a file whose record was lost. What lies in failed is in no
store.

Without any of the three settings no file, and no record, is ever deleted.
Empty directories below a bucket's are removed in any case, those of incoming
once nobody has touched them for a day. Without --database the one is taken
that flood-watch uses.

Exit status: 0 done; 1 a file could not be deleted, or the disk or the database
failed; 2 wrong usage or configuration; 75 the database is locked, or its disk
full: try again later; 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-prune; return its exit status."""
    prepare()
    stop = Stop()
    stop.install()
    models.be_brief_when(stop.is_set)
    options, settings = config.load(_parser(), argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    log.configure(
        "warning" if quiet_log else settings.log_level,
        settings.log_format,
        without=(CANNOT_REMOVE,) if quiet_log else (),  # told at the end
    )
    startup.announce(settings, os.environ)
    terminal = Terminal(_NAME, quiet=options.quiet)
    try:
        return _prune(options, settings, stop, terminal)
    except (FloodError, OSError, models.DatabaseError) as error:
        for line in as_given(models.explain(error), settings).splitlines():
            terminal.problem(line)
        return EXIT_INTERRUPTED if stop.is_set() else exit_status(error)
    finally:
        models.close()


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--dry-run] [--json] [--quiet] [settings]"
    parser.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="print errors and warnings only")
    return parser


def _prune(options: argparse.Namespace, settings: Settings, stop: Stop, terminal: Terminal) -> int:
    now = partial(datetime.now, timezone.utc)
    listing = options.dry_run and not options.json
    silent = Terminal(_NAME, quiet=True) if listing else terminal  # a bar would be in the way
    with opened(settings, now()) as spool, silent.files_bar("deleting", None) as advance:
        retention = Retention(
            spool,
            models.path(),
            Keeping(settings.keep_completed, settings.keep_failed, settings.keep_records),
            now=now,
            clock=time.monotonic,
            stopping=stop.is_set,
            told=terminal.show if listing else lambda _path: advance(1),
        )
        if options.dry_run:
            pruned = retention.foresee()
        else:
            pruned = Pruned()
            try:
                retention.run(math.inf, directories=True, pruned=pruned)
            except (FloodError, OSError, models.DatabaseError):
                _tell_unnoted(pruned, terminal)
                raise
    status = EXIT_FAILED if pruned.failed else EXIT_OK
    if stop.is_set():
        kept = "" if options.dry_run else "; what was deleted stays deleted"
        terminal.problem(f"interrupted{kept}")
        status = EXIT_INTERRUPTED
    if options.json:
        for line in _as_json(pruned, status, dry=options.dry_run).splitlines():
            terminal.show(line)
    else:
        _tell(pruned, settings, options.dry_run, terminal)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return status or EXIT_FAILED
    return status


def _tell(pruned: Pruned, settings: Settings, dry: bool, terminal: Terminal) -> None:
    for line in retention_report.undeleted(pruned.failed, settings.server_directory):
        terminal.problem(line)
    watched = sys.stdout.isatty()
    for reason, count in pruned.stay.items() if watched or dry else ():
        verb = "stays" if count == 1 else "stay"
        terminal.notice(f"{_count(count, 'file')} of completed or failed {verb}: {reason}")
    keep = (settings.keep_completed, settings.keep_failed, settings.keep_records)
    # Whoever has cron run it before there is anything to delete needs no mail about that.
    if keep == (None, None, None) and (watched or dry):
        terminal.notice(
            "keep-completed, keep-failed, keep-records are not set: every file and every record is "
            "kept for ever"
        )
    parts = [
        f"{_count(count, 'file')} of {state}" for state, count in pruned.files.items() if count
    ]
    if pruned.records:
        parts.append(_count(pruned.records, "record"))
    if pruned.directories:
        many = f"{pruned.directories} empty directories"
        parts.append("1 empty directory" if pruned.directories == 1 else many)
    if parts:
        verb = "would be deleted" if dry else "deleted"
        terminal.say(f"{', '.join(parts)} {verb}, {naturalsize(pruned.size, binary=True)}")
    elif watched or dry:  # cron mails whatever is printed
        terminal.say("nothing to delete")


def _tell_unnoted(pruned: Pruned, terminal: Terminal) -> None:
    """What an error has not undone."""
    count = sum(pruned.files.values())
    if count:
        size = naturalsize(pruned.size, binary=True)
        terminal.problem(f"{_count(count, 'file')} deleted, {size}, before this broke off")
    if pruned.unnoted:
        terminal.problem(
            f"of {_count(pruned.unnoted, 'deleted file')} the record could not say so: the next "
            "run notes that"
        )


def _as_json(pruned: Pruned, status: int, *, dry: bool) -> str:
    return json.dumps(
        {
            "exit_status": status,
            "dry_run": dry,
            "files": pruned.files,
            "size": pruned.size,
            "records": pruned.records,
            "directories": pruned.directories,
            "stay": pruned.stay,
            "failed": [{"path": path, "reason": reason} for path, reason in pruned.failed],
        },
        indent=1,
    )


def _count(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


if __name__ == "__main__":
    sys.exit(main())
