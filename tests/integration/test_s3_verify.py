"""What HEAD can say of an upload that the store confirmed."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from flood.providers import PROVIDERS
from flood.states import TRANSIENT
from tests.faults import Alter, Answer, Cut
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.uploading import LARGE, MakeUploader, Open, profile, send
from workers.classify import classify
from workers.failures import ContradictedByHead
from workers.transfer import Receipt, Upload
from workers.verify import Sent, Shown, verified

Send = Callable[..., object]

DATA = b"0123456789"
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


@pytest.fixture
def proxy(moto_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(moto_server.address) as running:
        yield running


@pytest.fixture
def put(
    make_uploader: MakeUploader,
    proxy: FaultProxy,
    moto_server: S3Server,
    bucket_name: Callable[[], str],
    opened: Open,
) -> Send:
    bucket = moto_server.make_bucket(bucket_name())

    def one(provider: str = "s3", data: bytes = DATA) -> object:
        with closing(make_uploader(profile(proxy.url, provider))) as uploader:
            return send(uploader, Upload(1, bucket, "key", opened(data), len(data)))

    return one


@pytest.mark.parametrize("data", [DATA, bytes(LARGE)], ids=["small", "large"])
def test_another_size_contradicts(put: Send, proxy: FaultProxy, data: bytes) -> None:
    proxy.inject(Alter({"Content-Length": "3"}), "HEAD", times=None)
    result = put(data=data)
    assert isinstance(result, ContradictedByHead)
    assert classify(result).kind == TRANSIENT


@pytest.mark.parametrize("size", ["abc", "6, 6", "+10", "99999999999999999999999"])
def test_a_size_that_is_no_size_is_a_bad_answer(put: Send, proxy: FaultProxy, size: str) -> None:
    proxy.inject(Alter({"Content-Length": size}), "HEAD", times=None)
    result = put()
    if isinstance(result, Receipt):
        assert size == "+10" or result.unverified is not None
    else:
        assert isinstance(result, Exception)
        assert classify(result).code in ("bad_response", "contradicted_by_head")


def test_no_object_is_asked_for_again(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(Answer(404), "HEAD")
    assert isinstance(put(), Receipt)
    assert proxy.count("HEAD") == 2


def test_no_object_contradicts(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(Answer(404), "HEAD", times=None)
    assert isinstance(put(), ContradictedByHead)
    assert proxy.count("HEAD") == 2


@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
def test_a_store_that_does_not_tell_is_believed(put: Send, proxy: FaultProxy, status: int) -> None:
    proxy.inject(Answer(status), "HEAD", times=None)
    result = put()
    assert isinstance(result, Receipt)
    assert result.unverified is not None
    assert str(status) in result.unverified
    assert result.checksum is None


@pytest.mark.parametrize("fault", [Answer(500), Answer(503), Cut("request")], ids=repr)
def test_a_head_that_fails_fails_the_attempt(
    put: Send, proxy: FaultProxy, fault: Answer | Cut
) -> None:
    proxy.inject(fault, "HEAD", times=None)
    result = put()
    assert isinstance(result, Exception)
    assert classify(result).kind == TRANSIENT


def test_an_etag_that_is_an_md5_is_compared(put: Send, proxy: FaultProxy) -> None:
    result = put("cloudflare")
    assert isinstance(result, Receipt)
    assert (result.etag, result.checksum) == (MD5, f"md5:{MD5}")


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
def test_another_md5_contradicts(put: Send, proxy: FaultProxy, method: str) -> None:
    proxy.inject(Alter({"ETag": f'"{"0" * 32}"'}), method, times=None)
    assert isinstance(put("cloudflare"), ContradictedByHead)
    assert isinstance(put("s3"), Receipt), "promised by no other provider"


def test_an_etag_that_is_no_md5_says_nothing(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(Alter({"ETag": '"opaque"'}), times=None)
    result = put("cloudflare")
    assert isinstance(result, Receipt)
    assert result.checksum is None


def test_amazons_checksum_is_compared(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(Alter({"x-amz-checksum-crc32": "poTHxg=="}), "HEAD")  # binascii.crc32(DATA)
    result = put("amazon")
    assert isinstance(result, Receipt)
    assert result.checksum == "crc32:a684c7c6"
    heads = [each for each in proxy.requests if each.method == "HEAD"]
    assert [each.headers["x-amz-checksum-mode"] for each in heads] == ["ENABLED"]


@pytest.mark.parametrize("shown", ["AAAAAA==", "poTHxg==-1", "not base64"])
def test_other_checksums(put: Send, proxy: FaultProxy, shown: str) -> None:
    proxy.inject(Alter({"x-amz-checksum-crc32": shown}), "HEAD", times=None)
    result = put("amazon")
    if shown == "AAAAAA==":
        assert isinstance(result, ContradictedByHead)
    else:
        assert isinstance(result, Receipt)
        assert result.checksum is None


def test_a_size_that_head_leaves_out_contradicts_nothing() -> None:
    upload = Upload(1, "bucket", "key", -1, len(DATA))
    sent = Sent("etag", "version", b"", 0)
    receipt = verified(PROVIDERS["s3"], upload, sent, Shown(None, "etag", None))
    assert (receipt.etag, receipt.bytes_sent) == ("etag", len(DATA))
    assert receipt.unverified is not None
    assert "size" in receipt.unverified
