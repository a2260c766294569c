"""Transfers that are told to stop, or whose caller goes away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.faults import Pass, Stall
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.uploading import (
    LARGE,
    MakeUploader,
    Open,
    Record,
    flood_threads,
    profile,
    send,
    transferred,
    wait_until,
)
from workers.source import GRACE
from workers.transfer import Hooks, Interrupted, Receipt, Upload


@pytest.fixture
def bucket(rclone_server: S3Server, bucket_name: Callable[[], str]) -> str:
    return rclone_server.make_bucket(bucket_name())


@pytest.fixture
def proxy(rclone_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address) as running:
        yield running


class LeapingClock:
    """The grace is over as soon as somebody looks for the second time after the stop."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._leap = 0.0

    def __call__(self) -> float:
        if self._stop.is_set():
            self._leap += GRACE
        return time.monotonic() + self._leap


def stop_during(record: Record, proxy: FaultProxy, method: str, path: str = "") -> None:
    """Tell the worker to stop once such a request has reached the proxy."""

    def wait() -> None:
        wait_until(lambda: proxy.count(method, path) > 0)
        record.stop.set()

    threading.Thread(target=wait, daemon=True).start()


def test_what_is_short_may_finish(
    make_uploader: MakeUploader, proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    record = Record()
    proxy.inject(Stall("stored", seconds=0.5), "PUT")
    with closing(make_uploader(profile(proxy.url), concurrency=1)) as uploader:
        stop_during(record, proxy, "PUT")
        uploads = [Upload(n, bucket, f"key-{n}", opened(b"data"), 4) for n in range(2)]
        outcomes = dict(transferred(uploader, uploads, record.hooks()))
    assert isinstance(outcomes[uploads[0]], Receipt)
    assert isinstance(outcomes[uploads[1]], Interrupted)


@pytest.mark.parametrize("size", [4 * 1024**2, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("stage", ["sending", "waiting"])
def test_what_takes_too_long_is_interrupted(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    size: int,
    stage: str,
) -> None:
    record = Record()
    fault = Pass(bytes_per_second=1024**2) if stage == "sending" else Stall("request")
    proxy.inject(fault, "PUT", times=None)
    used = profile(proxy.url)
    with closing(make_uploader(used, clock=LeapingClock(record.stop))) as uploader:
        upload = Upload(1, bucket, "key", opened(bytes(size)), size)
        stop_during(record, proxy, "PUT")
        began = time.monotonic()
        result = send(uploader, upload, record)
        assert isinstance(result, Interrupted)
        assert time.monotonic() - began < 4 * GRACE  # the stall takes a minute
    proxy.down()
    wait_until(lambda: not flood_threads())
    assert [name for name, _ in record.events] in ([], ["started", "ended"])
    assert rclone_server.keys(bucket) == []
    assert rclone_server.unfinished(bucket) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "uploads"),  # what an earlier attempt left
        ("POST", r"\?uploads"),
        ("POST", "uploadId"),
        ("HEAD", ""),
    ],
    ids=["leftovers", "create", "complete", "head"],
)
def test_no_request_of_a_large_file_holds_a_stop_up(
    make_uploader: MakeUploader,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    method: str,
    path: str,
) -> None:
    record = Record()
    proxy.inject(Stall("request"), method, path, times=None)
    with closing(make_uploader(profile(proxy.url), clock=LeapingClock(record.stop))) as uploader:
        upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE)
        stop_during(record, proxy, method, path)
        began = time.monotonic()
        assert isinstance(send(uploader, upload, record), Interrupted)
        assert time.monotonic() - began < 15.0
    proxy.down()
    wait_until(lambda: not flood_threads())


def test_nothing_is_begun_after_a_stop_that_comes_while_leftovers_are_aborted(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
) -> None:
    record = Record()
    rclone_server.client.create_multipart_upload(Bucket=bucket, Key="key")
    proxy.inject(Stall("request"), "DELETE", times=None)
    with closing(make_uploader(profile(proxy.url), clock=LeapingClock(record.stop))) as uploader:
        upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE)
        stop_during(record, proxy, "DELETE")
        assert isinstance(send(uploader, upload, record), Interrupted)
    proxy.down()
    assert proxy.count("DELETE") == 1
    assert proxy.count("POST") == 0


def test_a_store_that_hangs_when_a_stopped_upload_is_aborted(
    make_uploader: MakeUploader, proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    """The next attempt aborts it, as its id stays recorded."""
    record = Record()
    proxy.inject(Stall("request"), "PUT", times=None)
    proxy.inject(Stall("request"), "DELETE", times=None)
    with closing(make_uploader(profile(proxy.url), clock=LeapingClock(record.stop))) as uploader:
        upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE)
        stop_during(record, proxy, "PUT")
        began = time.monotonic()
        assert isinstance(send(uploader, upload, record), Interrupted)
        assert time.monotonic() - began < 15.0
    proxy.down()
    assert [name for name, _ in record.events] == ["started"]


@pytest.mark.parametrize("size", [4, LARGE], ids=["small", "large"])
def test_the_callers_own_interrupt_goes_through(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    size: int,
) -> None:
    caller = threading.current_thread()

    def interrupted() -> bool:
        if threading.current_thread() is caller and proxy.count("PUT"):
            raise KeyboardInterrupt
        return False

    proxy.inject(Stall("request"), "PUT", times=None)
    with closing(make_uploader(profile(proxy.url))) as uploader:
        hooks = Hooks(interrupted, lambda *_: None, lambda _: None)
        upload = Upload(1, bucket, "key", opened(bytes(size)), size)
        with pytest.raises(KeyboardInterrupt):
            list(transferred(uploader, [upload], hooks))
    # The upload is aborted by a thread that the caller has not waited for.
    wait_until(lambda: rclone_server.unfinished(bucket) == [])
    proxy.down()
    wait_until(lambda: not flood_threads())


def test_nothing_reads_a_descriptor_that_was_given_back(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
) -> None:
    """The transfer hangs in the network when it is given up, then the network comes back."""
    record = Record()
    size = 4 * 1024**2
    proxy.inject(Stall("request", seconds=1.5), "PUT")
    used = profile(proxy.url)
    with closing(make_uploader(used, clock=LeapingClock(record.stop))) as uploader:
        upload = Upload(1, bucket, "key", opened(bytes(size)), size)
        stop_during(record, proxy, "PUT")
        assert isinstance(send(uploader, upload, record), Interrupted)
        wait_until(lambda: not flood_threads())
    assert rclone_server.keys(bucket) == []
