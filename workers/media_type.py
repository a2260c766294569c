"""Which media type an object is given."""

import mimetypes
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
    # With "./" no name can be taken for a URL.
    kind, encoding = mimetypes.guess_type("./" + key.rpartition("/")[2], strict=False)
    if encoding is not None:
        return _COMPRESSED.get(encoding, _UNKNOWN)
    return kind or _UNKNOWN
