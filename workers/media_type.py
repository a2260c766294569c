"""Which media type an object is given."""

import mimetypes
import posixpath
from functools import lru_cache
from typing import Final

_COMPRESSED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}
_UNKNOWN: Final = "application/octet-stream"


def content_type(key: str) -> str:
    """Return the media type that the key's last segment suggests.

    A compressed file is called that, not what it holds: stores and browsers would unpack it.
    """
    return _of_suffix(posixpath.splitext(key)[1])


@lru_cache(maxsize=256)
def _of_suffix(suffix: str) -> str:
    # With "./" no name can be taken for a URL.
    kind, encoding = mimetypes.guess_type(f"./name{suffix}", strict=False)
    if encoding is not None:
        return _COMPRESSED.get(encoding, _UNKNOWN)
    return kind or _UNKNOWN
