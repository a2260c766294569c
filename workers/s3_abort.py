"""Removes unfinished multipart uploads."""

import logging
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from flood.log import event
from workers.classify import classify
from workers.s3_client import Clients, readable
from workers.transfer import Upload

_log = logging.getLogger(__name__)


def abort(clients: Clients, bucket: str, key: str, upload_id: str) -> None:
    """Remove an unfinished upload; one that is already gone is no error."""
    try:
        clients.short.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchUpload", "404"):
            raise


def clear_leftovers(clients: Clients, upload: Upload) -> None:
    """Abort unfinished uploads of exactly this key.

    A process that died before it could record an id leaves one. A store that does not list them
    is no reason to fail.
    """
    try:
        answer = clients.main.list_multipart_uploads(Bucket=upload.bucket, Prefix=upload.key)
        for each in answer.get("Uploads", ()):
            decoded = answer.get("EncodingType") == "url"
            key = unquote_plus(each["Key"]) if decoded else each["Key"]
            # The prefix has held it to keys that begin like this one.
            if key in (upload.key, readable(upload.key)):
                abort(clients, upload.bucket, upload.key, each["UploadId"])
    except Exception as error:  # noqa: BLE001  see above
        event(
            _log,
            logging.DEBUG,
            "multipart uploads not listed",
            record=upload.record_id,
            bucket=upload.bucket,
            key=upload.key,
            reason=classify(error).message,
        )
