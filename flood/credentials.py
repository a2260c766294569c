"""Finds the credentials file, then reads all its profiles."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from shlex import quote
from typing import Final

from flood import exposure, ini, users
from flood.errors import CredentialsError
from flood.expand import expand_user, expand_variables
from flood.profiles import Profile, names_provider, read_profile
from flood.text import printable

#: How the last line begins where no file was taken.
NO_FILE: Final = "no credentials file"

_SIZE_MAX: Final = 1024**2  # bytes; no credentials file is larger
#: The variable that names the file for the AWS CLI's search; empty, it leads to none.
SEARCHED: Final = "AWS_SHARED_CREDENTIALS_FILE"
_USUAL: Final = "~/.aws/credentials"

#: What tells a file from the same file once it was changed or replaced: its device, its inode, its
#: size, its times of modification, of any change, in nanoseconds since the epoch.
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Credentials:
    """The profiles of the file that was taken, by name.

    `why` tells why it was this file, `warnings` what is odd about it; both can be printed as they
    are, no secret is in them. `stamp` is what the file was when it was read.
    """

    path: str
    why: str
    profiles: Mapping[str, Profile]
    warnings: tuple[str, ...]
    stamp: Stamp


@dataclass(frozen=True)
class _Candidate:
    path: str
    why: str
    is_argument: bool


@dataclass(frozen=True, repr=False)
class _File:
    content: ini.Ini
    mode: int
    stamp: Stamp

    @property
    def names_provider(self) -> bool:
        return any(map(names_provider, self.content.sections.values()))


def load(argument: str | None, argument_first: bool, environ: Mapping[str, str]) -> Credentials:
    """Find the credentials file, then read every profile in it.

    The AWS CLI's own search comes first (AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials, as
    the AWS SDKs Reference Guide has it), then `argument`; with `argument_first` the other way
    round. A file that was searched for, in which no profile names a provider, is an ordinary AWS
    file: it is passed over where an argument is still to come.

    Raises CredentialsError, its message one line for each problem of each profile.
    """
    searched = _searched(environ)
    given = [_Candidate(argument, "--credentials names it", True)] if argument else []
    order = [*given, searched] if argument_first else [searched, *given]
    passed_over: list[str] = []
    ordinary: list[str] = []
    denied: list[str] = []
    warnings: list[str] = []
    for candidate in order:
        path = printable(candidate.path)
        try:
            file = _read(candidate.path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            passed_over.append(f"{path or SEARCHED}: {reason}")
            if candidate.is_argument or not isinstance(error, FileNotFoundError):
                warnings.append(f"{passed_over[-1]}{_instead(candidate, argument, argument_first)}")
            if isinstance(error, PermissionError):
                denied.append(candidate.path)
            continue
        if not file.names_provider and not candidate.is_argument and candidate is not order[-1]:
            # Many have one, for other programs: it is no reason to warn of anything.
            ordinary.append(
                f"{path}: is an ordinary AWS file, as no profile in it names a provider"
            )
            passed_over += ordinary
            continue
        warnings += [each.line for each in exposure.above(candidate.path)]
        odd = (*ordinary, *warnings)
        try:
            profiles = _profiles(path, file, warnings)
        except CredentialsError as error:
            instead = _instead(candidate, argument, argument_first)
            taken = f"{path}: this file was taken because {candidate.why}{instead}"
            raise CredentialsError("\n".join([*odd, str(error), taken])) from None
        unused = [f"before --credentials {printable(other.path)}" for other in given] * (
            candidate is searched and not argument_first
        )
        why = "; ".join([candidate.why, *unused, *passed_over])
        return Credentials(candidate.path, why, profiles, tuple(warnings), file.stamp)
    advice = "name one with --credentials or FLOOD_CREDENTIALS; flood-init DIR writes a template"
    end = f"can be read: {_readable(denied[0])}" if denied else f"was found: {advice}"
    raise CredentialsError("\n".join([*passed_over, f"{NO_FILE} {end}"]))


def _instead(candidate: _Candidate, argument: str | None, argument_first: bool) -> str:
    """What lets the AWS CLI's file alone, as an advice; nothing where it is not in the way."""
    if candidate.is_argument or not argument or argument_first:
        return ""
    return (
        f"; to take {printable(argument)} before it, set credentials-first = true "
        "(--credentials-first, FLOOD_CREDENTIALS_FIRST)"
    )


def load_again(known: Credentials) -> Credentials:
    """Read the very file that was taken before, and no other, anew.

    Raises CredentialsError as `load` does.
    """
    path = printable(known.path)
    try:
        file = _read(known.path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CredentialsError(f"{path}: {reason}") from None
    warnings = [each.line for each in exposure.above(known.path)]
    profiles = _profiles(path, file, warnings)
    return replace(known, profiles=profiles, warnings=tuple(warnings), stamp=file.stamp)


def _readable(path: str) -> str:
    """What lets this user read a file that he may not read."""
    own = "or name a file of your own with --credentials"
    try:
        whose = users.owner(path)
    except OSError:
        return f"let {users.mine()} use each directory on the way to {printable(path)}, {own}"
    if users.takes_over(path):
        return (
            f"let {users.mine()} read it: sudo chown {users.mine()} {printable(quote(path))} "
            f"&& chmod 600 {printable(quote(path))}"
        )
    return f"run this as {whose}, whose it is, {own}"


def stamp_of(path: str) -> Stamp | None:
    """What the file is at this moment; None if nobody can tell."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )


def aws_path(environ: Mapping[str, str]) -> str:
    """Where the AWS CLI looks for its credentials."""
    # Set but empty, the variable leads to no file: so does the AWS CLI.
    name = environ.get(SEARCHED, _USUAL)
    return expand_user(expand_variables(name, environ), environ)


def _searched(environ: Mapping[str, str]) -> _Candidate:
    path = aws_path(environ)
    why = f"{SEARCHED} names it" if SEARCHED in environ else "the AWS CLI's search finds it"
    return _Candidate(path, why, False)


def _read(path: str) -> _File:
    with open(path, "rb", opener=_open) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        data = stream.read(_SIZE_MAX + 1)
    if len(data) > _SIZE_MAX:
        raise ValueError("is too large for a credentials file")
    # utf-8-sig because some editors write a BOM. Bytes that are no UTF-8 do not matter in comments;
    # elsewhere they are refused as characters that do not print.
    return _File(
        ini.read(data.decode("utf-8-sig", "surrogateescape")), status.st_mode, _stamp(status)
    )


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _profiles(path: str, file: _File, warnings: list[str]) -> dict[str, Profile]:
    """Return the profiles by name; raise CredentialsError for all that is wrong with them."""
    problems = [f"{path}: {problem}" for problem in file.content.problems]
    if file.mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.append(
            f"{path}: is open to other users (mode {stat.S_IMODE(file.mode):04o}); "
            f"run chmod 600 {quote(path)}"
        )
    profiles = {}
    for name, section in file.content.sections.items():
        label = f"{path}: profile {printable(name) or '[]'}"
        profile = read_profile(
            section,
            problem=partial(_note, problems, label),
            warning=partial(_note, warnings, label),
        )
        if profile:
            profiles[name] = profile
    if not file.content.sections:
        problems.append(f"{path}: holds no profile; write [name] with its keys below")
    if problems:
        raise CredentialsError("\n".join(problems))
    return profiles


def _note(notes: list[str], label: str, text: str) -> None:
    notes.append(f"{label}: {text}")
