"""Large files over a network that fails: all or nothing, and no parts left behind."""

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote

import pytest

from flood.states import PERMANENT, TRANSIENT
from tests.faults import Answer, Cut, Fault, Stall, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.uploading import (
    LARGE,
    MIB,
    MakeUploader,
    Open,
    Record,
    profile,
    send,
    transferred,
    wait_until,
)
from workers.classify import classify
from workers.leftovers import remaining
from workers.s3_answer import refusal
from workers.s3_multipart import MAX_PARTS, Patience, part_size, pauses
from workers.transfer import Hooks, Interrupted, PartEnded, Receipt, Upload, Uploader
from workers.verdict import judge

PART = r"partNumber="
CREATE = r"\?uploads"
COMPLETE = r"\?uploadId="


@pytest.fixture(params=["rclone", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def bucket(server: S3Server, bucket_name: Callable[[], str]) -> str:
    return server.make_bucket(bucket_name())


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.address) as running:
        yield running


@pytest.fixture
def uploader(make_uploader: MakeUploader, proxy: FaultProxy) -> Iterator[Uploader]:
    with closing(make_uploader(profile(proxy.url))) as made:
        yield made


@pytest.fixture
def upload(bucket: str, opened: Open) -> Upload:
    return Upload(1, bucket, "key", opened(os.urandom(LARGE)), LARGE)


@pytest.mark.parametrize("fault", [Cut("body"), Cut("stored"), Answer(503)], ids=repr)
def test_a_part_that_fails_once_is_sent_again(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload, fault: Fault
) -> None:
    proxy.inject(fault, "PUT", PART)
    assert isinstance(send(uploader, upload), Receipt)
    assert proxy.count("POST", CREATE) == 1
    assert server.read(upload.bucket, "key") == os.pread(upload.descriptor, LARGE, 0)


@pytest.mark.parametrize("times", [1, None])
def test_a_part_that_the_store_gives_no_name_is_sent_again(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    times: int | None,
) -> None:
    """The last request has to name the ETag of each part."""
    proxy.inject(Answer(200), "PUT", "partNumber=2", times=times)
    result = send(uploader, upload)
    assert proxy.count("PUT", "partNumber=2") == (2 if times else 3)
    if times:
        assert isinstance(result, Receipt)
        return
    assert isinstance(result, Exception)
    verdict = classify(result)
    assert (verdict.kind, verdict.code) == (TRANSIENT, "bad_response")
    assert "UploadPart: the answer has no ETag" in verdict.message
    assert server.unfinished(upload.bucket) == []


@pytest.mark.parametrize("request_", [CREATE, COMPLETE], ids=["create", "complete"])
@pytest.mark.parametrize("reset", [True, False])
def test_an_answer_that_is_lost_with_a_connection_that_was_used_before(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    request_: str,
    reset: bool,
) -> None:
    """Of what was begun twice one is aborted; what was done already is found to be done."""
    record = Record()
    proxy.inject(Cut("stored", reset=reset), "POST", request_)
    assert isinstance(send(uploader, upload, record), Receipt)
    assert proxy.count("POST", request_) == 2
    assert [name for name, _ in record.events] == ["started", "ended"]
    assert server.read(upload.bucket, "key") == os.pread(upload.descriptor, LARGE, 0)
    assert server.unfinished(upload.bucket) == []


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (s3_error(500, "InternalError"), TRANSIENT, 3),
        (s3_error(503, "SlowDown", Retry_After="30"), TRANSIENT, 1),
        (s3_error(403, "AccessDenied"), PERMANENT, 1),
    ],
    ids=["500", "slow", "denied"],
)
def test_a_part_that_fails_for_good_ends_the_upload(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    fault: Fault,
    kind: str,
    tries: int,
) -> None:
    record = Record()
    proxy.inject(fault, "PUT", "partNumber=2", times=None)
    result = send(uploader, upload, record)
    assert isinstance(result, Exception)
    assert classify(result).kind == kind
    assert [name for name, _ in record.events] == ["started", "ended"]
    assert proxy.count("PUT", "partNumber=2") == tries
    assert server.unfinished(upload.bucket) == []
    assert server.keys(upload.bucket) == []


def test_a_store_that_wants_a_part_later_gets_it_later(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload
) -> None:
    """Where there is the patience for it, in which the parts that the store has are worth it."""
    proxy.inject(s3_error(503, "SlowDown", Retry_After="1"), "PUT", PART)
    hooks = replace(Record().hooks(), patience=3.0)
    [(_, result)] = transferred(uploader, [upload], hooks)
    assert isinstance(result, Receipt)
    assert proxy.count("POST", CREATE) == 1
    assert server.read(upload.bucket, "key") == os.pread(upload.descriptor, LARGE, 0)


@pytest.mark.parametrize(("asked", "waited"), [(1.0, 1.0), (3600.0, 0.0)])
def test_no_part_begins_while_the_store_is_left_alone(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    asked: float,
    waited: float,
) -> None:
    """Unless that takes longer than a part is waited for: then the store may refuse it."""
    begun: list[float] = []
    began = time.monotonic()

    def begins(_under_way: int) -> PartEnded:
        begun.append(time.monotonic() - began)
        return lambda _error, _under_way: None

    def pause() -> float:
        return max(0.0, began + asked - time.monotonic())

    hooks = replace(Record().hooks(), part_begins=begins, pause=pause)
    [(_, result)] = transferred(uploader, [upload], hooks)
    assert isinstance(result, Receipt)
    assert len(begun) == proxy.count("PUT", PART)
    assert min(begun) >= waited
    assert server.read(upload.bucket, "key") == os.pread(upload.descriptor, LARGE, 0)


@pytest.mark.parametrize(
    ("patience", "wanted"),
    [(0.0, 2), (2.5, 2), (2.7, 3), (24.0, 4), (30.0, 5), (86_400.0, 5)],
)
def test_how_long_a_part_is_worth_another_try(patience: float, wanted: int) -> None:
    found = pauses(patience)
    assert found == [pytest.approx(pause) for pause in (0.2, 0.6, 1.8, 5.4, 16.2)[:wanted]]
    left = Patience(found)
    assert left.rest(PermissionError(errno.EACCES, "no")) is None
    lost = ConnectionResetError(errno.ECONNRESET, "lost")
    assert [left.rest(lost) for _ in range(wanted + 1)] == [*found, None]


@pytest.mark.parametrize(("asked", "granted"), [(7, [7.0, 7.0]), (16, [16.0]), (25, [])])
def test_what_the_store_asks_for_uses_the_patience_up(asked: int, granted: list[float]) -> None:
    """Of 24.2 seconds."""
    slow = s3_error(503, "SlowDown")
    error = refusal("UploadPart", 503, {"retry-after": str(asked)}, slow.body)
    left = Patience(pauses(30.0))
    assert [left.rest(error) for _ in granted] == granted
    assert left.rest(error) is None


def test_a_completion_that_rests_ends_with_its_worker(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload
) -> None:
    """In order: nothing of it is left in the bucket, or its id stays recorded."""
    proxy.inject(s3_error(503, "SlowDown", Retry_After="20"), "POST", COMPLETE, times=None)
    record = Record()
    hooks = replace(record.hooks(), patience=30.0)
    stopper = threading.Thread(
        target=lambda: (
            wait_until(lambda: proxy.count("POST", COMPLETE) > 0),
            record.stop.set(),
        )
    )
    stopper.start()
    began = time.monotonic()
    [(_, result)] = transferred(uploader, [upload], hooks)
    stopper.join()
    assert isinstance(result, Interrupted)
    assert time.monotonic() - began < 15.0  # five for what may end by itself, not twenty
    # A busy machine may have no time for the last words.
    ended = [name for name, _ in record.events] == ["started", "ended"]
    assert ended == (not server.unfinished(upload.bucket))


@pytest.mark.parametrize("fault", [Cut("stored"), Cut("request"), Answer(503)], ids=repr)
def test_a_completion_whose_answer_got_lost(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload, fault: Fault
) -> None:
    record = Record()
    proxy.inject(fault, "POST", COMPLETE)
    result = send(uploader, upload, record)
    assert isinstance(result, Receipt)
    assert [name for name, _ in record.events] == ["started", "ended"]
    assert proxy.count("POST", CREATE) == 1
    assert server.read(upload.bucket, "key") == os.pread(upload.descriptor, LARGE, 0)


def test_an_older_object_is_not_taken_for_the_new_one(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload
) -> None:
    old = bytes(LARGE)
    server.client.put_object(Bucket=upload.bucket, Key="key", Body=old)
    proxy.inject(s3_error(500, "InternalError"), "POST", COMPLETE, times=None)
    result = send(uploader, upload)
    assert isinstance(result, Exception)
    assert classify(result).kind == TRANSIENT
    assert server.read(upload.bucket, "key") == old
    assert server.unfinished(upload.bucket) == []


@pytest.mark.parametrize(("times", "stays"), [(1, False), (2, True)])
def test_what_was_begun_twice_is_aborted_twice_if_need_be(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
    times: int,
    stays: bool,
) -> None:
    record = Record()
    proxy.inject(Cut("stored"), "POST", CREATE)
    proxy.inject(s3_error(500, "InternalError"), "DELETE", times=times)
    with caplog.at_level(logging.WARNING):
        assert isinstance(send(uploader, upload, record), Receipt)
    left = server.unfinished(upload.bucket)
    assert len(left) == stays
    assert told_left(caplog) == left
    assert [name for name, _ in record.events[:2]] == ["started", "ended"]
    assert record.events[2:] == [("started", each) for each in left], "sweeps go on with it"


def test_what_cannot_be_aborted_keeps_nothing_else(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is it told of each time."""
    begun = [
        server.client.create_multipart_upload(Bucket=upload.bucket, Key="key")["UploadId"]
        for _ in range(3)
    ]
    listed = server.unfinished(upload.bucket)
    assert sorted(listed) == sorted(begun)
    denied = f"uploadId={re.escape(quote(listed[0], safe='~'))}$"
    proxy.inject(s3_error(403, "AccessDenied"), "DELETE", denied, times=None)
    record = Record()
    hooks = record.hooks()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            [(_, result)] = transferred(uploader, [upload], hooks)
            assert isinstance(result, Receipt)
            assert server.unfinished(upload.bucket) == listed[:1]
    assert told_left(caplog) == listed[:1]
    assert [name for name, _ in record.events] == ["started", "ended"] * 2, "sweeps may not either"


def told_left(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.facts["upload_id"]  # type: ignore[attr-defined]  # flood.log
        for each in caplog.records
        if each.getMessage() == "multipart upload left behind"
    ]


def test_a_store_that_hangs_is_not_waited_for_again() -> None:
    """Whoever has given up asks for none of the others."""
    asked: list[str] = []

    def hang(upload_id: str) -> None:
        asked.append(upload_id)
        raise TimeoutError

    assert list(remaining(hang, ["a", "b"], lambda: False)) == ["a", "b"] == asked
    assert list(remaining(hang, ["c", "d"], lambda: asked[-1] == "c")) == ["c", "d"]
    assert asked == ["a", "b", "c"]


def test_a_store_that_hangs_has_told_nobody_to_stop() -> None:
    ended = threading.Event()
    left = remaining(lambda _: bool(ended.wait(10)), ["a", "b"], lambda: False, 0.2)
    assert [judge(error).code for error in left.values()] == ["read_timeout"] * 2
    stopped = remaining(lambda _: bool(ended.wait(10)), ["a"], lambda: True, 0.2)
    assert [judge(error).code for error in stopped.values()] == ["interrupted"]
    ended.set()


def test_an_abort_that_fails_is_told(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = Record()
    proxy.inject(s3_error(403, "AccessDenied"), "PUT", PART, times=None)
    proxy.inject(Answer(500), "DELETE", times=None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(send(uploader, upload, record), Exception)
    assert [name for name, _ in record.events] == ["started"], "it stays recorded"
    upload_id = record.events[0][1]
    assert server.unfinished(upload.bucket) == [upload_id]
    assert told_left(caplog) == [upload_id]


def test_what_cannot_be_recorded_is_not_begun(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("the database is locked")

    hooks = Hooks(lambda: False, refuse, lambda _: None)
    [(_, result)] = transferred(uploader, [upload], hooks)
    assert isinstance(result, RuntimeError)
    assert proxy.count("PUT", PART) == 0
    assert server.unfinished(upload.bucket) == []


def test_an_end_that_cannot_be_recorded_spoils_nothing(
    uploader: Uploader, upload: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("the database is locked")

    hooks = Hooks(lambda: False, lambda *_: None, refuse)
    [(_, result)] = transferred(uploader, [upload], hooks)
    assert isinstance(result, Receipt)
    assert "not recorded" in caplog.text


@pytest.mark.parametrize(
    ("status", "code", "recorded"), [(403, "AccessDenied", ["ended"]), (500, "InternalError", [])]
)
def test_earlier_parts_that_cannot_be_removed_stop_no_small_file(
    uploader: Uploader,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str,
    recorded: list[str],
) -> None:
    """Sweeps go on with what is recorded, and may not either where it is forbidden."""
    proxy.inject(s3_error(status, code), "DELETE")
    upload = Upload(1, bucket, "key", opened(b"data"), 4, multipart_upload_id="old")
    record = Record()
    with caplog.at_level(logging.WARNING):
        assert isinstance(send(uploader, upload, record), Receipt)
    assert told_left(caplog) == ["old"]
    assert [name for name, _ in record.events] == recorded


@pytest.mark.parametrize(("times", "stays"), [(1, False), (None, True)])
@pytest.mark.parametrize("sent", [True, False])
def test_earlier_parts_that_cannot_be_removed_now_are_tried_again(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    caplog: pytest.LogCaptureFixture,
    times: int | None,
    stays: bool,
    sent: bool,
) -> None:
    """The file goes on; what stays after that is recorded anew, whatever came of the file."""
    old = server.client.create_multipart_upload(Bucket=upload.bucket, Key="key")["UploadId"]
    fault = s3_error(500, "InternalError")
    proxy.inject(fault, "DELETE", f"uploadId={re.escape(quote(old, safe='~'))}$", times=times)
    if not sent:
        proxy.inject(s3_error(403, "AccessDenied"), "PUT", PART, times=None)
    record = Record()
    with caplog.at_level(logging.INFO):
        result = send(uploader, upload._replace(multipart_upload_id=old), record)
    assert isinstance(result, Receipt) == sent
    assert server.unfinished(upload.bucket) == [old] * stays
    assert [name for name, _ in record.events[:2]] == ["started", "ended"]
    assert record.events[2:] == [("started", old)] * stays
    assert told_left(caplog) == [old] * stays
    reasons = {
        each.facts["reason"]  # type: ignore[attr-defined]  # flood.log
        for each in caplog.records
        if each.getMessage().startswith("multipart upload")
    }
    # The file is not what "it is tried again" would be true of.
    assert reasons == {"the store failed (InternalError)"}


def test_earlier_parts_that_hang_keep_nobody_waiting(
    server: S3Server, proxy: FaultProxy, make_uploader: MakeUploader, upload: Upload
) -> None:
    old = server.client.create_multipart_upload(Bucket=upload.bucket, Key="key")["UploadId"]
    proxy.inject(Stall("request"), "DELETE", times=None)
    with closing(make_uploader(profile(proxy.url), read_timeout=0.5)) as uploader:
        result = send(uploader, upload._replace(multipart_upload_id=old))
    assert isinstance(result, Receipt)
    assert proxy.count("DELETE") == 2


@pytest.mark.parametrize(
    ("answer", "kind", "code", "tries"),
    [
        (s3_error(200, "InternalError"), TRANSIENT, "InternalError", 3),
        (s3_error(200, "AccessDenied"), PERMANENT, "AccessDenied", 1),
        (
            Answer(200, b" " * 100_000 + b"<Error><Code>SlowDown</Code></Error>"),
            TRANSIENT,
            "SlowDown",
            3,
        ),
        (Answer(200, b"<CompleteMultipartUploadResult><ETag>"), TRANSIENT, "http_500", 3),
        (Answer(200, b"It works!"), TRANSIENT, "http_500", 3),
    ],
    ids=["internal", "denied", "blanks first", "cut off", "no XML"],
)
def test_a_completion_that_begins_as_a_success(
    server: S3Server,
    uploader: Uploader,
    proxy: FaultProxy,
    upload: Upload,
    answer: Answer,
    kind: str,
    code: str,
    tries: int,
) -> None:
    """Amazon says so before it knows."""
    proxy.inject(answer, "POST", COMPLETE, times=None)
    result = send(uploader, upload)
    assert isinstance(result, Exception), result
    assert (classify(result).kind, classify(result).code) == (kind, code)
    assert proxy.count("POST", COMPLETE) == tries
    assert server.keys(upload.bucket) == []
    assert server.unfinished(upload.bucket) == []


@pytest.mark.parametrize("body", [b"", b"<html><p>Welcome</p></html>"], ids=["empty", "a page"])
def test_a_completion_that_did_nothing_leaves_nothing(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, upload: Upload, body: bytes
) -> None:
    """As a gateway may answer that does not know the request."""
    record = Record()
    proxy.inject(Answer(200, body), "POST", COMPLETE, times=None)
    result = send(uploader, upload, record)
    assert isinstance(result, Exception), result
    assert classify(result).kind == TRANSIENT
    assert [name for name, _ in record.events] == ["started", "ended"]
    assert server.keys(upload.bucket) == []
    assert server.unfinished(upload.bucket) == []


@pytest.mark.parametrize("body", [b"", b"<R/>", b"<R><UploadId/></R>"])
def test_an_upload_without_an_id_is_not_begun(
    uploader: Uploader, proxy: FaultProxy, upload: Upload, body: bytes
) -> None:
    record = Record()
    proxy.inject(Answer(200, body), "POST", CREATE)
    result = send(uploader, upload, record)
    assert isinstance(result, Exception)
    verdict = classify(result)
    assert (verdict.kind, verdict.code) == (TRANSIENT, "bad_response")
    assert "makes no sense" in verdict.message
    assert record.events == []
    assert proxy.count("PUT", PART) == 0


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(403, "AccessDenied"),
        s3_error(200, "AccessDenied"),
        Answer(501),
        Answer(200, b"<html><p>Welcome"),
        Answer(200, b"<R><Upload/><Upload><Key>key</Key></Upload></R>"),
    ],
    ids=["denied", "denied late", "unknown", "no XML", "incomplete"],
)
def test_leftovers_that_the_store_does_not_list_stop_nothing(
    uploader: Uploader, proxy: FaultProxy, upload: Upload, answer: Answer
) -> None:
    proxy.inject(answer, "GET", CREATE)
    assert isinstance(send(uploader, upload), Receipt)
    assert proxy.count("GET", CREATE) == 1


@pytest.mark.parametrize("answer", [s3_error(404, "NoSuchUpload"), Answer(404)])
def test_an_upload_that_is_gone_needs_no_abort(
    uploader: Uploader, proxy: FaultProxy, bucket: str, answer: Answer
) -> None:
    proxy.inject(answer, "DELETE")
    uploader.abort_multipart(bucket, "key", "old")
    proxy.inject(s3_error(404, "NoSuchBucket"), "DELETE")
    with pytest.raises(Exception) as caught:  # noqa: PT011  each library has its own
        uploader.abort_multipart(bucket, "key", "old")
    assert classify(caught.value).code == "NoSuchBucket"


@pytest.mark.parametrize("key", ["a\x01b", "&#1;"])
def test_a_key_that_no_xml_can_name_leaves_no_parts_either(
    server: S3Server, uploader: Uploader, proxy: FaultProxy, bucket: str, opened: Open, key: str
) -> None:
    data = os.urandom(LARGE)
    upload = Upload(1, bucket, key, opened(data), LARGE)
    proxy.inject(s3_error(403, "AccessDenied"), "PUT", PART)
    assert isinstance(send(uploader, upload), Exception)
    assert server.unfinished(bucket) == []
    assert isinstance(send(uploader, upload), Receipt)
    assert server.read(bucket, key) == data


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        (10 * MIB, 8 * MIB, 8 * MIB),
        (10 * MIB, 1 * MIB, 5 * MIB),
        (MAX_PARTS * 8 * MIB, 8 * MIB, 8 * MIB),
        (MAX_PARTS * 8 * MIB + 1, 8 * MIB, 9 * MIB),
        (5 * 1024**4, 8 * MIB, 525 * MIB),
    ],
)
def test_parts_grow_with_the_file(size: int, wanted: int, expected: int) -> None:
    assert part_size(size, wanted) == expected
    assert -(-size // expected) <= MAX_PARTS
