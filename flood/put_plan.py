"""Finds out which files flood-put is to copy, each with its key."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from flood import layout
from flood.database_files import is_own
from flood.destination import Destination
from flood.errors import ConfigError
from flood.temporary import Temporary
from flood.text import printable

#: What is copied, flushed, recorded together: so many files, so many bytes.
BATCH_FILES: Final = 64
BATCH_BYTES: Final = 64 * 1024**2


class Stopped(Exception):
    """A signal asked for the end."""


@dataclass(frozen=True)
class Source:
    """A file to be put; `size` is what it had when it was found, in bytes. A link is followed only
    if it was named on the command line (`named`)."""

    path: str
    key: str
    size: int
    named: bool


@dataclass
class Plan:
    """What is to be put, with what cannot be (each in one line) or was passed over."""

    sources: list[Source] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(source.size for source in self.sources)


@dataclass(frozen=True)
class _Own:
    """What flood-put does not put: the server directory, the database."""

    spool: os.stat_result
    database: str


class Refusal:
    """Says why a key can be put nowhere: flood-watch ignores its name, or no store takes it."""

    def __init__(self, ignore: Sequence[str], *, normalizes: bool) -> None:
        self._temporary = Temporary(ignore)
        self._normalizes = normalizes

    def __call__(self, key: str) -> str | None:
        """The reason in words; None if there is none."""
        problem = layout.key_problem(key, normalizes=self._normalizes)
        if problem is not None:
            return problem[1]
        pattern = self._temporary.pattern(key)
        if pattern is not None:
            return (
                f"flood-watch takes no files named {pattern!r} (see --ignore): give it another name"
            )
        return None


def resolve(
    arguments: Sequence[str],
    destination: Destination,
    *,
    recursive: bool,
    spool: str,
    database: str,
    refusal: Callable[[str], str | None],
    stopping: Callable[[], bool],
) -> Plan:
    """Return the plan for these command line arguments; the server directory `spool` and the
    `database` are no part of it, where they contain those.

    Raises Stopped, or ConfigError if two files would get one key: neither may replace the other.
    """
    plan = Plan()
    own = _Own(os.stat(spool), database)
    into = destination.into or len(arguments) > 1
    for argument in arguments:
        key = _below(destination.key, _base(argument)) if into else destination.key
        for source in _sources(argument, key, recursive, own, plan):
            if stopping():
                raise Stopped
            reason = refusal(source.key)
            if reason is None:
                plan.sources.append(source)
            else:
                plan.problems.append(f"{source.path}: {reason}")
    _check_unique(plan.sources, destination)
    return plan


def _base(argument: str) -> str:
    """The name that a source keeps inside a directory; none for `.`, `..` or `/`, whose content
    goes there directly, as with cp."""
    name = os.path.basename(argument.rstrip("/"))
    return "" if name in (".", "..") else name


def _below(key: str, name: str) -> str:
    return f"{key}/{name}" if key and name else key or name


def _sources(argument: str, key: str, recursive: bool, own: _Own, plan: Plan) -> Iterator[Source]:
    try:
        status = os.stat(argument)
    except (OSError, ValueError) as error:
        plan.problems.append(f"{argument}: {getattr(error, 'strerror', None) or error}")
        return
    if stat.S_ISREG(status.st_mode):
        if is_own(own.database, argument, status, any_name=True):
            plan.problems.append(
                f"{argument}: it is flood's own database, which is in use: have sqlite3 copy it"
                ' (its command ".backup COPY"), and put the copy'
            )
        else:
            yield Source(argument, key, status.st_size, True)
    elif not stat.S_ISDIR(status.st_mode):
        plan.problems.append(f"{argument}: it is no regular file")
    elif recursive:
        if os.path.samestat(status, own.spool):
            plan.problems.append(f"{argument}: it is the spool itself")
        else:
            yield from _walk(argument, key, own, plan)
    else:
        plan.problems.append(f"{argument}: it is a directory: add -r to put what is in it")


def _walk(top: str, key: str, own: _Own, plan: Plan) -> Iterator[Source]:
    waiting = [(top, key)]
    while waiting:
        directory, prefix = waiting.pop()
        try:
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            plan.problems.append(f"{directory}: {error.strerror}")
            continue
        below: list[tuple[str, str]] = []
        for entry in entries:
            path, name = os.path.join(directory, entry.name), _below(prefix, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                plan.problems.append(f"{path}: {error.strerror}")
                continue
            if stat.S_ISDIR(status.st_mode):
                if os.path.samestat(status, own.spool):
                    plan.warnings.append(f"{path}: the spool itself, skipped")
                else:
                    below.append((path, name))
            elif stat.S_ISREG(status.st_mode):
                if is_own(own.database, path, status):
                    plan.warnings.append(f"{path}: flood's own database, skipped")
                else:
                    yield Source(path, name, status.st_size, False)
            elif stat.S_ISLNK(status.st_mode):
                plan.warnings.append(f"{path}: symbolic link skipped")
            else:
                plan.problems.append(f"{path}: it is no regular file")
        waiting += reversed(below)


def _check_unique(sources: Sequence[Source], destination: Destination) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        if source.key in seen:
            raise ConfigError(
                f"{printable(seen[source.key])} and {printable(source.path)} would both become "
                f"{printable(destination.uri(source.key))}: put them to different places"
            )
        seen[source.key] = source.path


def batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Cut a plan into what is delivered at a time."""
    batch: list[Source] = []
    size = 0
    for source in sources:
        if batch and (len(batch) >= BATCH_FILES or size + source.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += source.size
    if batch:
        yield batch
