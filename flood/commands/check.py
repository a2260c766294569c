"""flood-check: looks whether flood can work here."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Final

from flood import check_credentials, check_report, config, destination, lines, log, models
from flood.check_findings import ERROR, SETTINGS, WARNING, Finding
from flood.check_report import Report
from flood.command_line import Parser
from flood.config import Settings
from flood.errors import ConfigError, FloodError
from flood.profiles import Profile
from flood.states import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from flood.stop import Stop
from flood.terminal import Terminal, prepare
from flood.text import printable

_NAME: Final = "flood-check"
_DESCRIPTION: Final = """\
Looks at everything that flood needs: settings, credentials, the way to each
store and what it answers, the spool, its database, who is at work. Says of
each thing that is not well what it means and what mends it.
"""
_EPILOG: Final = """\
It changes nothing, may be run at any time, and takes half a minute at most for
the stores, which are asked side by side. --probe uploads an object of 75 bytes
named flood-check-..., asks for it as flood does after each upload, and removes
it, also after Ctrl-C. That the access key may delete is only needed for this.

  flood-check                               looks, uploads nothing
  flood-check --probe holiday               with one profile
  flood-check --probe s3://media/holiday    with several

Exit status: 0 all is well, perhaps with warnings; 1 something does not work,
or the output could not be written; 2 the credentials cannot be used, or wrong
usage or configuration; 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-check; return its exit status."""
    prepare()
    stop = Stop()
    stop.install()
    options, settings = config.load(_parser(), argv, os.environ)
    quiet_log = settings.origins["log_level"] == "default"
    log.configure("error" if quiet_log else settings.log_level, settings.log_format)
    terminal = Terminal(_NAME, quiet=False)
    models.be_brief_when(stop.is_set)
    try:
        return _check(options, settings, stop, terminal)
    except FloodError as error:
        for line in str(error).splitlines():
            terminal.problem(line)
        return error.exit_status


def _parser() -> Parser:
    parser = config.build_parser(_NAME, _DESCRIPTION, epilog=_EPILOG)
    parser.usage = f"{_NAME} [--probe BUCKET]... [--json] [--all] [settings]"
    parser.add_argument(
        "--probe",
        metavar="BUCKET",
        action="append",
        default=[],
        help="upload a small object to this bucket, then remove it; s3://PROFILE/BUCKET where "
        "there are several profiles; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--all", action="store_true", help="show settings that have their defaults, too"
    )
    return parser


def _check(options: argparse.Namespace, settings: Settings, stop: Stop, terminal: Terminal) -> int:
    # boto3 is slow to import, and --help needs none of it.
    from workers.check import Check

    credentials, told = check_credentials.look(settings, os.environ)
    profiles = credentials.profiles if credentials else {}
    check = Check(
        settings,
        profiles,
        _probes(options.probe, profiles) if credentials else {},
        now=partial(datetime.now, timezone.utc),
        clock=time.monotonic,
        stopping=stop.is_set,
    )
    with terminal.busy("checking"):
        found = check.run()
    report = Report(config.describe(settings), [*_variables(os.environ), *told, *found])
    status = EXIT_FAILED if report.count(ERROR) else EXIT_OK
    if credentials is None:
        status = EXIT_USAGE
    for uri in check.left if stop.is_set() else ():
        terminal.problem(f"{uri} may still be there: delete it")
    if stop.is_set():
        terminal.problem("interrupted")
        return EXIT_INTERRUPTED
    if options.json:
        for line in check_report.as_json(report, status).splitlines():
            terminal.show(line)
    else:
        lines.show(check_report.lines(report, everything=options.all), terminal)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return status or EXIT_FAILED
    return status


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name, advice in config.unknown_variables(environ):
        seen = config.no_setting(name)
        yield Finding(SETTINGS, "variable", WARNING, seen, "it sets nothing", advice)


def _probes(given: Sequence[str], profiles: Mapping[str, Profile]) -> dict[str, list[str]]:
    """The buckets to upload to, by profile."""
    probes: dict[str, list[str]] = {}
    known = ", ".join(map(printable, sorted(profiles)))
    for text in given:
        uri = text
        if "://" not in text:
            if len(profiles) > 1:
                named = (
                    text if text.partition("/")[0] in profiles else f"PROFILE/{text or 'BUCKET'}"
                )
                raise ConfigError(
                    f"--probe {printable(text)}: there are several profiles ({known}): write "
                    f"--probe s3://{printable(named)}"
                )
            uri = f"s3://{next(iter(profiles))}/{text}"
        target = destination.parse(uri, "write --probe s3://PROFILE/BUCKET")
        if target.key:
            raise ConfigError(f"--probe {printable(text)}: name a bucket, without a path in it")
        if target.profile not in profiles:
            raise ConfigError(
                f"--probe {printable(text)}: the credentials have no such profile; they have "
                f"{known}"
            )
        buckets = probes.setdefault(target.profile, [])
        if target.bucket not in buckets:
            buckets.append(target.bucket)
    return probes


if __name__ == "__main__":
    sys.exit(main())
