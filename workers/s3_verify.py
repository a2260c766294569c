"""Asks HEAD for what was uploaded, through boto3."""

from typing import Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from flood.providers import Provider
from workers.transfer import Receipt, Upload
from workers.verify import (
    NO_ANSWER,
    Sent,
    Shown,
    bare,
    check_put,
    missing,
    unverified,
    verified,
)


def confirm(client: Any, provider: Provider, upload: Upload, sent: Sent) -> Receipt:
    """Ask HEAD for the object; return the receipt.

    Raises ContradictedByHead if the store shows another size or digest, or no object even when
    asked twice; ResponseParserError if its answer makes no sense. A store or an access key that
    does not allow HEAD is no failure.
    """
    check_put(provider, sent)
    question = {"Bucket": upload.bucket, "Key": upload.key}
    if provider.checksum_on_head:
        question["ChecksumMode"] = "ENABLED"
    for last in (False, True):
        try:
            head = client.head_object(**question)
        except ClientError as error:
            # HEAD has no body, so its codes are statuses.
            code = error.response["Error"]["Code"]
            if code.isdecimal() and int(code) in NO_ANSWER:
                return unverified(upload, sent, NO_ANSWER[int(code)])
            if code not in ("404", "NoSuchKey", "NotFound"):
                raise
            if last:
                raise missing() from None
        except ValueError as error:
            # botocore takes whatever the store says for the size's digits.
            raise ResponseParserError(f"HeadObject: {error}") from error
        else:
            shown = Shown(
                head.get("ContentLength"), bare(head.get("ETag")), head.get("ChecksumCRC32")
            )
            return verified(provider, upload, sent, shown)
    raise AssertionError  # pragma: no cover  the second turn returns or raises
