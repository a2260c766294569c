"""flood-init: lays out a new installation."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from shlex import quote
from typing import Final, NoReturn

from flood import log
from flood.command_line import Help
from flood.errors import FloodError
from flood.founding import CONFIG, CREDENTIALS, Founding
from flood.options import OPTIONS
from flood.states import EXIT_OK
from flood.terminal import Terminal, prepare
from flood.text import printable
from huey_config import huey

_NAME: Final = "flood-init"
_DESCRIPTION: Final = """\
Makes a directory with all that flood needs: settings (flood.conf), a template
for credentials that only you can read, the spool, its database. Prints the
commands to run next.
"""
_EPILOG: Final = """\
What is there already stays as it is: a run that was broken off can be
repeated. It reads no settings.

Exit status: 0 done; 2 the directory cannot be used, or wrong usage; 75
flood-watch runs there, or the disk is full; 130 interrupted."""

#: What flood.conf says, and the environment would say first.
_WRITTEN: Final = ("server_directory", "database", "credentials", "credentials_first", "consumers")


class _Parser(argparse.ArgumentParser):
    """Quotes arguments so that they steer no terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run flood-init; return its exit status."""
    prepare()
    parser = _parser()
    options = parser.parse_args(argv)
    if not options.directory:
        parser.error("DIR is empty")
    log.configure("warning", "text")
    terminal = Terminal(_NAME, quiet=False)
    try:
        _found(os.path.abspath(options.directory), terminal)
    except FloodError as error:
        terminal.problem(str(error))
        return error.exit_status
    _warn(os.environ, terminal)
    return EXIT_OK


def _parser() -> _Parser:
    parser = _Parser(
        prog=_NAME,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("directory", metavar="DIR", help="made if it is not there")
    parser.add_argument("-h", "--help", action="help", help="show this, then exit")
    return parser


def _found(directory: str, terminal: Terminal) -> None:
    founding = Founding(
        directory,
        queue=huey.storage.initialize_schema,
        now=partial(datetime.now, timezone.utc),
    )
    for path, new in founding.run():
        terminal.say(f"{'made' if new else 'kept'}  {path}")
    config = quote(founding.path(CONFIG))
    terminal.say("")
    terminal.say(f"Write your keys into {founding.path(CREDENTIALS)}, then run")
    terminal.say("")
    terminal.say(f"  flood-check --config {config} --probe s3://PROFILE/BUCKET")
    terminal.say(f"  flood-watch --config {config}")
    terminal.say("")
    terminal.say("and in another shell")
    terminal.say("")
    terminal.say(f"  flood-put --config {config} --wait FILE s3://PROFILE/BUCKET/")


def _warn(environ: Mapping[str, str], terminal: Terminal) -> None:
    for name in _WRITTEN:
        variable = OPTIONS[name].variable
        if environ.get(variable):
            terminal.problem(
                f"{variable} is set in the environment, which comes before flood.conf: "
                f"unset {variable}"
            )


if __name__ == "__main__":
    sys.exit(main())
