"""flood-status: shows what a spool has to do, is doing, could not do."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Final

from flood import (
    binding,
    config,
    destination,
    fsck_database,
    log,
    models,
    schema,
    startup,
    status_check,
    status_view,
)
from flood import story as stories
from flood.advice import Advice
from flood.command_line import Parser
from flood.config import Settings
from flood.errors import ConfigError, FloodError
from flood.fsck_kinds import as_given
from flood.layout import Place
from flood.spool import Spool
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from flood.status import Status
from flood.status_check import UNKNOWN, Limit, Limits
from flood.story import Story
from flood.terminal import Terminal, prepare

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
from flood.units import duration

_NAME: Final = "flood-status"
_DESCRIPTION: Final = """\
Shows what waits, why, since when, and what to do: by profile and bucket, with
what is being uploaded, the next retries, what has failed. It changes nothing,
keeps nobody waiting, and works while everything is stopped, too.

  flood-status                          everything at a glance
  flood-status --live                   the same, redrawn until q is pressed
  flood-status s3://prod/photos/a.jpg   the whole story of one file
  flood-status --check                  one line for a monitoring system
"""
_EPILOG: Final = """\
Stages: incoming_tmp, flood-put copies it; incoming, flood-watch has not taken
it yet; due, it waits for a worker; uploading; retry, it waits to be tried
again; failed, it waits for a person; completed, it is in the store.

LIMIT is what is still right, as in --max-failed 0; WARN,LIMIT also has a value
above which there is a warning. Ages take units: --max-age 30m,2h.

Without --database the one is taken that flood-watch uses. No credentials are
read.

Exit status: 0 done; 1 nothing is known of that file; 2 wrong usage or
configuration, or the spool cannot be read; 130 interrupted. With --check those
of monitoring systems: 0 all is well; 1 warning; 2 critical; 3 unknown."""

#: For how long files outside of the records are counted, in seconds: before a person, for programs.
_GLANCE: Final = 0.4
_THOROUGH: Final = 5.0

_FORMATS: Final = ("text", "json", "prometheus")


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-status; return its exit status."""
    prepare()
    given = sys.argv[1:] if argv is None else list(argv)
    checking = "--check" in given
    terminal = Terminal(_NAME, quiet=False)
    options, settings = argparse.Namespace(output=None), None
    try:
        options, settings = config.load(_parser(), given, os.environ)
        _check_usage(options)
        quiet_log = settings.origins["log_level"] == "default"
        log.configure("warning" if quiet_log else settings.log_level, settings.log_format)
        return _status(options, settings, terminal)
    except SystemExit as ended:
        if not checking or ended.code != EXIT_USAGE:
            raise
        # Its words are on stderr; a monitoring system shows stdout, and takes 2 for "critical".
        line = status_check.line(UNKNOWN, "wrong usage or configuration; stderr says what")
        return _answer(UNKNOWN, line, terminal)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (FloodError, OSError, models.DatabaseError) as error:
        told = str(error) if isinstance(error, FloodError) else _cannot(error)
        if settings is not None:
            told = as_given(told, settings)
        if checking:
            return _answer(UNKNOWN, status_check.line(UNKNOWN, told), terminal)
        for line in told.splitlines():
            terminal.problem(line)
        if options.output is not None and not isinstance(error, ConfigError):
            _write_unknown(options.output, terminal)
        return EXIT_USAGE
    finally:
        models.close()


def _cannot(error: Exception) -> str:
    return f"cannot read this spool: {models.explain(error)}"


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = (
        f"{_NAME} [--live | --json | --format FORMAT [--output FILE] |\n"
        "                     --check [limits]] [settings] [s3://PROFILE/BUCKET/KEY]"
    )
    parser.add_argument(
        "uri", metavar="s3://PROFILE/BUCKET/KEY", nargs="?", help="tell the story of this file"
    )
    parser.add_argument("--live", action="store_true", help="redraw until q is pressed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        help="text; json; prometheus, for node_exporter's textfile collector",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write what Prometheus reads to this file, in one go"
    )
    parser.add_argument(
        "--check", action="store_true", help="one line, and the exit status of a monitoring plugin"
    )
    parser.add_argument(
        "--max-age",
        metavar="[WARN,]LIMIT",
        type=partial(_limit, read=duration),
        help="with --check: how long a file may wait, 1h by default",
    )
    parser.add_argument(
        "--max-failed",
        metavar="[WARN,]LIMIT",
        type=partial(_limit, read=int),
        help="with --check: how many files may lie in failed, 0 by default",
    )
    parser.add_argument(
        "--max-waiting",
        metavar="[WARN,]LIMIT",
        type=partial(_limit, read=int),
        help="with --check: how many files may wait, any number by default",
    )
    parser.add_argument(
        "--max-left-alone",
        metavar="[WARN,]LIMIT",
        type=partial(_limit, read=int),
        help="with --check: how many files may lie in incoming that are never taken, as their "
        "names are temporary ones, or outside of PROFILE/BUCKET/; any number by default",
    )
    return parser


def _limit(text: str, *, read: Callable[[str], float]) -> Limit:
    warning, comma, critical = text.rpartition(",")
    try:
        limit = Limit(read(critical), read(warning) if comma else None)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no limit; write LIMIT or WARN,LIMIT"
        ) from None
    if limit.critical < 0 or not 0 <= (limit.warning or 0) <= limit.critical:
        raise argparse.ArgumentTypeError(f"'{text}' has a warning above its limit, or is negative")
    return limit


def _check_usage(options: argparse.Namespace) -> None:
    ways = [
        name
        for name, chosen in (
            ("--live", options.live),
            ("--check", options.check),
            ("--json", options.json),
            ("--format", options.format),
        )
        if chosen
    ]
    if len(ways) > 1:
        raise ConfigError(f"{ways[0]} does not go with {ways[1]}: take one of them")
    limits = (options.max_age, options.max_failed, options.max_waiting, options.max_left_alone)
    if any(limit is not None for limit in limits) and not options.check:
        raise ConfigError(
            "--max-age, --max-failed, --max-waiting and --max-left-alone are for --check"
        )
    if options.output is not None and options.format != "prometheus":
        raise ConfigError("--output is for --format prometheus; redirect anything else")
    if options.uri is not None and (
        options.live or options.check or options.format == "prometheus"
    ):
        raise ConfigError(f"the story of one file does not go with {ways[0]}")
    if options.live and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("--live needs a terminal; leave it out, or take --json")
    if options.live:
        from flood import status_live

        status_live.check_terminal(os.environ)


def _status(options: argparse.Namespace, settings: Settings, terminal: Terminal) -> int:
    startup.announce(settings, os.environ)
    spool = Spool(settings.server_directory)
    place = None if options.uri is None else destination.of_file(options.uri)
    as_json = options.json or options.format == "json"
    for_person = not (as_json or options.check or options.format == "prometheus")

    def begin() -> tuple[Callable[[], Status], Advice]:
        database = _open(spool, settings)
        look = partial(
            status_view.look,
            spool,
            database,
            settings.ignore,
            now=_now,
            clock=time.monotonic,
            seconds=_GLANCE if for_person else _THOROUGH,
            min_free=settings.min_free,
        )
        return look, Advice(settings, database)

    if options.live:
        from flood import status_live

        def told(error: Exception) -> str:
            return as_given(_cannot(error), settings)

        return status_live.run(begin, told, clock=time.monotonic)
    look, advice = begin()
    if place is not None:
        return _story(spool, place, settings, advice, as_json, terminal)
    found = look()
    if options.check:
        return _answer(*status_check.judge(found, _limits(options)), terminal)
    if as_json:
        from flood import status_json

        return _print(status_json.as_json(found), terminal)
    if options.format == "prometheus":
        return _prometheus(found, options.output, terminal)
    return _text(found, advice, terminal)


def _open(spool: Spool, settings: Settings) -> str:
    """Bind the models to the spool's database for reading; raise SpoolError unless both are there,
    and belong together: of an unmounted disk all would seem to be well."""
    database = fsck_database.find(spool, settings)
    spool.check_present()
    schema.open_for_reading(database, spool.root)
    _, spool_id = binding.compare(spool.root, database, create=False)
    if spool_id is not None:  # or `compare` has refused
        spool.expect(spool_id)
        models.expect(spool_id)
    return database


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        age=options.max_age or Limit(3600.0),
        failed=options.max_failed or Limit(0),
        waiting=options.max_waiting,
        left_alone=options.max_left_alone,
    )


def _story(
    spool: Spool,
    place: Place,
    settings: Settings,
    advice: Advice,
    as_json: bool,
    terminal: Terminal,
) -> int:
    from flood import story_text

    story = stories.tell(spool, place, settings.ignore, advice, now=_now)
    if not story.known and not as_json:
        terminal.problem(_unknown(spool, story))
        return EXIT_FAILED
    text = story_text.as_json(story) if as_json else "\n".join(story_text.lines(story))
    return _print(text, terminal) or (EXIT_OK if story.known else EXIT_FAILED)


def _unknown(spool: Spool, story: Story) -> str:
    place = story.place
    uri = f"s3://{place.profile}/{place.bucket}/{place.key}"
    if story.closed:
        return (
            f"nothing is known of {uri}, but this user cannot look into {', '.join(story.closed)}: "
            "run flood-status as flood's own user, who needs all rights to it"
        )
    if not story.directories:
        return f"nothing is known of {uri}: no file of {spool.root}, no record"
    lying = ", ".join(story.directories)
    return (
        f"nothing is known of a file {uri}, as directories have its name: {lying}; name a file in "
        "one of them"
    )


def _prometheus(found: Status, output: str | None, terminal: Terminal) -> int:
    from flood import status_prometheus

    registry = status_prometheus.registry(found)
    if output is not None:
        return _write(registry, output, terminal)
    from prometheus_client import generate_latest

    return _print(generate_latest(registry).decode().rstrip("\n"), terminal)


def _write_unknown(output: str, terminal: Terminal) -> None:
    """What was written last would be read for ever, as if all were well."""
    from flood import status_prometheus

    _write(status_prometheus.unknown(), output, terminal)


def _write(registry: "CollectorRegistry", output: str, terminal: Terminal) -> int:
    from prometheus_client import generate_latest, write_to_textfile

    try:
        # What is behind a link is replaced, not the link; what is no file, such as a device, is
        # written to.
        target = os.path.realpath(output)
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as file:
                file.write(generate_latest(registry))
        else:
            write_to_textfile(target, registry)
    except OSError as error:
        terminal.problem(f"cannot write {output}: {error.strerror}")
        return EXIT_FAILED
    return EXIT_OK


def _text(found: Status, advice: Advice, terminal: Terminal) -> int:
    from rich.console import Console

    from flood import status_text

    if sys.stdout.isatty():
        console = Console(highlight=False)
        for part in status_text.render(found, advice):
            console.print(part)
        return EXIT_OK
    # As wide as it needs to be, as nobody knows who reads it.
    buffer = StringIO()
    plain = Console(file=buffer, width=1000, highlight=False, color_system=None)
    for part in status_text.render(found, advice):
        plain.print(part)
    return _print("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()), terminal)


def _answer(result: int, line: str, terminal: Terminal) -> int:
    return UNKNOWN if _print(line, terminal) else result


def _print(text: str, terminal: Terminal) -> int:
    for line in text.split("\n"):
        terminal.show(line)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return EXIT_FAILED
    return EXIT_OK


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
