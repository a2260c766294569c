"""Compares what HEAD shows of an object with what was sent."""

import base64
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from flood.providers import Provider
from workers.failures import ContradictedByHead
from workers.source import Algorithm
from workers.transfer import Receipt, Upload

#: Statuses of HEAD, which has no body to say more, with what they mean: the store, or this access
#: key, does not know the question; the upload itself was confirmed.
NO_ANSWER: Final = {
    400: "the store does not understand HEAD (400)",
    401: "this access key may not read (401)",
    403: "this access key may not read (403)",
    405: "the store does not allow HEAD (405)",
    501: "the store does not implement HEAD (501)",
}
#: The status of HEAD where there is no object.
NOT_FOUND: Final = 404

_MD5: Final = re.compile(r"[0-9a-f]{32}")


class Sent(NamedTuple):
    """What the store said to an upload, beside the digest of the bytes that were sent.

    `parts` is 0 for a single PUT, else `digest` is that of the parts' digests one after the other.
    """

    etag: str | None
    version_id: str | None
    digest: bytes
    parts: int = 0


class Shown(NamedTuple):
    """What HEAD shows of an object; None is what it leaves out. `mark` is flood's own."""

    size: int | None
    etag: str | None
    crc32: str | None
    version_id: str | None = None
    mark: str | None = None


def digest_algorithm(provider: Provider) -> Algorithm | None:
    """Return what to compute while sending, so that the store's answer can be compared.

    Where there is none, the signature still covers the SHA-256 of each body, so that a store which
    verifies signatures rejects altered bytes.
    """
    if provider.checksum_on_head:
        return "crc32"
    return "md5" if provider.etag_is_md5 else None


def bare(etag: object) -> str | None:
    """Return an ETag without its quotes."""
    return etag.strip('"') if isinstance(etag, str) else None


def check_put(provider: Provider, sent: Sent) -> None:
    """Raise ContradictedByHead if the answer to the upload itself shows another digest."""
    if provider.etag_is_md5 and not sent.parts:
        _compare_etag(sent.etag, sent.digest, "PUT")


def confirm(
    provider: Provider, upload: Upload, sent: Sent, head: Callable[[], Shown | int]
) -> Receipt:
    """Ask HEAD for the object; return the receipt.

    `head` answers a status where it shows nothing. Raises what it raises; ContradictedByHead if the
    store shows another size or digest, or no object even when asked twice. A store or an access key
    that does not allow HEAD is no failure.
    """
    check_put(provider, sent)
    for _ in range(2):
        shown = head()
        if isinstance(shown, Shown):
            return verified(provider, upload, sent, shown)
        if shown in NO_ANSWER:
            return unverified(upload, sent, NO_ANSWER[shown])
    raise missing()


def unverified(upload: Upload, sent: Sent, reason: str) -> Receipt:
    """Return the receipt of an upload that HEAD could not confirm."""
    return Receipt(sent.etag, sent.version_id, None, upload.size, unverified=reason)


def verified(provider: Provider, upload: Upload, sent: Sent, shown: Shown) -> Receipt:
    """Return the receipt; raise ContradictedByHead if HEAD shows another size or digest."""
    if shown.size is None:
        return unverified(upload, sent, "HEAD does not tell the size")
    if shown.size != upload.size:
        raise ContradictedByHead(f"{upload.size} bytes were sent, and HEAD shows {shown.size}")
    checksum = _compare_digest(provider, shown, sent)
    return Receipt(sent.etag, sent.version_id, checksum, upload.size)


def missing() -> ContradictedByHead:
    """Return the error for an object that HEAD does not find, even when asked twice."""
    return ContradictedByHead("the store confirmed the upload, and HEAD finds no object")


def _compare_digest(provider: Provider, shown: Shown, sent: Sent) -> str | None:
    """Return `algorithm:hexadecimal` of what was compared, None if there is nothing to compare."""
    if provider.checksum_on_head:
        return _compare_crc32(shown.crc32, sent)
    if provider.etag_is_md5 and not sent.parts:
        return _compare_etag(shown.etag, sent.digest, "HEAD")
    return None


def _compare_etag(etag: str | None, digest: bytes, method: str) -> str | None:
    if etag is None or not _MD5.fullmatch(etag):
        return None
    if etag != digest.hex():
        raise ContradictedByHead(f"MD5 {digest.hex()} was sent, and {method} shows {etag}")
    return f"md5:{etag}"


def _compare_crc32(shown: str | None, sent: Sent) -> str | None:
    if shown is None:
        return None
    value, _, parts = shown.partition("-")
    if bool(parts) != bool(sent.parts):
        return None  # the store computed the one kind, flood the other
    try:
        held = base64.b64decode(value, validate=True)
    except ValueError:  # no base64, or no ASCII
        return None
    if held != sent.digest or (parts and parts != str(sent.parts)):
        raise ContradictedByHead(f"CRC32 {sent.digest.hex()} was sent, and HEAD shows {shown}")
    return f"{'crc32-of-parts' if parts else 'crc32'}:{held.hex()}"
