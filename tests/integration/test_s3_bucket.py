"""How a bucket is looked for, and what the profile's client takes from its surroundings."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from flood.states import PERMANENT, TRANSIENT
from tests.faults import Answer, s3_error
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.spooling import Clock
from tests.uploading import MakeUploader, Open, boto3_uploader, profile, send
from workers.classify import classify
from workers.failures import BucketMissing, NotS3
from workers.s3_client import Clients
from workers.transfer import Receipt, Upload, Uploader

LIST = r"^/\?"
DENIED = s3_error(403, "AccessDenied", "Access Denied")


@pytest.fixture
def bucket(rclone_server: S3Server, bucket_name: Callable[[], str]) -> str:
    return rclone_server.make_bucket(bucket_name())


@pytest.fixture
def proxy(rclone_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploader(proxy: FaultProxy, clock: Clock) -> Iterator[Uploader]:
    with closing(boto3_uploader(profile(proxy.url), clock=clock.seconds)) as made:
        yield made


def test_a_bucket_is_remembered_for_a_while(
    uploader: Uploader, proxy: FaultProxy, clock: Clock, bucket: str
) -> None:
    uploader.ensure_bucket(bucket)
    clock.advance(59.0)
    uploader.ensure_bucket(bucket)
    assert len(proxy.requests) == 1
    clock.advance(2.0)
    uploader.ensure_bucket(bucket)
    assert len(proxy.requests) == 2


def test_the_message_tells_what_to_do(uploader: Uploader, proxy: FaultProxy) -> None:
    with pytest.raises(BucketMissing) as caught:
        uploader.ensure_bucket("no-such-bucket")
    verdict = classify(caught.value)
    assert (verdict.kind, verdict.code) == (PERMANENT, "NoSuchBucket")
    for fact in ("test", "no-such-bucket", proxy.url, "create it"):
        assert fact in verdict.message


@pytest.mark.parametrize(
    "no", [DENIED, s3_error(401, "Unauthorized"), Answer(405), Answer(501)], ids=repr
)
def test_a_key_that_may_not_list_asks_for_the_bucket(
    uploader: Uploader, proxy: FaultProxy, bucket: str, no: Answer
) -> None:
    proxy.inject(no, "GET", LIST, times=None)
    uploader.ensure_bucket(bucket)
    assert [each.method for each in proxy.requests] == ["GET", "HEAD"]
    with pytest.raises(BucketMissing):
        uploader.ensure_bucket("no-such-bucket")


def test_a_key_that_may_only_list_objects(
    uploader: Uploader, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(DENIED, "GET", LIST, times=None)
    proxy.inject(Answer(403), "HEAD", times=None)
    uploader.ensure_bucket(bucket)
    assert [each.method for each in proxy.requests] == ["GET", "HEAD", "GET"]
    with pytest.raises(BucketMissing):
        uploader.ensure_bucket("no-such-bucket")


def test_a_key_that_may_ask_nothing_uploads_all_the_same(
    uploader: Uploader,
    proxy: FaultProxy,
    clock: Clock,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.inject(DENIED, "GET", times=None)
    proxy.inject(Answer(403), "HEAD", times=None)
    with caplog.at_level(logging.WARNING):
        uploader.ensure_bucket(bucket)
        uploader.ensure_bucket(bucket)
        assert len(proxy.requests) == 3
        clock.advance(1000.0)
        uploader.ensure_bucket(bucket)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InternalError"])
def test_other_answers_to_the_list_are_errors(
    uploader: Uploader, proxy: FaultProxy, bucket: str, code: str
) -> None:
    status = 500 if code == "InternalError" else 403
    proxy.inject(s3_error(status, code), "GET", LIST, times=None)
    with pytest.raises(Exception, match=code) as caught:
        uploader.ensure_bucket(bucket)
    assert classify(caught.value).code == code
    assert proxy.count() == 1


#: As many a server answers: no XML, since not every element ends.
PAGE = b'<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n</head>\n</html>\n'


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html><body>Welcome</body></html>", {"Content-Type": "text/html"}),
        Answer(200, PAGE, {"Content-Type": "text/html"}),
        Answer(200, b'{"errors": []}', {"Content-Type": "application/json"}),
        Answer(404, b"Not found"),
        Answer(404),
        Answer(301, b"", {"Location": "https://127.0.0.1:9/"}),
        Answer(302, b"<html><body>Moved</body></html>", {"Location": "http://127.0.0.1:9/login"}),
        Answer(303, b"", {"Location": "/login"}),
        Answer(307, b"", {"Location": "/login"}),
    ],
    ids=repr,
)
def test_what_is_no_store_is_told(uploader: Uploader, proxy: FaultProxy, answer: Answer) -> None:
    proxy.inject(answer, "GET", LIST)
    with pytest.raises(NotS3, match=proxy.url) as caught:
        uploader.ensure_bucket("bucket")
    assert classify(caught.value).kind == TRANSIENT  # a network that wants a login does the same


@pytest.mark.parametrize(
    "body",
    [b'<?xml version="1.0"?>\n<ListAllMyBucketsRes', b"\xef\xbb\xbf <Li", b"<", b"<Error></Error>"],
)
def test_a_list_that_is_cut_off_is_the_stores_failure(
    uploader: Uploader, proxy: FaultProxy, body: bytes
) -> None:
    proxy.inject(Answer(200, body), "GET", LIST, times=None)
    with pytest.raises(ClientError) as caught:
        uploader.ensure_bucket("bucket")
    assert (classify(caught.value).kind, classify(caught.value).code) == (TRANSIENT, "http_500")


def listing(*names: str, token: str = "") -> Answer:
    buckets = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in names)
    more = f"<ContinuationToken>{token}</ContinuationToken>" if token else ""
    body = f"<ListAllMyBucketsResult><Buckets>{buckets}</Buckets>{more}</ListAllMyBucketsResult>"
    return Answer(200, body.encode(), {"Content-Type": "application/xml"})


def test_a_list_of_many_pages(uploader: Uploader, proxy: FaultProxy) -> None:
    proxy.inject(listing("bucket-1", "bucket-2", token="next"), "GET", LIST)
    proxy.inject(listing("bucket-3"), "GET", r"continuation-token=next")
    uploader.ensure_bucket("bucket-3")
    assert proxy.count("GET", "prefix=bucket-3") == 2


def test_what_a_list_shows_is_known_for_a_while(
    make_uploader: MakeUploader, proxy: FaultProxy, clock: Clock
) -> None:
    """Of a store that knows no prefix, and sends some hundred KiB for each bucket."""
    names = [f"bucket-{number}" for number in range(3000)]
    proxy.inject(listing(*names), "GET", LIST, times=None)
    with closing(make_uploader(profile(proxy.url), clock=clock.seconds)) as uploader:
        uploader.ensure_bucket("bucket-2999")
        clock.advance(59.0)
        for name in names:
            uploader.ensure_bucket(name)
        assert [each.method for each in proxy.requests] == ["GET"]
        clock.advance(2.0)
        uploader.ensure_bucket("bucket-1500")
        assert [each.method for each in proxy.requests] == ["GET", "GET"]


def test_what_a_list_lacks_is_asked_for_afresh(
    make_uploader: MakeUploader, proxy: FaultProxy
) -> None:
    proxy.inject(listing("bucket-1"), "GET", LIST)
    proxy.inject(listing("bucket-1", "bucket-2"), "GET", LIST)
    proxy.inject(listing("bucket-1"), "GET", LIST)
    with closing(make_uploader(profile(proxy.url))) as uploader:
        for name in ("bucket-1", "bucket-2"):
            uploader.ensure_bucket(name)
        with pytest.raises(BucketMissing):
            uploader.ensure_bucket("bucket-3")
    assert [each.method for each in proxy.requests] == ["GET", "GET", "GET", "HEAD"]


def test_a_list_that_never_ends_is_left(uploader: Uploader, proxy: FaultProxy, bucket: str) -> None:
    proxy.inject(listing("bucket-1", token="same"), "GET", LIST, times=None)
    uploader.ensure_bucket(bucket)  # HEAD finds it
    assert proxy.count("GET") == 2


def test_another_accounts_bucket_is_in_no_list(
    uploader: Uploader, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(listing(), "GET", LIST, times=None)
    uploader.ensure_bucket(bucket)
    assert [each.method for each in proxy.requests] == ["GET", "HEAD"]


@pytest.fixture
def aws_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An AWS configuration that would lead anybody astray who read it."""
    broken = tmp_path / "config"
    broken.write_text("this is [not = an ini file\n")
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_DEFAULT_PROFILE": "nobody",
        "AWS_CONFIG_FILE": str(broken),
        "AWS_SHARED_CREDENTIALS_FILE": str(broken),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_RETRY_MODE": "bogus",
        "AWS_MAX_ATTEMPTS": "nine",
        "AWS_DEFAULTS_MODE": "bogus",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "bogus",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "bogus",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "bogus",
        "AWS_S3_USE_ARN_REGION": "true",
        "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "bogus",
        "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "many",
        "AWS_ACCOUNT_ID_ENDPOINT_MODE": "bogus",
        "AWS_AUTH_SCHEME_PREFERENCE": "bogus",
        "AWS_DEFAULT_REGION": "mars-north-1",
        "AWS_ACCESS_KEY_ID": "ambient",
        "AWS_SECRET_ACCESS_KEY": "ambient",
        "AWS_SESSION_TOKEN": "ambient",
    }.items():
        monkeypatch.setenv(name, value)
    # What `aws configure add-model` writes; botocore asks for the home directory as it is imported.
    model = tmp_path / "models" / "s3" / "2006-03-01"
    model.mkdir(parents=True)
    (model / "service-2.json").write_text("{")
    (model / "endpoint-rule-set-1.json").write_text("{")
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path / "models"))


def test_the_surroundings_do_not_matter(
    rclone_server: S3Server, bucket: str, opened: Open, aws_surroundings: None
) -> None:
    with closing(boto3_uploader(profile(rclone_server.url))) as uploader:
        uploader.ensure_bucket(bucket)
        result = send(uploader, Upload(1, bucket, "key", opened(b"data"), 4))
    assert isinstance(result, Receipt), result


def test_amazons_own_endpoint(aws_surroundings: None) -> None:
    with closing(Clients(profile(None, "amazon", region="eu-west-1"), 4, 5.0, 5.0)) as clients:
        assert clients.main.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
        assert clients.main is clients.main
        assert clients.short is not clients.main
        assert clients.main.meta.config.connect_timeout == 5.0


def test_a_redirect_leads_nowhere_else(
    uploader: Uploader, proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    with FaultProxy() as elsewhere:
        headers = {"Location": elsewhere.url, "x-amz-bucket-region": "eu-west-1"}
        proxy.inject(Answer(301, b"", headers), "PUT", times=None)
        proxy.inject(Answer(307, b"", headers), "HEAD", times=None)
        result = send(uploader, Upload(1, bucket, "key", opened(b"data"), 4))
        assert elsewhere.connections == 0
    assert isinstance(result, Exception)
    assert classify(result).code == "not_s3"
