"""One small file's way: PUT, then HEAD."""

from typing import Final

from workers.answer_xml import is_page
from workers.curl_exchange import Exchange
from workers.curl_payload import Loader
from workers.curl_store import Store
from workers.failures import not_s3
from workers.late import late
from workers.media_type import content_type
from workers.source import Source
from workers.transfer import Receipt, Upload
from workers.verify import (
    NO_ANSWER,
    Sent,
    Shown,
    bare,
    check_put,
    digest_algorithm,
    missing,
    unverified,
    verified,
)

_NOT_FOUND: Final = 404
_SERVER_ERROR: Final = 500

# So much of an answer is looked at for an error; nothing else has a reason to be there.
_BEGINNING: Final = 1024


def refused(exchange: Exchange) -> Exception:
    """Return what boto3 would raise for an answer that is no success."""
    with late():
        from workers.s3_answer import refusal
    headers, content = exchange.answer_headers(), exchange.content
    if exchange.succeeded and is_page(content):
        return not_s3(exchange.host)
    # As botocore has it: a status of success with an error in the body is the store's failure.
    status = _SERVER_ERROR if exchange.succeeded else exchange.status
    return refusal(exchange.operation, status, headers, content.strip())


def stored(exchange: Exchange) -> bool:
    """Whether a body was taken: some stores begin an answer of success, then fail."""
    content = exchange.content
    return exchange.succeeded and b"<Error" not in content[:_BEGINNING] and not is_page(content)


def shown(exchange: Exchange) -> Shown:
    """Return what an answer to HEAD shows."""
    length = exchange.answer_header("content-length") or ""
    return Shown(
        int(length) if length.isdecimal() else None,
        bare(exchange.answer_header("etag")),
        exchange.answer_header("x-amz-checksum-crc32"),
    )


class Delivery:
    """An upload that is under way. `source` is closed by whoever made it."""

    def __init__(self, store: Store, upload: Upload, source: Source) -> None:
        self.upload = upload
        self.source = source
        self._store = store
        self._sent: Sent | None = None
        self._missed = False
        self._moved = False

    def begin(self, limit: int) -> Exchange:
        """Return the PUT; up to `limit` bytes of body are held in memory.

        Raises what the source raises, or ConfigError.
        """
        upload = self.upload
        self._store.check()
        signed = self._store.is_signed(upload.bucket)
        loader = Loader(digest_algorithm(self._store.provider), signed)
        if upload.size <= limit:
            self._payload = loader.whole(self.source, upload.size)
        else:
            self._payload = loader.streamed(self.source, 0, upload.size)
        return self._put()

    def _put(self) -> Exchange:
        upload, media_type = self.upload, content_type(self.upload.key)
        return self._store.put(upload.bucket, upload.key, media_type, self._payload)

    def go_on(self, exchange: Exchange) -> Exchange | Receipt:
        """Return what comes after this answer: another request, or the receipt.

        Raises the source's failure, the exchange's, ContradictedByHead, or the store's refusal as
        boto3 would raise it.
        """
        if exchange.failure is not None:
            raise self.source.failure or exchange.failure
        if self._sent is None:
            return self._stored(exchange)
        return self._seen(exchange, self._sent)

    def is_taken(self) -> bool:
        """Whether the store has said that it has all of the file."""
        return self._sent is not None

    def _stored(self, exchange: Exchange) -> Exchange:
        upload = self.upload
        if not stored(exchange):
            if self._moved or not self._store.moved(upload.bucket, exchange):
                raise refused(exchange)
            self._moved = True
            self._payload.rewind()
            return self._put()
        etag, version = (exchange.answer_header(name) for name in ("etag", "x-amz-version-id"))
        self._sent = Sent(bare(etag), version, self._payload.digest())
        check_put(self._store.provider, self._sent)
        return self._store.head(exchange)

    def _seen(self, exchange: Exchange, sent: Sent) -> Exchange | Receipt:
        upload, status = self.upload, exchange.status
        if exchange.succeeded:
            return verified(self._store.provider, upload, sent, shown(exchange))
        if status in NO_ANSWER:
            return unverified(upload, sent, NO_ANSWER[status])
        if status != _NOT_FOUND:
            raise refused(exchange)
        if self._missed:
            raise missing()
        self._missed = True
        return self._store.head(exchange)
