"""What flood must know of each provider of S3-compatible storage, as one table."""

from dataclasses import dataclass
from typing import Final, Literal

Checksums = Literal["when_supported", "when_required"]


@dataclass(frozen=True)
class Provider:
    """One provider's rules; `workers.s3` turns them into client settings.

    `required` names the keys that a profile of this provider must have. Time-outs are seconds and
    stand where the user set none.
    """

    name: str
    required: tuple[str, ...]
    #: The value to suggest where AWS_REGION is missing.
    region_hint: str | None
    #: A regular expression whose group 1 is the region in the endpoint's host name, if it has one.
    region_in_host: str | None
    addressing_style: Literal["auto", "path"]
    checksums: Checksums
    #: Whether `Expect: 100-continue` may be sent. A server that never answers it costs one second
    #: a request (botocore's wait).
    expect_continue: bool
    #: Whether a single PUT's ETag is the body's MD5, when the object is not encrypted with KMS.
    etag_is_md5: bool
    #: Whether HEAD may ask for the stored checksum (`x-amz-checksum-mode`).
    checksum_on_head: bool
    #: Keys are stored in Unicode normal form C: two names that differ only in form are one object.
    normalizes_keys: bool
    #: The largest body of one PUT, and of one part, in bytes.
    max_put: int
    connect_timeout: float
    read_timeout: float


_GIB: Final = 1024**3
_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
_KEYS_AND_ENDPOINT: Final = (*_KEYS, "AWS_ENDPOINT")

# Sources: AWS "Data integrity protections" and "Uploading objects"; Cloudflare R2 "S3 API
# compatibility", "Limits", "Unicode interoperability" and "Extensions" (no 100-continue);
# Backblaze "Introduction to the S3-Compatible API" (x-amz-checksum-* is not accepted, single PUT
# up to 5 GB). connect_timeout also bounds every blocking write of a body, so a short one would
# cut slow uplinks.
PROVIDERS: Final[dict[str, Provider]] = {
    provider.name: provider
    for provider in (
        Provider(
            name="amazon",
            required=_KEYS,
            region_hint=None,
            region_in_host=None,
            addressing_style="auto",
            checksums="when_supported",
            expect_continue=True,
            etag_is_md5=False,  # not with SSE-KMS, which a bucket may have by default
            checksum_on_head=True,
            normalizes_keys=False,
            max_put=5 * _GIB,
            connect_timeout=30.0,
            read_timeout=60.0,
        ),
        Provider(
            name="cloudflare",
            required=_KEYS_AND_ENDPOINT,
            region_hint="auto",
            region_in_host=None,
            addressing_style="path",
            checksums="when_required",
            expect_continue=False,
            etag_is_md5=True,
            checksum_on_head=False,
            normalizes_keys=True,
            max_put=5 * _GIB - 5 * 1024**2,
            connect_timeout=30.0,
            read_timeout=60.0,
        ),
        Provider(
            name="backblaze",
            required=_KEYS_AND_ENDPOINT,
            region_hint=None,
            region_in_host=r"^s3\.([a-z0-9-]+)\.backblazeb2\.com$",
            addressing_style="path",
            checksums="when_required",
            expect_continue=True,
            etag_is_md5=False,  # true in practice, promised nowhere
            checksum_on_head=False,
            normalizes_keys=False,
            max_put=5_000_000_000,
            connect_timeout=30.0,
            read_timeout=120.0,
        ),
        Provider(
            name="s3",
            required=_KEYS_AND_ENDPOINT,
            region_hint=None,
            region_in_host=None,
            addressing_style="path",
            checksums="when_required",
            expect_continue=False,
            etag_is_md5=False,
            checksum_on_head=False,
            normalizes_keys=False,
            max_put=5 * _GIB,
            connect_timeout=30.0,
            read_timeout=60.0,
        ),
    )
}
