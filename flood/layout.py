"""Where each state's files lie below the server directory, by name alone."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

from flood.states import STATES

#: Everything flood keeps for itself below the server directory.
PRIVATE: Final = ".flood"

#: A file for each living worker.
WORKERS: Final = f"{PRIVATE}/workers"

#: The spool's id with its database: whatever has none is no spool, or one whose disk is away.
CARD: Final = f"{PRIVATE}/spool"

#: Amazon S3, Cloudflare R2 and Backblaze B2 alike: 1024 bytes of UTF-8.
MAX_KEY_BYTES: Final = 1024

#: Linux' limit for one component of a path, in bytes (NAME_MAX).
MAX_NAME_BYTES: Final = 255

_NO_NAMES: Final = frozenset({"", ".", ".."})

# How long it is what `beside` adds to a name, in bytes.
_SUFFIXES: Final = range(len(".~1~"), len(".~9223372036854775807.9~") + 1)

# What it adds.
_SUFFIXED: Final = re.compile(r"(.+)\.~[0-9]+(?:\.[2-9])?~", re.DOTALL)


def text(name: str) -> str:
    """A file name as tables and logs hold it: bytes that are no UTF-8 become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Place(NamedTuple):
    """A file's place in the spool: its state, its destination and its key.

    All four are file names as Python has them: bytes that are no UTF-8 are surrogates.
    """

    state: str
    profile: str
    bucket: str
    key: str

    @property
    def path(self) -> str:
        """The path relative to the server directory."""
        return f"{self.state}/{self.profile}/{self.bucket}/{self.key}"

    def moved(self, state: str) -> "Place":
        """The same file's place in another state."""
        return Place(state, self.profile, self.bucket, self.key)


def parse(path: str) -> Place | None:
    """The place that a path relative to the server directory names; None if it is none, as it is
    outside the five state directories or not below a bucket."""
    parts = path.split("/", 3)
    if len(parts) != 4 or parts[0] not in STATES or not is_key(path):
        return None
    return Place(*parts)


def is_name(name: str) -> bool:
    """Whether `name` can be one component of a path that stays where it is put."""
    return "/" not in name and is_key(name)


def is_key(key: str) -> bool:
    """Whether `key` can be a relative path that stays below its bucket's directory."""
    return "\0" not in key and _NO_NAMES.isdisjoint(key.split("/"))


def key_problem(key: str, *, normalizes: bool = False) -> tuple[str, str] | None:
    """Why no S3-compatible store can hold this key under this name: a short code with one
    sentence; None if it can.

    `normalizes`: the store keeps keys in Unicode normal form C, as Cloudflare R2 does ("Unicode
    interoperability"), so that another form's name would come back changed.
    """
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:
        return "key_not_utf8", "the file's name is not valid UTF-8, as S3 keys must be: rename it"
    if len(encoded) > MAX_KEY_BYTES:
        return "key_too_long", (
            f"the key has {len(encoded)} bytes, S3 allows {MAX_KEY_BYTES}: "
            "use a shorter path below the bucket"
        )
    if normalizes and not unicodedata.is_normalized("NFC", key):
        return "key_not_normalized", (
            "this provider stores names in Unicode normal form C, in which another file may have "
            "the same name: rename the file to its composed form"
        )
    return None


def beside(place: Place, record_id: int) -> Iterator[Place]:
    """Places for a file whose own place in its state is taken: one component of the key, the last
    one first, gets the suffix `.~{record id}~`, shortened on a character's boundary where the name
    would be too long. Should all of these be taken, as by records of a database that was lost, the
    suffix is `.~{record id}.2~`, and so on up to 9."""
    parts = place.key.split("/")
    for number in ("", *(f".{n}" for n in range(2, 10))):
        suffix = f".~{record_id}{number}~"
        for index in reversed(range(len(parts))):
            name = _shortened(parts[index], MAX_NAME_BYTES - len(suffix)) + suffix
            key = "/".join([*parts[:index], name, *parts[index + 1 :]])
            yield Place(place.state, place.profile, place.bucket, key)


def without_suffix(key: str) -> str | None:
    """The key of which `beside` may have made this one; None if it has no suffix, or may have been
    shortened for it. A file may as well have come with such a name, as numbered backups of Emacs
    do."""
    for before, name, after, whole in _suffixed(key):
        if whole:
            return "/".join([*before, name, *after])
    return None


def may_be_beside(name: str, key: str) -> bool:
    """Whether `beside` may have made this name of the key, shortened or not."""
    parts = key.split("/")
    return any(
        [*before, *after] == [*parts[: len(before)], *parts[len(before) + 1 :]]
        and (parts[len(before)] == start if whole else parts[len(before)].startswith(start))
        for before, start, after, whole in _suffixed(name)
        if len(before) < len(parts)
    )


def beside_ranges(key: str) -> Iterator[tuple[str, str]]:
    """Bounds, as texts are ordered, between which all names are that `beside` may make of it."""
    parts = key.split("/")
    for index, part in enumerate(parts):
        for name in {_shortened(part, MAX_NAME_BYTES - length) for length in _SUFFIXES}:
            start = "/".join([*parts[:index], name])
            # A colon comes after the last digit.
            yield f"{start}.~0", f"{start}.~:"


def plain_ranges(name: str) -> Iterator[tuple[str, str]]:
    """Bounds, as texts are ordered, between which all keys are of which `beside` may have made
    this name."""
    for before, start, after, whole in _suffixed(name):
        low = "/".join([*before, start, *(after if whole else ())])
        yield (low, low) if whole else (low, f"{low}\U0010ffff")


def _suffixed(key: str) -> Iterator[tuple[list[str], str, list[str], bool]]:
    """Each part of the key that has a suffix, without it, between those before and after; whether
    it was certainly not shortened."""
    parts = key.split("/")
    for index in reversed(range(len(parts))):
        found = _SUFFIXED.fullmatch(parts[index])
        if found and found[1] not in _NO_NAMES:
            # A cut takes up to three bytes more than it has to.
            whole = len(parts[index].encode("utf-8", "surrogateescape")) < MAX_NAME_BYTES - 3
            yield parts[:index], found[1], parts[index + 1 :], whole


def _shortened(name: str, limit: int) -> str:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= limit:
        return name
    # The cut may split a character: what is left of it is dropped, other bytes stay.
    cut = limit
    while cut > limit - 4 and encoded[cut] & 0xC0 == 0x80:
        cut -= 1
    return encoded[:cut].decode("utf-8", "surrogateescape")
