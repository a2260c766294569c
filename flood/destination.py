"""Reads s3://profile/bucket/path, the place that a file is to go to."""

import re
from dataclasses import dataclass
from typing import Final

from flood import layout
from flood.errors import ConfigError
from flood.layout import MAX_NAME_BYTES, Place
from flood.states import INCOMING
from flood.text import printable

_SCHEME: Final = "s3://"
_FORM: Final = "write s3://PROFILE/BUCKET/PATH"

# Wider than the rules of Amazon, whose own older buckets break them; what it refuses no store has.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True)
class Destination:
    """A key below a bucket of a profile, or with `into` the directory that keys are made in; the
    empty key is then the bucket itself."""

    profile: str
    bucket: str
    key: str
    into: bool

    def uri(self, key: str | None = None) -> str:
        """How a user writes this destination, or one key of the same bucket."""
        path = (self.key + "/" * (self.into and self.key != "")) if key is None else key
        return f"{_SCHEME}{self.profile}/{self.bucket}/{path}"

    def place(self, key: str) -> Place:
        """Where the file for `key` goes."""
        return Place(INCOMING, self.profile, self.bucket, key)


def parse(uri: str, form: str = _FORM) -> Destination:
    """Return the destination that `uri` names; nothing in it is decoded, `%20` is three characters.
    `form` tells whoever got it wrong how to write it.

    Raises ConfigError for whatever could leave the bucket's directory or be no S3 name.
    """
    target = of_files(uri, form)
    if not _BUCKET.fullmatch(target.bucket):
        raise ConfigError(
            f"{printable(uri)}: no store has a bucket of the name '{printable(target.bucket)}'"
        )
    _check_key(uri, target.key)
    return target


def of_files(uri: str, form: str = _FORM) -> Destination:
    """The file, or the directory with all that lies below, that `uri` names, however odd its name
    is: a file that no store can have may lie in the spool all the same. Raises ConfigError."""
    if not uri.startswith(_SCHEME):
        raise ConfigError(f"the destination '{printable(uri)}' does not begin with s3://; {form}")
    profile, _, rest = uri.removeprefix(_SCHEME).partition("/")
    bucket, _, path = rest.partition("/")
    if not layout.is_name(profile) or not layout.is_name(bucket):
        raise ConfigError(f"{printable(uri)} names no profile or no bucket; {form}")
    key = path.removesuffix("/")
    if path and not layout.is_key(key):
        raise ConfigError(
            f"{printable(uri)}: a path must not have '.', '..', or nothing between two slashes"
        )
    return Destination(profile, bucket, key, into=not path or path.endswith("/"))


def of_file(uri: str) -> Place:
    """The place in incoming of the one file that `uri` names, as odd as in `of_files`. Raises
    ConfigError."""
    form = "write s3://PROFILE/BUCKET/KEY"
    if not uri.startswith(_SCHEME):
        raise ConfigError(f"'{printable(uri)}' does not begin with s3://; {form}")
    profile, _, rest = uri.removeprefix(_SCHEME).partition("/")
    bucket, _, key = rest.partition("/")
    if not layout.is_name(profile) or not layout.is_name(bucket) or not layout.is_key(key):
        raise ConfigError(f"{printable(uri)} names no file; {form}")
    return Place(INCOMING, profile, bucket, key)


def _check_key(uri: str, key: str) -> None:
    problem = layout.key_problem(key)
    if problem is not None:
        raise ConfigError(f"{printable(uri)}: {problem[1]}")
    if any(len(part.encode("utf-8")) > MAX_NAME_BYTES for part in key.split("/")):
        raise ConfigError(
            f"{printable(uri)}: no part of a path can be longer than {MAX_NAME_BYTES} bytes"
        )
