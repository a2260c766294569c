"""Sends one large file in parts."""

import logging
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from flood.log import event
from flood.providers import Provider
from flood.states import TRANSIENT
from workers.classify import classify
from workers.lanes import Lanes, carried
from workers.s3_abort import abort, clear_leftovers
from workers.s3_client import Clients
from workers.s3_verify import confirm
from workers.source import Body, Source, Watch
from workers.transfer import Hooks, Interrupted, Measure, Receipt, Upload
from workers.verify import Sent, bare, digest_algorithm

_log = logging.getLogger(__name__)

# Limits that all providers share: AWS "Amazon S3 multipart upload limits"; Cloudflare R2 "Limits",
# which also wants all parts but the last to be equal.
MIN_PART: Final = 5 * 1024**2
MAX_PARTS: Final = 10_000
_MIB: Final = 1024**2

#: A part is worth more than one try, else a blip costs the whole file. The pauses are seconds.
PAUSES: Final = (0.2, 0.6)
_TICK: Final = 0.1
_LAST_WORDS: Final = 2.0

_Answer = TypeVar("_Answer")

# What tells this upload's object from an earlier one of the same key and size.
_MARK: Final = "flood-upload"


def part_size(size: int, wanted: int) -> int:
    """Return the size of all parts but the last: at least `wanted`, and few enough parts."""
    least = -(-size // MAX_PARTS)
    return max(wanted, MIN_PART, -(-least // _MIB) * _MIB if least > wanted else 0)


@dataclass(frozen=True)
class Part:
    """A part that the store has; `digest` is of what was sent."""

    number: int
    etag: str
    crc32: str | None
    digest: bytes


@dataclass(frozen=True)
class Multipart:
    """What the parts of one file have in common."""

    clients: Clients
    provider: Provider
    upload: Upload
    source: Source
    watch: Watch
    part_size: int
    content_type: str
    concurrency: int
    #: Is told of the bytes that were sent, as `Hooks.sending`.
    sending: Callable[[Measure], None]
    #: Tells how many parts may be under way, as `Hooks.at_most`.
    at_most: Callable[[], int]
    #: What sends the parts of an upload with this id instead of boto3. It raises as `send` does,
    #: and lets nothing read from the source once it has ended.
    carry: "Callable[[Multipart, str], list[Part]] | None" = None

    def send(self, hooks: Hooks) -> Receipt:
        """Send the file; on any failure nothing of it is left in the bucket, if it can be helped.

        Raises Interrupted, or what classify knows.
        """
        self._ask(partial(clear_leftovers, self.clients, self.upload))
        mark = secrets.token_hex(16)
        upload_id = self._ask(partial(self._create, mark))
        whole = False
        try:
            hooks.multipart_started(self.upload, upload_id)
            parts = (self.carry or Multipart._send_parts)(self, upload_id)
            sent = self._ask(partial(self._complete, upload_id, parts, mark))
            whole = True
        finally:
            self.source.close()
            gone = whole or self._abort(upload_id)
            if gone:
                _tell_ended(hooks, self.upload)
        return self._ask(partial(confirm, self.clients.main, self.provider, self.upload, sent))

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        return carried(call, self.watch.expired)

    def _names(self, upload_id: str) -> dict[str, str]:
        return {"Bucket": self.upload.bucket, "Key": self.upload.key, "UploadId": upload_id}

    def _create(self, mark: str) -> str:
        extra = {"ChecksumAlgorithm": "CRC32"} if self._checksums else {}
        answer = self.clients.main.create_multipart_upload(
            Bucket=self.upload.bucket,
            Key=self.upload.key,
            ContentType=self.content_type,
            Metadata={_MARK: mark},
            **extra,
        )
        return str(answer["UploadId"])

    @property
    def _checksums(self) -> bool:
        return self.provider.checksums == "when_supported"

    def _send_parts(self, upload_id: str) -> list[Part]:
        waiting = self._calls(upload_id)
        parts: list[Part] = []
        with Lanes[None, Part](self.concurrency, "flood-part") as lanes:
            try:
                while True:
                    while lanes.busy < min(lanes.count, self.at_most()):
                        if (call := next(waiting, None)) is None:
                            break
                        lanes.start(None, call)
                    if not lanes.busy:
                        return sorted(parts, key=lambda part: part.number)
                    finished = lanes.next(_TICK)
                    if self.watch.expired():
                        raise Interrupted
                    # What botocore has sent of a part nobody can know: it reads for signing, too.
                    self.sending(lambda: len(parts) * self.part_size)
                    if finished is None:
                        continue
                    result = finished[1]
                    if isinstance(result, BaseException):
                        raise self.source.failure or result
                    parts.append(result)
            finally:
                # Before the lanes close: parts that are under way must not read on.
                self.source.close()

    def _calls(self, upload_id: str) -> Iterator[Callable[[], Part]]:
        offsets = range(0, self.upload.size, self.part_size)
        for number, offset in enumerate(offsets, start=1):
            length = min(self.part_size, self.upload.size - offset)
            yield partial(self._send_part, upload_id, number, offset, length)

    def _send_part(self, upload_id: str, number: int, offset: int, length: int) -> Part:
        body = Body(self.source, offset, length, digest_algorithm(self.provider))
        for pause in (*PAUSES, None):
            try:
                answer = self.clients.main.upload_part(
                    **self._names(upload_id), PartNumber=number, Body=body
                )
            except Exception as error:
                if self.source.failure or pause is None or not soon(error, pause):
                    raise
                self.watch.pause(pause)
                body.seek(0)
            else:
                crc32 = answer.get("ChecksumCRC32") if self._checksums else None
                return Part(number, str(answer["ETag"]), crc32, body.digest())
        raise AssertionError  # pragma: no cover  the last turn returns or raises

    def _complete(self, upload_id: str, parts: list[Part], mark: str) -> Sent:
        """Make the parts one object; an answer that got lost is looked for in the object."""
        digest = zlib.crc32(b"".join(part.digest for part in parts)).to_bytes(4, "big")
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumCRC32": part.crc32} if part.crc32 else {})
            for part in parts
        ]
        for pause in (*PAUSES, None):
            try:
                answer = self.clients.main.complete_multipart_upload(
                    **self._names(upload_id), MultipartUpload={"Parts": listed}
                )
            except Exception as error:
                if classify(error).kind != TRANSIENT:
                    raise
                answer = self._found(mark)
                if answer is None:
                    if pause is None or not soon(error, pause):
                        raise
                    self.watch.pause(pause)
                    continue
            return Sent(bare(answer.get("ETag")), answer.get("VersionId"), digest, len(parts))
        raise AssertionError  # pragma: no cover  the last turn returns or raises

    def _found(self, mark: str) -> dict[str, Any] | None:
        """Return HEAD's answer if it shows the object of this very upload."""
        try:
            head: dict[str, Any] = self.clients.main.head_object(
                Bucket=self.upload.bucket, Key=self.upload.key
            )
        except Exception:  # noqa: BLE001  the caller has the error that matters
            return None
        return head if head.get("Metadata", {}).get(_MARK) == mark else None

    def _abort(self, upload_id: str) -> bool:
        # Where the worker is to stop, the store has a moment for it; the next attempt does it else.
        call = partial(abort, self.clients, self.upload.bucket, self.upload.key, upload_id)
        given_up = Watch(self.watch.expired, time.monotonic, _LAST_WORDS).expired
        try:
            carried(call, given_up)
        except (Exception, Interrupted) as error:  # noqa: BLE001  the reason to abort must not be hidden
            event(
                _log,
                logging.WARNING,
                "multipart upload left behind",
                record=self.upload.record_id,
                bucket=self.upload.bucket,
                key=self.upload.key,
                upload_id=upload_id,
                reason=classify(error).message,
            )
            return False
        return True


def _tell_ended(hooks: Hooks, upload: Upload) -> None:
    try:
        hooks.multipart_ended(upload)
    except Exception as error:  # noqa: BLE001  the outcome stands
        # The id stays recorded; aborting it later finds nothing, which is no error.
        event(
            _log,
            logging.ERROR,
            "end of multipart upload not recorded",
            record=upload.record_id,
            exc_info=error,
        )


def soon(error: BaseException, pause: float) -> bool:
    """Whether the same request may well succeed after so short a pause."""
    verdict = classify(error)
    return verdict.kind == TRANSIENT and (verdict.retry_after or 0.0) <= pause
