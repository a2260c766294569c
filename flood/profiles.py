"""Turns one section of a credentials file into a checked profile."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flood import endpoints, ini
from flood.ini import Entry, Section
from flood.providers import PROVIDERS, Provider
from flood.text import printable

PROVIDER: Final = "provider"
ACCESS_KEY_ID: Final = "AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105  a key's name, no secret
SESSION_TOKEN: Final = "AWS_SESSION_TOKEN"  # noqa: S105  a key's name, no secret
REGION: Final = "AWS_REGION"
ENDPOINT: Final = "AWS_ENDPOINT"

#: Each key with its spellings in lower case: flood's own, then the AWS CLI's or other tools'.
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    PROVIDER: ("provider",),
    ACCESS_KEY_ID: ("aws_access_key_id",),
    SECRET_ACCESS_KEY: ("aws_secret_access_key",),
    SESSION_TOKEN: ("aws_session_token", "aws_security_token"),
    REGION: ("aws_region", "region", "aws_default_region"),
    ENDPOINT: (
        "aws_endpoint",
        "endpoint_url",
        "aws_endpoint_url",
        "aws_endpoint_url_s3",
        "endpoint",
    ),
}
_KEYS: Final = {spelling: key for key, spellings in SPELLINGS.items() for spelling in spellings}
# Where a comment after the value cannot be part of it.
_COMMENTABLE: Final = (PROVIDER, REGION, ENDPOINT)
_COMMENT: Final = re.compile(r"(?:^|\s)\s*[#;].*")
_VISIBLE: Final = re.compile(r"[!-~]+")

# As documentation has it; no region or endpoint has these characters, a secret may.
_PLACEHOLDER: Final = re.compile(r"<[^<>]*>")
_REGION: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")
_NAME_MAX: Final = 255  # bytes: NAME_MAX of Linux

Tell = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class Profile:
    """One set of credentials with the store that it is for.

    `endpoint` is `https://host` or `https://host:port` (or http), None where the provider's own
    is meant. repr shows no secret, nor the whole of the access key's id.
    """

    name: str
    provider: Provider
    access_key_id: str
    secret_access_key: str
    session_token: str | None
    region: str
    endpoint: str | None

    @property
    def shown_key(self) -> str:
        """As much of the access key's id as tells it from others."""
        return f"{self.access_key_id[: min(4, len(self.access_key_id) // 4)]}..."

    def __repr__(self) -> str:
        return (
            f"Profile(name={self.name!r}, provider={self.provider.name!r}, "
            f"access_key_id={self.shown_key!r}, region={self.region!r}, endpoint={self.endpoint!r})"
        )


def names_provider(section: Section) -> bool:
    """Return whether this section was written for flood."""
    return any(entry.key == PROVIDER for entry in section.entries)


def may_be_named(name: str) -> bool:
    """Whether a profile can have this name, as that of its section."""
    section = ini.read(f"[{name}]").sections.get(name)
    problems: list[str] = []
    if section is not None:
        _check_name(section, problems.append, lambda _: None)
    return section is not None and not problems


def read_profile(section: Section, problem: Tell, warning: Tell) -> Profile | None:
    """Return the section as a profile; None if `problem` was told of anything.

    Everything wrong or odd is told, each in one line. No line quotes a value of the file, but for
    the host of an endpoint.
    """
    problems: list[str] = []
    _check_name(section, problems.append, warning)
    values = _values(section, problems.append, warning)
    provider = _provider(values, problems.append)
    endpoint = _endpoint(values, problems.append, warning)
    region = _region(values, problems.append, provider, endpoint)
    required = provider.required if provider else PROVIDERS["amazon"].required
    missing = [key for key in (PROVIDER, *required) if key not in values]
    if missing:
        hints = _hints(section, missing, provider, endpoint)
        problems.append("; ".join((f"missing: {', '.join(missing)}", *hints)))
    for text in problems:
        problem(text)
    if problems or provider is None or region is None:
        return None
    token = values.get(SESSION_TOKEN)
    return Profile(
        name=section.name,
        provider=provider,
        access_key_id=values[ACCESS_KEY_ID].value,
        secret_access_key=values[SECRET_ACCESS_KEY].value,
        session_token=token.value if token else None,
        region=region,
        endpoint=endpoint,
    )


def _check_name(section: Section, problem: Tell, warning: Tell) -> None:
    name = section.name
    if name in ("", ".", ".."):
        problem("a profile's name becomes a directory's, which this cannot be")
    if "/" in name:
        problem("a profile's name becomes a directory's, which must not hold a '/'")
    if not name.isprintable():
        problem("the profile's name holds characters that do not print")
    elif len(name.encode()) > _NAME_MAX:
        problem(f"the profile's name is longer than {_NAME_MAX} bytes")
    if len(section.lines) > 1:
        lines = ", ".join(map(str, section.lines))
        warning(f"is there more than once (lines {lines}); taken as one, the AWS CLI refuses it")
    if name == "DEFAULT":
        warning("is a profile like any other here, but the AWS CLI adds its keys to all others")
    if name.startswith("profile "):
        warning(f"'profile ' is part of its name in this file; write [{printable(name[8:])}]")


def _values(section: Section, problem: Tell, warning: Tell) -> dict[str, Entry]:
    """Return the last entry of each known key, cleaned; one without a value counts as not there."""
    given: dict[str, list[Entry]] = {}
    for entry in section.entries:
        key = _KEYS.get(entry.key)
        if key is not None:
            given.setdefault(key, []).append(Entry(key, _cleaned(key, entry.value), entry.line))
    values = {}
    for key, entries in given.items():
        last = entries[-1]
        if len({entry.value for entry in entries}) > 1:
            lines = ", ".join(str(entry.line) for entry in entries)
            warning(f"{key} has different values (lines {lines}); line {last.line} counts")
        if "\n" in last.value:
            problem(f"{key} (line {last.line}) goes on below, where lines are indented deeper")
        elif key in _COMMENTABLE and (placeholder := _PLACEHOLDER.search(last.value)):
            problem(
                f"{key} (line {last.line}) has {printable(placeholder[0])} in it; put what that "
                "stands for in its place"
            )
        elif last.value and not _VISIBLE.fullmatch(last.value):
            problem(
                f"{key} (line {last.line}) holds a blank or a character that cannot be part of "
                "it; comments need lines of their own"
            )
        if last.value:
            values[key] = last
    return values


def _cleaned(key: str, value: str) -> str:
    if key in _COMMENTABLE and "\n" not in value:
        value = _COMMENT.sub("", value)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value.strip()


def _provider(values: Mapping[str, Entry], problem: Tell) -> Provider | None:
    entry = values.get(PROVIDER)
    if entry is None:
        return None
    provider = PROVIDERS.get(entry.value.lower())
    if provider is None:
        problem(f"provider (line {entry.line}) is none of {', '.join(PROVIDERS)}")
    return provider


def _endpoint(values: Mapping[str, Entry], problem: Tell, warning: Tell) -> str | None:
    entry = values.get(ENDPOINT)
    if entry is None or not _VISIBLE.fullmatch(entry.value):
        return None
    try:
        endpoint = endpoints.normalized(entry.value)
    except ValueError as error:
        problem(f"{ENDPOINT} (line {entry.line}) {error}")
        return None
    if endpoints.is_exposed(endpoint):
        warning(f"{ENDPOINT} is http, so what is uploaded can be read on the way; write https://")
    return endpoint


def _region(
    values: Mapping[str, Entry], problem: Tell, provider: Provider | None, endpoint: str | None
) -> str | None:
    entry = values.get(REGION)
    if entry is None or not _VISIBLE.fullmatch(entry.value):
        return None
    wanted = _region_in_host(provider, endpoint)
    if not _REGION.fullmatch(entry.value):
        problem(f"{REGION} (line {entry.line}) is no region's name")
    elif wanted and entry.value != wanted:
        problem(f"{REGION} (line {entry.line}) is not {wanted}, to which {ENDPOINT} belongs")
    return entry.value


def _region_in_host(provider: Provider | None, endpoint: str | None) -> str | None:
    if not provider or not provider.region_in_host or not endpoint:
        return None
    match = re.match(provider.region_in_host, endpoints.host_of(endpoint))
    return match[1] if match else None


def _hints(
    section: Section, missing: list[str], provider: Provider | None, endpoint: str | None
) -> list[str]:
    hints = []
    region = _region_in_host(provider, endpoint) or (provider and provider.region_hint)
    if REGION in missing and region:
        hints.append(f"write {REGION} = {region}")
    if PROVIDER in missing:
        hints.append(f"write provider = one of {', '.join(PROVIDERS)}")
    empty = [key for key in missing if any(_KEYS.get(e.key) == key for e in section.entries)]
    if empty:
        hints.append(f"give {', '.join(empty)} a value")
    # The line is not quoted: part of it may be a secret, where "=" was forgotten.
    unknown = {entry.key: entry.line for entry in section.entries if entry.key not in _KEYS}
    for key in missing:
        for near in difflib.get_close_matches(key.lower(), unknown, n=1, cutoff=0.8):
            hints.append(f"is line {unknown[near]} meant to be {key} = ...?")
    return hints
