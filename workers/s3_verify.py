"""Compares what a store holds after an upload with what was sent."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from flood.providers import Provider
from workers.failures import ContradictedByHead
from workers.source import Algorithm
from workers.transfer import Receipt, Upload

# HEAD has no body, so its codes are statuses. These mean that the store, or this access key, does
# not know the question; the upload itself was confirmed.
_NO_ANSWER: Final = {
    "400": "the store does not understand HEAD (400)",
    "401": "this access key may not read (401)",
    "403": "this access key may not read (403)",
    "405": "the store does not allow HEAD (405)",
    "501": "the store does not implement HEAD (501)",
}
_MD5: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Sent:
    """What the store said to an upload, beside the digest of the bytes that were sent.

    `parts` is 0 for a single PUT, else `digest` is that of the parts' digests one after the other.
    """

    etag: str | None
    version_id: str | None
    digest: bytes
    parts: int = 0


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


def confirm(client: Any, provider: Provider, upload: Upload, sent: Sent) -> Receipt:
    """Ask HEAD for the object; return the receipt.

    Raises ContradictedByHead if the store shows another size or digest, or no object even when
    asked twice. A store or an access key that does not allow HEAD is no failure.
    """
    if provider.etag_is_md5 and not sent.parts:
        _compare_etag(sent.etag, sent.digest, "PUT")
    question = {"Bucket": upload.bucket, "Key": upload.key}
    if provider.checksum_on_head:
        question["ChecksumMode"] = "ENABLED"
    head, silence = _head(client, question)
    if head is None:
        return Receipt(sent.etag, sent.version_id, None, upload.size, unverified=silence)
    if head.get("ContentLength") != upload.size:
        raise ContradictedByHead(
            f"{upload.size} bytes were sent, and HEAD shows {head.get('ContentLength')}"
        )
    checksum = _compare_digest(provider, head, sent)
    return Receipt(sent.etag, sent.version_id, checksum, upload.size)


def _head(client: Any, question: dict[str, str]) -> tuple[dict[str, Any] | None, str | None]:
    """Return the answer, or None with the reason why there is none."""
    for last in (False, True):
        try:
            return client.head_object(**question), None
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _NO_ANSWER:
                return None, _NO_ANSWER[code]
            if code not in ("404", "NoSuchKey", "NotFound"):
                raise
            if last:
                raise ContradictedByHead(
                    "the store confirmed the upload, and HEAD finds no object"
                ) from None
    raise AssertionError  # pragma: no cover  the second turn returns or raises


def _compare_digest(provider: Provider, head: dict[str, Any], sent: Sent) -> str | None:
    """Return `algorithm:hexadecimal` of what was compared, None if there is nothing to compare."""
    if provider.checksum_on_head:
        return _compare_crc32(head.get("ChecksumCRC32"), sent)
    if provider.etag_is_md5 and not sent.parts:
        return _compare_etag(bare(head.get("ETag")), sent.digest, "HEAD")
    return None


def _compare_etag(etag: str | None, digest: bytes, method: str) -> str | None:
    if etag is None or not _MD5.fullmatch(etag):
        return None
    if etag != digest.hex():
        raise ContradictedByHead(f"MD5 {digest.hex()} was sent, and {method} shows {etag}")
    return f"md5:{etag}"


def _compare_crc32(shown: object, sent: Sent) -> str | None:
    if not isinstance(shown, str):
        return None
    value, _, parts = shown.partition("-")
    if bool(parts) != bool(sent.parts):
        return None  # the store computed the one kind, flood the other
    try:
        held = base64.b64decode(value, validate=True)
    except binascii.Error:
        return None
    if held != sent.digest or (parts and parts != str(sent.parts)):
        raise ContradictedByHead(f"CRC32 {sent.digest.hex()} was sent, and HEAD shows {shown}")
    return f"{'crc32-of-parts' if parts else 'crc32'}:{held.hex()}"
