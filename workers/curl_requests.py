"""Asks for what one large file takes through libcurl."""

from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from workers.answer_limits import COMPLETION, LONGEST
from workers.answer_xml import is_page, name, readable_key, root, text
from workers.curl_connections import Connections
from workers.curl_delivery import refused, shown, stored
from workers.curl_exchange import Exchange
from workers.curl_parts import Parts
from workers.curl_store import Question, Store, query_of
from workers.failures import Unlisted, nonsense
from workers.media_type import content_type
from workers.opening import Abort
from workers.s3_multipart import MARK, Begun, Large, Part, Whole
from workers.verify import NO_ANSWER, NOT_FOUND, Shown

# A code of S3's has some tens of letters.
_LONGEST: Final = 64

_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


class CurlRequests:
    """Requests through libcurl in the file's own thread, over connections that nobody else uses
    meanwhile. `abort` removes an unfinished upload in any thread."""

    def __init__(self, store: Store, connections: Connections, large: Large, abort: Abort) -> None:
        self._store = store
        self._connections = connections
        self._large = large
        self._abort = abort
        self._key = large.upload.key

    def unfinished(self) -> list[str]:
        # The prefix holds the list to keys that begin like this one.
        query = f"uploads&prefix={quote(self._key, safe='~')}"
        exchange = self._ask(Question("ListMultipartUploads", "GET", query=query, longest=LONGEST))
        try:
            listed = root(exchange.content)
        except ParseError as error:
            raise Unlisted(f"HTTP {exchange.status}, with what is no XML: {error}") from None
        if not exchange.succeeded or name(listed) == "Error":
            raise Unlisted(f"HTTP {exchange.status} {(text(listed, 'Code') or '')[:_LONGEST]}")
        decoded = text(listed, "EncodingType") == "url"
        found = []
        for each in listed.iterfind("{*}Upload"):
            key, upload_id = text(each, "Key") or "", text(each, "UploadId")
            key = unquote_plus(key) if decoded else key
            if upload_id and key in (self._key, readable_key(self._key)):
                found.append(upload_id)
        return found

    def create(self, mark: str) -> Begun:
        headers = [f"Content-Type: {content_type(self._key)}", f"x-amz-meta-{MARK}: {mark}"]
        if self._store.has_sums:
            headers.append("x-amz-checksum-algorithm: CRC32")
        exchange = self._ask(
            Question("CreateMultipartUpload", "POST", self._key, "uploads", headers, b"")
        )
        upload_id = text(_document(exchange), "UploadId")
        if not upload_id:
            raise nonsense(exchange.host, "CreateMultipartUpload: the answer has no UploadId")
        return Begun(upload_id, exchange.twice)

    def send_parts(self, upload_id: str) -> list[Part]:
        return Parts(self._store, self._connections, self._large, upload_id).send()

    def complete(self, upload_id: str, parts: list[Part]) -> Whole:
        exchange = self._ask(
            Question(
                "CompleteMultipartUpload",
                "POST",
                self._key,
                query_of(upload_id),
                # libcurl would ask first whether the store wants a list that is so long.
                ["Content-Type: application/xml", "Expect:"],
                _listed(parts),
                longest=LONGEST,  # blanks come first, while the store works
                patience=COMPLETION,
            )
        )
        etag = text(_document(exchange), "ETag")
        return Whole(etag, exchange.answer_header("x-amz-version-id"))

    def head(self) -> Shown | int:
        exchange = self._ask(Question("HeadObject", "HEAD", self._key, headers=self._store.asked))
        if exchange.succeeded:
            return shown(exchange)._replace(
                version_id=exchange.answer_header("x-amz-version-id"),
                mark=exchange.answer_header(f"x-amz-meta-{MARK}"),
            )
        if exchange.status in (NOT_FOUND, *NO_ANSWER):
            return exchange.status
        raise refused(exchange)

    def abort(self, upload_id: str) -> None:
        self._abort(self._large.upload.bucket, self._key, upload_id)

    def _ask(self, question: Question) -> Exchange:
        bucket, given_up = self._large.upload.bucket, self._large.watch.expired
        return _answered(self._store, self._connections, bucket, question, given_up)


def abort(store: Store, connections: Connections, bucket: str, key: str, upload_id: str) -> None:
    """Remove an unfinished upload; one that is already gone is no error."""
    question = Question("AbortMultipartUpload", "DELETE", key, query_of(upload_id))
    exchange = _answered(store, connections, bucket, question, lambda: False)
    if not stored(exchange) and not _is_gone(exchange):
        raise refused(exchange)


def _answered(
    store: Store,
    connections: Connections,
    bucket: str,
    question: Question,
    given_up: Callable[[], bool],
) -> Exchange:
    """Return the exchange with its answer, that of another region where the first sends there."""
    store.check()
    exchange = connections.ask(store.ask(bucket, question), given_up)
    if not exchange.succeeded and store.moved(bucket, exchange):
        exchange = connections.ask(store.ask(bucket, question), given_up)
    return exchange


def _document(exchange: Exchange) -> Element:
    """Return the root of a successful answer's XML; raises the store's refusal."""
    try:
        found = root(exchange.content)
    except ParseError:
        # As botocore has it: it was cut off, which is the store's failure.
        raise refused(exchange) from None
    # Where the answer takes long, its success is said before anybody knows.
    if not exchange.succeeded or name(found) == "Error" or is_page(exchange.content):
        raise refused(exchange)
    return found


def _is_gone(exchange: Exchange) -> bool:
    try:
        answered = root(exchange.content)
    except ParseError:
        return False
    if name(answered):
        return text(answered, "Code") == "NoSuchUpload"
    return exchange.status == NOT_FOUND


def _listed(parts: list[Part]) -> bytes:
    """Return what CompleteMultipartUpload wants to know of the parts."""
    whole = Element("CompleteMultipartUpload", xmlns=_NAMESPACE)
    for part in parts:
        listed = SubElement(whole, "Part")
        SubElement(listed, "PartNumber").text = str(part.number)
        SubElement(listed, "ETag").text = part.etag
        if part.crc32:
            SubElement(listed, "ChecksumCRC32").text = part.crc32
    document: bytes = tostring(whole, "utf-8")
    return document
