"""flood-retry: puts failed files back."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Final

from flood import config, destination, log, models, retry_choice, retry_report, startup
from flood.advice import Advice
from flood.command_line import Parser
from flood.destination import Destination
from flood.errors import ConfigError, FloodError
from flood.fsck_kinds import as_given
from flood.kinds import durations
from flood.opening import exit_status, opened
from flood.retry import BATCH, Retried, Retry
from flood.retry_choice import Choice
from flood.retry_report import Report
from flood.room import Room
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED
from flood.stop import Stop
from flood.tasks import enqueue, enqueue_ring
from flood.terminal import Terminal, prepare
from flood.text import printable

_NAME: Final = "flood-retry"
_DESCRIPTION: Final = """\
Puts failed files back, so that they are uploaded once more, each as a new
record with all its retries; the old record stays as history. With --now it
lets those that wait for their retry be tried at once, instead.

  flood-retry 17 18                              these records
  flood-retry s3://prod/photos/a.jpg             this file
  flood-retry s3://prod/photos/2026/             all below this directory
  flood-retry --profile prod --error AccessDenied
  flood-retry --now --bucket photos
  flood-retry --all
"""
_EPILOG: Final = """\
What fits each of the options is retried; of an option that is given several
times, one has to fit. A pattern is a shell pattern for the whole key, in which
* takes slashes, too. Ages count from the failure, with --now from when flood
took the file.

An old version does not go over a newer one: a file stays in failed while a
later version of its key is under way or completed, unless --overwrite-newer is
given. Of several failed versions of one key only the newest is put back, which
is what a key's name asks for: the others are told of, and no failure.

It may be run at any time, also from cron, beside whatever else of flood's
runs, itself included. It needs no credentials. Where there is nothing to do it
says so on a terminal only. Without --database the one is taken that
flood-watch uses.

Exit status: 0 done, also if there was nothing to do; 1 a record or a file that
was named could not be retried, a file could not be moved, or the disk or the
database failed; 2 wrong usage or configuration; 75 another version is in the
way, the database is locked, or a disk has less room than --min-free: try again
later; 130 interrupted. If several apply, 1 comes before 75."""

_AGE: Final = durations(0, 36_500 * 86_400)


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-retry; return its exit status."""
    prepare()
    stop = Stop()
    stop.install()
    models.be_brief_when(stop.is_set)
    parser = _parser()
    options, settings = config.load(parser, argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
    startup.announce(settings, os.environ)
    terminal = Terminal(_NAME, quiet=options.quiet)
    try:
        choice = _choice(options, parser)
        with opened(settings, _now()) as spool:
            retry = Retry(
                spool,
                overwrite=options.overwrite_newer,
                large=settings.multipart_threshold,
                enqueue=enqueue,
                ring=enqueue_ring,
                now=_now,
            )
            unmet = partial(
                retry_report.unmet,
                waiting=options.now,
                stray=partial(retry_choice.stray, spool),
                repair=Advice(settings, models.path()).repair(),
            )
            room = Room((spool.root, os.path.dirname(models.path())), settings.min_free)
            return _run(retry, room, choice, options, unmet, stop, terminal)
    except (FloodError, OSError, models.DatabaseError) as error:
        for line in as_given(models.explain(error), settings).splitlines():
            terminal.problem(line)
        return EXIT_INTERRUPTED if stop.is_set() else exit_status(error)
    finally:
        models.close()


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = (
        f"{_NAME} [--now] [--dry-run] [selection] [settings]\n"
        "                   [RECORD | s3://PROFILE/BUCKET/KEY]..."
    )
    parser.add_argument(
        "names",
        metavar="RECORD | s3://PROFILE/BUCKET/KEY",
        nargs="*",
        help="records by their numbers, or files; a slash at the end means all below",
    )
    parser.gathers = "names"
    add = parser.add_argument
    add("--all", action="store_true", help="everything that has failed, or with --now waits")
    add("--profile", action="append", default=[], metavar="NAME", help="of this profile")
    add("--bucket", action="append", default=[], metavar="NAME", help="of this bucket")
    add("--key", action="append", default=[], metavar="PATTERN", help="whose key fits the pattern")
    add("--error", action="append", default=[], metavar="CODE", help="with this error code")
    add("--older-than", metavar="DURATION", help="for at least so long")
    add("--newer-than", metavar="DURATION", help="for no longer than this")
    add("--now", action="store_true", help="make due at once what waits for its retry, instead")
    add("--overwrite-newer", action="store_true", help="let an old version go over a newer one")
    add("--dry-run", action="store_true", help="only list what would be done with each record")
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", action="store_true", help="print errors and warnings only")
    return parser


def _choice(options: argparse.Namespace, parser: Parser) -> Choice:
    ids, destinations = [], []
    for name in options.names:
        if re.fullmatch("[0-9]{1,18}", name):
            ids.append(int(name))
        elif name.startswith("s3://"):
            destinations.append(destination.of_files(name))
        else:
            parser.error(f"{name!r} is neither the number of a record nor s3://PROFILE/BUCKET/KEY")
    choice = Choice(
        ids=frozenset(ids),
        destinations=tuple(destinations),
        profiles=tuple(options.profile),
        buckets=tuple(options.bucket),
        keys=tuple(options.key),
        errors=tuple(options.error),
        older=_age("--older-than", options.older_than),
        newer=_age("--newer-than", options.newer_than),
    )
    if options.all == (choice != Choice()):
        parser.error(
            "--all takes everything: leave it out, or what selects"
            if options.all
            else "say which: records, s3://PROFILE/BUCKET/KEY, options that select, or --all"
        )
    if options.now and options.overwrite_newer:
        parser.error("--overwrite-newer is for failed files, --now for those that wait")
    return choice


def _age(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(_AGE.read(text, os.environ))
    except ValueError as error:
        raise ConfigError(f"{flag}: '{printable(text)}' {error}") from None


def _run(
    retry: Retry,
    room: Room,
    choice: Choice,
    options: argparse.Namespace,
    unmet: Callable[[Collection[int | Destination]], Iterator[str]],
    stop: Stop,
    terminal: Terminal,
) -> int:
    named = choice.names
    chosen = []
    for one in (retry_choice.unclaimed if options.now else retry_choice.failed)(choice, _now()):
        chosen.append((one.version, one.row.id))
        named -= choice.naming(one)
    ids = [record_id for _, record_id in sorted(chosen, reverse=True)]
    report = Report(keep=options.dry_run or options.json, ids=choice.ids)
    if ids:
        with terminal.files_bar("retrying", len(ids)) as advance:
            for start in range(0, len(ids), BATCH):
                if stop.is_set():
                    break
                part = ids[start : start + BATCH]
                try:
                    for done in _batch(retry, room, part, options):
                        report.add(done)
                except (FloodError, OSError, models.DatabaseError):
                    _tell_end(report, options, terminal)
                    raise
                advance(len(part))
    for text in unmet(named):
        terminal.problem(text)
    status = EXIT_INTERRUPTED if stop.is_set() else report.status(named, choice.names)
    _tell(report, status, options, bool(choice.names), terminal)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return status or EXIT_FAILED
    return status


def _batch(
    retry: Retry, room: Room, ids: Sequence[int], options: argparse.Namespace
) -> list[Retried]:
    if options.now and options.dry_run:
        return retry.foresee_haste(ids)
    if options.now:
        return retry.hasten(ids)
    if options.dry_run:
        return retry.foresee(ids)
    room.check()  # for the rows; files that move need none
    return retry.put_back(ids)


def _tell_end(report: Report, options: argparse.Namespace, terminal: Terminal) -> None:
    """What an error has not undone, as each batch is a transaction of its own."""
    if report.news and not options.json and not options.dry_run:
        for line in retry_report.end(report, waiting=options.now, dry=False):
            terminal.say(line)


def _tell(
    report: Report, status: int, options: argparse.Namespace, named: bool, terminal: Terminal
) -> None:
    if status == EXIT_INTERRUPTED:
        terminal.problem("interrupted; what was done stays done")
    if options.json:
        for line in retry_report.as_json(report, status, dry=options.dry_run).splitlines():
            terminal.show(line)
        return
    if options.dry_run:
        for line in report.lines(_now(), named=named):
            terminal.show(line)
    else:
        for text in report.problems(named=named):
            terminal.problem(text)
    # cron mails whatever is printed, and there is nothing new in what stays for good.
    watched = sys.stdout.isatty()
    told = list(retry_report.end(report, waiting=options.now, dry=options.dry_run))
    if not told and watched and not status:
        told = ["nothing waits for a retry" if options.now else "nothing to put back"]
    if watched or options.dry_run or report.news:
        for line in told:
            terminal.say(line)


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
