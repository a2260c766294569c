"""Looks at the credentials, without using them."""

from collections.abc import Iterator, Mapping
from typing import Final

from flood import credentials
from flood.check_findings import CREDENTIALS, ERROR, OK, WARNING, Finding
from flood.config import Settings
from flood.credentials import Credentials
from flood.errors import CredentialsError
from flood.profiles import Profile
from flood.text import printable

# How `flood.credentials` ends what it has to say.
_TAKEN: Final = ": this file was taken because "


def look(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[Credentials | None, list[Finding]]:
    """Return the credentials, None if they cannot be used, with what there is to say of them."""
    try:
        found = credentials.load(settings.credentials, settings.credentials_first, environ)
    except CredentialsError as error:
        return None, list(_refused(error))
    return found, list(_told(found))


def _told(found: Credentials) -> Iterator[Finding]:
    yield Finding(CREDENTIALS, "file", OK, f"{printable(found.path)}: {found.why}")
    for warning in found.warnings:
        seen, _, advice = warning.partition("; ")
        yield Finding(
            CREDENTIALS,
            "file",
            WARNING,
            seen,
            "flood goes on with it, but it may not be what you meant",
            advice or "correct the file",
        )
    for profile in found.profiles.values():
        yield Finding(
            CREDENTIALS,
            f"profile {profile.name}",
            OK,
            describe(profile),
            profile=profile.name,
        )


def describe(profile: Profile) -> str:
    """What a profile says, but for its secrets."""
    parts = [profile.provider.name, f"key {profile.shown_key}"]
    parts += ["session token"] if profile.session_token else []
    return ", ".join([*parts, f"region {profile.region}", profile.endpoint or "Amazon's endpoint"])


def _refused(error: CredentialsError) -> Iterator[Finding]:
    *lines, last = str(error).splitlines()
    if last.startswith(credentials.NO_FILE):
        looked = f" ({'; '.join(lines)})" if lines else ""
        seen, _, advice = last.partition(": ")
        yield _wrong(f"{seen}{looked}", advice)
        return
    if _TAKEN in last:
        yield Finding(CREDENTIALS, "file", OK, last)
    else:
        lines.append(last)
    for line in lines:
        seen, _, advice = line.partition("; ")
        yield _wrong(seen, advice or "correct the file")


def _wrong(found: str, remedy: str) -> Finding:
    meaning = "neither flood-watch, flood-put nor consumers start"
    return Finding(CREDENTIALS, "file", ERROR, found, meaning, remedy)
