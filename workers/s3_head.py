"""Asks HEAD for what was uploaded, through boto3."""

from typing import Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from flood.providers import Provider
from workers.s3_multipart import MARK
from workers.transfer import Upload
from workers.verify import NO_ANSWER, NOT_FOUND, Shown, bare


def head(client: Any, provider: Provider, upload: Upload) -> Shown | int:
    """Return what HEAD shows, or the status of an answer that shows nothing: NOT_FOUND, or one of
    NO_ANSWER.

    Raises what the client raises; ResponseParserError if the answer makes no sense.
    """
    question = {"Bucket": upload.bucket, "Key": upload.key}
    if provider.checksum_on_head:
        question["ChecksumMode"] = "ENABLED"
    try:
        answer = client.head_object(**question)
    except ClientError as error:
        # HEAD has no body, so its codes are statuses.
        code = error.response["Error"]["Code"]
        if code in ("NoSuchKey", "NotFound"):
            return NOT_FOUND
        if code.isdecimal() and int(code) in (NOT_FOUND, *NO_ANSWER):
            return int(code)
        raise
    except ValueError as error:
        # botocore takes whatever the store says for the size's digits.
        raise ResponseParserError(f"HeadObject: {error}") from error
    # Names of headers are the same in all letters, and some stores have their own.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    return Shown(
        answer.get("ContentLength"),
        bare(answer.get("ETag")),
        answer.get("ChecksumCRC32"),
        answer.get("VersionId"),
        metadata.get(MARK),
    )
