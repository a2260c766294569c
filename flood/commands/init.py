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
from flood.command_line import Help, add_version
from flood.credentials import SEARCHED
from flood.errors import FloodError
from flood.founding import CONFIG, CREDENTIALS, Founding
from flood.options import OPTIONS
from flood.states import EXIT_FAILED, EXIT_OK
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
repeated. A flood.conf that was kept and leads elsewhere is told of. Other
settings are not read.

Exit status: 0 done; 1 done, yet the commands could not be printed; 2 the
directory, or a flood.conf that was kept, cannot be used, or wrong usage; 75
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
    try:
        directory = os.path.abspath(options.directory)
    except OSError as error:
        parser.error(
            "DIR is relative to the current directory, which cannot be found out "
            f"({error.strerror}): give an absolute path"
        )
    log.configure("warning", "text")
    terminal = Terminal(_NAME, quiet=False)
    try:
        _found(directory, terminal)
    except FloodError as error:
        for line in str(error).splitlines():
            terminal.problem(line)
        return error.exit_status
    _warn(os.environ, terminal)
    if terminal.unheard is not None:
        terminal.problem(f"cannot write to stdout: {terminal.unheard.strerror}")
        return EXIT_FAILED
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
    add_version(parser)
    return parser


def _found(directory: str, terminal: Terminal) -> None:
    founding = Founding(
        directory,
        queue=huey.storage.initialize_schema,
        now=partial(datetime.now, timezone.utc),
    )
    kept = set()
    for path, new in founding.run():
        terminal.say(f"{'made' if new else 'kept'}  {path}")
        kept |= set() if new else {path}
    keys = founding.path(CREDENTIALS)
    lines: Sequence[str] = ()
    if founding.path(CONFIG) in kept:
        keys = _compare(founding, terminal) or keys
        lines = founding.unread(os.environ)
    config = quote(founding.path(CONFIG))
    terminal.say("")
    if lines:
        terminal.say(f"Add to {founding.path(CONFIG)}, as it has keys read from elsewhere,")
        terminal.say("")
        for line in lines:
            terminal.say(f"  {line}")
        terminal.say("")
        terminal.say(f"and write your keys into {keys}; or write them into")
        terminal.say(f"{os.environ.get(SEARCHED) or '~/.aws/credentials'} instead. Then run")
    else:
        terminal.say(f"Write your keys into {keys}, then run")
    terminal.say("")
    terminal.say(f"  flood-check --config {config} --probe s3://PROFILE/BUCKET")
    terminal.say(f"  flood-watch --config {config}")
    terminal.say("")
    terminal.say("and in another shell")
    terminal.say("")
    terminal.say(f"  flood-put --config {config} --wait FILE s3://PROFILE/BUCKET/")


def _compare(founding: Founding, terminal: Terminal) -> str | None:
    """Tell where a flood.conf that was kept leads; return its credentials if they are elsewhere."""
    elsewhere = list(founding.elsewhere(os.environ))
    if not elsewhere:
        return None
    config = founding.path(CONFIG)
    terminal.problem(f"{config} was there before, was kept, and leads elsewhere:")
    for key, there, here in elsewhere:
        terminal.problem(f"  {key} {f'= {there}' if there else 'is not set'}, instead of {here}")
    terminal.problem(
        f"the commands below work there; if they are to work in {os.path.dirname(config)}, correct "
        f"{config}, or move it away, then run flood-init again"
    )
    return next((there for key, there, _ in elsewhere if key == "credentials"), None)


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
