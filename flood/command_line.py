"""The argument parser that every command of flood starts from."""

import argparse
import os
import sys
from collections.abc import Callable
from shutil import get_terminal_size
from typing import Any, Final, NoReturn

import configargparse

from flood import __version__
from flood.config_files import FileSyntax
from flood.errors import ConfigError
from flood.kinds import YES_OR_NO, Kind
from flood.options import OPTIONS, Option
from flood.states import EXIT_OK, EXIT_USAGE
from flood.text import printable

_SETTINGS: Final = """\
Each setting is taken from the first of these that has it: the command line,
the environment, the file of --config, ./flood.conf,
$XDG_CONFIG_HOME/flood/flood.conf (~/.config without it),
/etc/flood/flood.conf. In files write "retry-max = 5". Durations take ms, s, m,
h, d (1h30m); sizes take KiB, MiB, GiB or KB, MB, GB."""

#: How many columns --help takes at the most.
_WIDEST: Final = 100

_STATUSES: Final = """\
Exit status: 0 done; 1 something that was asked for failed; 2 wrong usage,
configuration or credentials; 75 try again later; 130 interrupted."""


def _whole(epilog: str) -> str:
    """What follows the options: a command's own words, then those that all have, except where it
    tells its exit statuses itself."""
    statuses = "" if "Exit status:" in epilog else _STATUSES
    return "\n\n".join(filter(None, (epilog, _SETTINGS, statuses)))


class Parser(configargparse.ArgumentParser):  # type: ignore[misc]  # untyped
    """A command's argument parser, which has flood's shared options already.

    Options that a command adds itself can be given as flags only. `problems` collects what is
    wrong with configuration files or variables while they are read.
    """

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        self.shared: Final = tuple(
            option for option in OPTIONS.values() if not option.commands or prog in option.commands
        )
        self.problems: Final[list[str]] = []
        self.reads_files = True
        #: The positional argument, if any, that also takes what stands behind later options.
        self.gathers: str | None = None
        # configargparse keeps this very list, so it can be filled when the environment, which has
        # a say in where files are, is known.
        self.files: Final[list[str]] = []
        syntax = FileSyntax(self.problems, {option.key for option in self.shared})
        super().__init__(
            prog=prog,
            description=description,
            epilog=_whole(epilog or ""),
            formatter_class=_Help,
            add_help=False,
            allow_abbrev=False,
            default_config_files=self.files,
            config_file_parser_class=syntax,
            config_file_open_func=syntax.open,
            add_config_file_help=False,
            add_env_var_help=False,
        )
        self.add_argument("-h", "--help", action=_ShowHelp, nargs=0, help="show this, then exit")
        add_version(self)
        group = self.add_argument_group("settings")
        for option in self.shared:
            group.add_argument(
                option.flag,
                dest=option.name,
                env_var=option.variable,
                help=_help(option),
                **_form(option),
            )

    def read_no_files(self) -> None:
        """Take settings from the command line or the environment, even if these name a file."""
        self.reads_files = False
        for action in self._actions:
            action.is_config_file_arg = False

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse's own, but options may stand between positional arguments."""
        namespace, rest = self.parse_known_args(*arguments, **options)
        if rest and (self.gathers is None or any(word.startswith("-") for word in rest)):
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            getattr(namespace, str(self.gathers)).extend(rest)
        return namespace

    def error(self, message: str) -> NoReturn:
        """As argparse's own, which quotes arguments as they are: a shell's * may have made them of
        file names."""
        super().error(printable(message))
        raise AssertionError("argparse has ended the process")

    def how_to_set(self, name: str) -> str:
        """Where this process takes a setting from, as an advice."""
        option = OPTIONS[name]
        return (
            f"give {option.flag}, or set {option.variable} or {option.key} in ./flood.conf; "
            "flood-init DIR writes one"
        )

    def refuse(self, problems: str) -> NoReturn:
        """End the process with exit status 2, each line of `problems` on a line of its own."""
        for line in problems.splitlines():
            sys.stderr.write(f"{self.prog}: error: {line}\n")
        raise SystemExit(EXIT_USAGE)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command the option that says of which flood it is."""
    parser.add_argument(
        "--version",
        action="version",
        version=f"{parser.prog} {__version__}",
        help="show which flood this is, then exit",
    )


class EmbeddedParser(Parser):
    """A parser for a process whose command line is not flood's: it raises ConfigError."""

    #: How a setting that is missing can be set, if not as in most such processes.
    remedy = ""

    def how_to_set(self, name: str) -> str:
        option = OPTIONS[name]
        return self.remedy or f"set {option.variable}, or {option.key} in ./flood.conf"

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def valued(kind: Kind) -> Callable[[str], Any]:
    """What reads the value of an option that a command adds itself."""

    def read(text: str) -> Any:
        try:
            return kind.read(text, os.environ)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{printable(text)}' {error}") from None

    return read


class _ShowHelp(argparse.Action):
    """As argparse's own, at whose sight configargparse reads no files.

    Its sight is bad: it would take a file for it that is named "-h".
    """

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.print_help()
        raise SystemExit(EXIT_OK)


class Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, but no wider than can be read with ease."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(get_terminal_size().columns - 2, _WIDEST))


class _Help(Help):
    """Leaves the shared settings out of the usage line, where they would hide the rest."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        own = [action for action in actions if action.dest not in OPTIONS]
        super().add_usage(usage, own, groups, prefix)


def _help(option: Option) -> str:
    default = option.unset if option.default is None else option.default
    return f"{option.help} [{option.variable}; default: {default}]".replace("%", "%%")


def _form(option: Option) -> dict[str, Any]:
    if option.name == "config":
        return {"metavar": option.metavar, "is_config_file_arg": True}
    if option.kind is YES_OR_NO:
        return {"action": argparse.BooleanOptionalAction}
    return {"metavar": option.metavar, "action": "append" if option.repeatable else "store"}
