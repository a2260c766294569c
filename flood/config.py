"""Settings: what flags, environment, configuration files or defaults say, checked as a whole."""

import argparse
import glob
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any, Final

from flood import parent
from flood.command_line import EmbeddedParser, Parser
from flood.config_files import candidates, existing, nearest
from flood.errors import ConfigError
from flood.kinds import YES_OR_NO, Unspeakable, elements
from flood.options import OPTIONS, Option, ignored
from flood.states import STATES
from flood.text import printable


@dataclass(frozen=True)
class Settings:
    """What holds for this process. Paths are absolute, times are seconds, sizes are bytes.

    `connect_timeout` or `read_timeout` None: as `flood.providers` has it; `keep_completed`,
    `keep_failed`, `keep_records` or `notify_age` None: for ever. `ignore` holds every
    pattern, flood's own included; they are for the last part of a path. `origins` tells for each
    field where its value is from, in words.
    """

    config: str | None
    credentials: str | None
    credentials_first: bool
    server_directory: str
    database: str
    retry_initial_delay: float
    retry_max: int
    retry_jitter: float
    rescan_interval: float
    min_free: int
    ignore: tuple[str, ...]
    multipart_threshold: int
    multipart_part_size: int
    connect_timeout: float | None
    read_timeout: float | None
    bucket_cache_seconds: float
    transfer: str
    concurrency: int
    keep_completed: float | None
    keep_failed: float | None
    keep_records: float | None
    notify_command: str | None
    notify_urls: str | None
    notify_interval: float
    notify_age: float | None
    consumers: int
    log_level: str
    log_format: str
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


# Variables that are no settings: what flood-watch tells its consumers, what is for tests.
_OTHERS: Final = (parent.VARIABLE, "FLOOD_TEST_")

# Settings that say where things are, without which another command finds others, or none.
_WHERE: Final = ("config", "credentials", "credentials_first", "server_directory", "database")

_FLAG: Final = "flag"
_DEFAULT: Final = "default"


def build_parser(prog: str, description: str, *, epilog: str | None = None) -> Parser:
    """Return a parser with the shared options that the command `prog` has, to be given to `load`.

    Options that a command adds to it are flags only: no file or variable sets them.
    """
    return Parser(prog, description, epilog)


def load(
    parser: Parser, argv: Sequence[str] | None, environ: Mapping[str, str]
) -> tuple[argparse.Namespace, Settings]:
    """Return the parsed command line (`argv`, or the process's own for None) with the settings.

    Whatever is wrong ends the process with exit status 2, every wrong setting named in a line of
    its own on stderr.
    """
    try:
        return _load(parser, argv, environ)
    except ConfigError as error:
        parser.refuse(str(error))


def from_environment(
    environ: Mapping[str, str], *, files: bool = True, remedy: str = ""
) -> Settings:
    """Return the settings of a process that has no command line of flood's; without `files` those
    of `environment` in another process, whatever has become of its files since. `remedy` is how the
    server directory can be set, if not as in most such processes.

    Raises ConfigError, its message one line for each wrong setting.
    """
    parser = EmbeddedParser("flood", "Reads settings without a command line.")
    parser.remedy = remedy
    if not files:
        parser.read_no_files()
    return _load(parser, [], environ)[1]


def environment(settings: Settings) -> dict[str, str]:
    """Return the FLOOD_* variables that give a child process exactly these settings, if it reads
    no files; those of settings that are not set are empty."""
    variables = {}
    for option in OPTIONS.values():
        value = getattr(settings, option.name)
        if option.repeatable:
            # A JSON list, as patterns may hold anything; the first takes flood's own back.
            variables[option.variable] = json.dumps(["!*", *value])
        else:
            unset = value is None and option.default is None
            variables[option.variable] = "" if unset else option.kind.write(value)
    return variables


def command(settings: Settings, *words: str) -> str:
    """Return a command for a person to copy, which finds what this process found: flags that say
    where things are are given again, to huey_consumer, which has no flags of flood's, as variables.
    """
    # sudo hands no variables on.
    again = (_FLAG, "environment ") if words[0] == "sudo" else (_FLAG,)
    parts = [quote(word) for word in words]
    for option in (OPTIONS[name] for name in _WHERE):
        value = getattr(settings, option.name)
        if value is None or not settings.origins.get(option.name, _DEFAULT).startswith(again):
            continue
        if words[0] == "huey_consumer":
            parts.insert(0, f"{option.variable}={quote(option.kind.write(value))}")
        elif isinstance(value, bool):
            parts.append(option.flag if value else f"--no-{option.key}")
        else:
            parts += (option.flag, quote(option.kind.write(value)))
    return " ".join(parts)


def from_flags(settings: Settings) -> Settings:
    """Return the settings as if flags had said what variables do: whoever reads what a process
    without flags prints need not have its variables."""
    origins = {
        name: _FLAG if origin.startswith("environment ") else origin
        for name, origin in settings.origins.items()
    }
    return replace(settings, origins=origins)


def with_database(settings: Settings, database: str) -> Settings:
    """Return the settings as if this database had been named by a flag, unless they lead to it."""
    if os.path.realpath(settings.database) == os.path.realpath(database):
        return settings
    return replace(settings, database=database, origins={**settings.origins, "database": _FLAG})


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that look like settings but are none, each with an advice."""
    known = {option.variable: option.key for option in OPTIONS.values()}
    return [
        (printable(name), nearest(name.removeprefix("FLOOD_")).removeprefix("; "))
        for name in sorted(environ)
        if name.startswith("FLOOD_") and name not in known and not name.startswith(_OTHERS)
    ]


def no_setting(name: str) -> str:
    """What is wrong with one of them, in words."""
    return f"{name} is in the environment, and is no setting"


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Return each setting's name, value, origin, all printable; there are no secrets in them."""
    return [
        (option.key, _shown(option, getattr(settings, option.name)), settings.origins[option.name])
        for option in OPTIONS.values()
    ]


def _shown(option: Option, value: Any) -> str:
    if value is None:
        return option.unset
    return printable(
        ", ".join(map(option.kind.write, value)) if option.repeatable else option.kind.write(value)
    )


def _load(
    parser: Parser, argv: Sequence[str] | None, environ: Mapping[str, str]
) -> tuple[argparse.Namespace, Settings]:
    problems = parser.problems
    problems.clear()
    # configargparse takes them for glob patterns.
    found = existing(candidates(environ), problems) if parser.reads_files else ()
    parser.files[:] = map(glob.escape, found)
    namespace = parser.parse_args(argv, env_vars=_variables(parser, environ))
    origins = _origins(parser, namespace)
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        origin = origins[option.name]
        try:
            values[option.name] = _value(option, getattr(namespace, option.name, None), environ)
        except ValueError as error:
            problems.append(f"{_place(option, origin)}: {error}")
    if values.get("server_directory", "") is None:
        problems.append(f"server-directory is not set: {parser.how_to_set('server_directory')}")
    problems += [*_contradictions(values), *_wrong_encoding()]
    if problems:
        unknown = unknown_variables(environ)
        problems += [f"{no_setting(name)}; {advice}" for name, advice in unknown]
        raise ConfigError("\n".join(problems))
    return namespace, Settings(**values, origins=origins)


def _wrong_encoding() -> list[str]:
    """Why names of files would not be those of keys: in UTF-8, as S3 has them, but what a locale
    makes of their bytes."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return []
    return [
        f"this process takes names of files for {encoding}, as its locale says, where S3 has "
        "UTF-8: set PYTHONUTF8=1, or another locale, such as LC_ALL=C.UTF-8"
    ]


def _variables(parser: Parser, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set; configargparse is not shown those it would choke on."""
    variables = {}
    for option in parser.shared:
        text = environ.get(option.variable, "")
        if option.kind is YES_OR_NO and text:
            try:
                text = option.kind.write(option.kind.read(text, environ))
            except ValueError as error:
                parser.problems.append(f"{option.variable}: '{printable(text)}' {error}")
                continue
        listed = text.strip()
        if option.repeatable and listed.startswith("[") and listed.endswith("]"):
            text = json.dumps(elements(listed))  # configargparse would take the quotes away
        if text:
            variables[option.variable] = text
    return variables


def _origins(parser: Parser, namespace: argparse.Namespace) -> dict[str, str]:
    origins = {
        name: _DEFAULT if getattr(namespace, name, None) is None else _FLAG for name in OPTIONS
    }
    for source, entries in parser.get_source_to_settings_dict().items():
        kind, _, path = source.partition("|")
        for key, (action, _) in entries.items():
            if kind == "environment_variables":
                origins[action.dest] = f"environment {key}"
            elif kind == "config_file":
                origins[action.dest] = f"file {path}"
    return origins


def _place(option: Option, origin: str) -> str:
    if origin == _FLAG:
        return option.flag
    if origin.startswith("environment "):
        return option.variable
    if origin == _DEFAULT:
        return option.key
    return f"{printable(origin.removeprefix('file '))}: {option.key}"


def _value(option: Option, given: Any, environ: Mapping[str, str]) -> Any:
    """Return the value of what argparse gave: a text, several, a truth value, or None."""
    if isinstance(given, bool):
        return given
    if option.repeatable:
        if given is not None and not all(isinstance(text, str) for text in given):
            # argparse takes "--" for the end of all options, whatever stands before it.
            raise ValueError("'--' cannot be given as a value: write [-]-")
        return ignored([_read(option, text, environ) for text in given or ()])
    if isinstance(given, list):
        # argparse takes "--" for the end of all options, whatever stands before it.
        raise ValueError("'--' cannot be given as a value")
    text = option.default if given is None else given
    return None if text is None else _read(option, text, environ)


def _read(option: Option, text: str, environ: Mapping[str, str]) -> Any:
    try:
        return option.kind.read(text, environ)
    except Unspeakable:
        raise
    except ValueError as error:
        raise ValueError(f"'{printable(text)}' {error}") from None


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with values that are right each by itself."""
    problems = []
    part, threshold = values.get("multipart_part_size"), values.get("multipart_threshold")
    if part and threshold and part > threshold:
        problems.append(
            f"multipart-part-size ({_shown(OPTIONS['multipart_part_size'], part)}) is larger than "
            f"multipart-threshold ({_shown(OPTIONS['multipart_threshold'], threshold)})"
        )
    database, server = values.get("database"), values.get("server_directory")
    if database and server:
        database, server = os.path.realpath(database), os.path.realpath(server)
        if database == server:
            problems.append(f"database is the server-directory itself: {printable(server)}")
        if any(_within(database, os.path.join(server, state)) for state in STATES):
            problems.append(
                f"database ({printable(database)}) lies among the files to be uploaded; put it "
                f"outside {', '.join(STATES)} of {printable(server)}"
            )
    return problems


def _within(path: str, directory: str) -> bool:
    return os.path.commonpath((path, directory)) == directory
