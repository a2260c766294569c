"""Asks for what one large file takes through boto3."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from flood.providers import Provider
from workers.answer_xml import readable_key
from workers.classify import classify
from workers.failures import NotS3, Unlisted
from workers.lanes import carried
from workers.media_type import content_type
from workers.s3_client import Clients
from workers.s3_head import head
from workers.s3_multipart import MARK, Begun, Large, Part, Whole
from workers.s3_parts import Parts
from workers.verify import Shown

_Answer = TypeVar("_Answer")


class S3Requests:
    """Requests through boto3, each in a thread that is left to itself where the file is given
    up."""

    def __init__(
        self, clients: Clients, provider: Provider, large: Large, concurrency: int
    ) -> None:
        self._clients = clients
        self._provider = provider
        self._large = large
        self._concurrency = concurrency
        self._names = {"Bucket": large.upload.bucket, "Key": large.upload.key}
        self._sums = provider.checksums == "when_supported"

    def unfinished(self) -> list[str]:
        upload = self._large.upload
        ask = partial(
            self._clients.main.list_multipart_uploads, Bucket=upload.bucket, Prefix=upload.key
        )
        try:
            answer = self._ask(ask)
        except (ClientError, NotS3) as error:
            raise Unlisted(classify(error).message) from error
        decoded = answer.get("EncodingType") == "url"
        shown = [
            (unquote_plus(each["Key"]) if decoded else each["Key"], each["UploadId"])
            for each in answer.get("Uploads", ())
        ]
        # The prefix has held it to keys that begin like this one.
        return [each for key, each in shown if key in (upload.key, readable_key(upload.key))]

    def create(self, mark: str) -> Begun:
        extra = {"ChecksumAlgorithm": "CRC32"} if self._sums else {}
        ask = partial(
            self._clients.main.create_multipart_upload,
            **self._names,
            ContentType=content_type(self._large.upload.key),
            Metadata={MARK: mark},
            **extra,
        )
        answer = self._ask(ask)
        upload_id = answer.get("UploadId")
        if not upload_id:
            raise ResponseParserError("CreateMultipartUpload: the answer has no UploadId")
        return Begun(str(upload_id), twice=answer["ResponseMetadata"]["RetryAttempts"] > 0)

    def send_parts(self, upload_id: str) -> list[Part]:
        parts = Parts(self._clients, self._provider, self._large, upload_id)
        return parts.send(self._concurrency)

    def complete(self, upload_id: str, parts: list[Part]) -> Whole:
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumCRC32": part.crc32} if part.crc32 else {})
            for part in parts
        ]
        ask = partial(
            self._clients.main.complete_multipart_upload,
            **self._names,
            UploadId=upload_id,
            MultipartUpload={"Parts": listed},
        )
        answer = self._ask(ask)
        return Whole(answer.get("ETag"), answer.get("VersionId"))

    def head(self) -> Shown | int:
        return self._ask(partial(head, self._clients.main, self._provider, self._large.upload))

    def abort(self, upload_id: str) -> None:
        abort(self._clients, self._large.upload.bucket, self._large.upload.key, upload_id)

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        return carried(call, self._large.watch.expired)


def abort(clients: Clients, bucket: str, key: str, upload_id: str) -> None:
    """Remove an unfinished upload; one that is already gone is no error."""
    try:
        clients.short.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if error.response["Error"].get("Code", "") not in ("NoSuchUpload", "404"):
            raise
