"""What only the uploader through libcurl does."""

import errno
import json
import os
import re
import resource
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pycurl
import pytest
import trustme
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from flood.errors import ConfigError
from flood.states import PERMANENT, TRANSIENT
from tests.faults import Answer, Fault, Pass, Raw, Request, Stall, Unending, s3_error
from tests.faults import Exchange as ProxiedExchange
from tests.proxy import FaultProxy
from tests.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server
from tests.spooling import in_child, leave_descriptors
from tests.uploading import LARGE, MIB, Open, Record, curl_uploader, profile, send, transferred
from workers.classify import classify
from workers.curl_connections import Connections
from workers.curl_errors import NOT_CONNECTED, REASONS
from workers.curl_exchange import Exchange
from workers.curl_memory import Memory
from workers.curl_store import REMEMBERED, Store
from workers.failures import BucketMissing, TransportFailed
from workers.transfer import Receipt, Upload

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def bucket(rclone_server: S3Server, bucket_name: Callable[[], str]) -> str:
    return rclone_server.make_bucket(bucket_name())


@pytest.fixture
def proxy(rclone_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address) as running:
        yield running


@pytest.fixture
def sink() -> Iterator[FaultProxy]:
    """Takes everything, stores nothing."""
    with FaultProxy() as running:
        yield running


def files(bucket: str, descriptor: int, count: int, size: int = 4) -> list[Upload]:
    return [Upload(n, bucket, f"key-{n}", descriptor, size) for n in range(count)]


@pytest.mark.parametrize("spare", [0, 3, 5])
def test_a_lack_of_sockets_is_this_machines(sink: FaultProxy, spare: int) -> None:
    """libcurl says no more than that it could not connect."""

    def limited() -> None:
        with closing(curl_uploader(profile(sink.url))) as uploader:
            uploads, hooks = files("bucket", os.memfd_create("file"), 40, 0), Record().hooks()
            list(transferred(uploader, uploads[:1], hooks))  # whatever is set up once
            uploader.close()
            used = len(os.listdir("/proc/self/fd"))
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            outcomes = [outcome for _, outcome in transferred(uploader, uploads, hooks)]
            failed = [one for one in outcomes if not isinstance(one, Receipt)]
            assert len(outcomes) == 40
            assert failed
            assert {classify(one).code for one in failed} == {"local_resources"}

    assert in_child(limited) == 0


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_lack_of_descriptors_is_not_told_as_one_of_memory(sink: FaultProxy, spare: int) -> None:
    """libcurl says no more than that it could not begin."""

    def limited() -> None:
        with closing(curl_uploader(profile(sink.url))) as uploader:
            upload, hooks = files("bucket", os.memfd_create("file"), 1, 0), Record().hooks()
            list(transferred(uploader, upload, hooks))  # whatever is set up once
            uploader.close()
            leave_descriptors(spare)
            [(_, scarcity)] = transferred(uploader, upload, hooks)
        assert isinstance(scarcity, OSError)
        assert scarcity.errno == errno.EMFILE
        assert "ulimit -n" in classify(scarcity).message

    assert in_child(limited) == 0


def loaded_by(code: str, directory: Path) -> list[str]:
    """What a process of its own says that it has loaded."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()


def test_small_files_take_no_boto3(sink: FaultProxy, tmp_path: Path) -> None:
    """It takes long to load, and much memory; each consumer would."""
    sink.inject(
        Answer(200, b"<ListAllMyBucketsResult><Buckets><Bucket><Name>bucket</Name></Bucket>"),
        "GET",
        r"^/\?",
    )
    code = f"""if True:
        import os, sys
        from flood.profiles import Profile
        from flood.providers import PROVIDERS
        from workers import settle, sweep, upload, uploaders
        from workers.curl import Curl
        from workers.transfer import Hooks, Receipt, Upload
        profile = Profile("p", PROVIDERS["s3"], "key", "secret", None, "us-east-1", {sink.url!r})
        curl = Curl(profile, concurrency=4, multipart_threshold=10, multipart_part_size=10,
                    connect_timeout=5, read_timeout=5, bucket_cache_seconds=60)
        curl.ensure_bucket("bucket")
        hooks = Hooks(lambda: False, print, print)
        uploads = [Upload(n, "bucket", str(n), os.memfd_create("file"), 0) for n in range(5)]
        results = [one[1] for one in curl.transfer(uploads, hooks) if one]
        assert all(isinstance(one, Receipt) for one in results), results
        print(*sys.modules)
    """
    loaded = loaded_by(code, tmp_path)
    assert "workers.curl" in loaded
    assert not {"boto3", "botocore", "urllib3"} & set(loaded)
    assert sink.count("GET") == 1


def test_large_files_take_no_boto3(proxy: FaultProxy, bucket: str, tmp_path: Path) -> None:
    code = f"""if True:
        import os, sys
        from flood.profiles import Profile
        from flood.providers import PROVIDERS
        from workers import settle, sweep, upload, uploaders
        from workers.curl import Curl
        from workers.transfer import Hooks, Receipt, Upload
        profile = Profile("p", PROVIDERS["s3"], {ACCESS_KEY_ID!r}, {SECRET_ACCESS_KEY!r}, None,
                          "us-east-1", {proxy.url!r})
        curl = Curl(profile, concurrency=4, multipart_threshold={LARGE}, multipart_part_size=9,
                    connect_timeout=20, read_timeout=20, bucket_cache_seconds=60)
        curl.ensure_bucket({bucket!r})
        begun = []
        hooks = Hooks(lambda: False, lambda upload, number: begun.append(number), lambda _: None)
        file = os.memfd_create("file")
        os.truncate(file, {LARGE})
        for n in range(2):
            uploads = [Upload(n, {bucket!r}, f"key-{{n}}", file, {LARGE})]
            results = [one[1] for one in curl.transfer(uploads, hooks) if one]
            assert isinstance(results[0], Receipt), results
        curl.abort_multipart({bucket!r}, "key-0", begun[0])
        print(*sys.modules)
    """
    proxy.inject(s3_error(403, "AccessDenied"), "GET", "uploads", skip=1)  # a right that few grant
    loaded = loaded_by(code, tmp_path)
    assert "workers.curl_requests" in loaded
    assert not {"boto3", "botocore", "urllib3"} & set(loaded)
    assert [proxy.count(*each) for each in (("POST",), ("HEAD",), ("DELETE",))] == [4, 2, 1]


class Reads:
    """How many bytes of files uploaders have read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self._lock = threading.Lock()
        for name in ("pread", "preadv"):
            monkeypatch.setattr(os, name, partial(self._read, getattr(os, name)))

    def _read(self, call: Callable[..., Any], *arguments: Any) -> Any:
        got = call(*arguments)
        with self._lock:
            self.bytes += got if isinstance(got, int) else len(got)
        return got


@dataclass
class Far(Fault):
    """A store whose answers take long; `most` tells for how many it was waited at once."""

    most: int = 0
    _present: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, exchange: ProxiedExchange) -> None:
        answer = exchange.forward()
        with self._lock:
            self._present += 1
            self.most = max(self.most, self._present)
        exchange.closing.wait(0.5)
        with self._lock:
            self._present -= 1
        exchange.reply(*answer)


@pytest.mark.parametrize("provider", ["s3", "cloudflare"])
def test_a_large_file_is_read_once(
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
) -> None:
    """Whoever waits for answers holds no memory, so that more parts are under way than are held."""
    size = 60 * MIB
    read = Reads(monkeypatch)
    far = Far()
    proxy.inject(far, "PUT", "partNumber", times=None)
    upload = Upload(1, bucket, "key", opened(os.urandom(MIB) * 60), size)
    with closing(curl_uploader(profile(proxy.url, provider), concurrency=16)) as uploader:
        assert isinstance(send(uploader, upload), Receipt)
    assert proxy.count("PUT", "partNumber") == 12
    assert read.bytes == size
    assert far.most > 8


@pytest.mark.parametrize("refused", [False, True])
def test_the_memory_of_a_large_file_goes_back_with_its_attempt(
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    refused: bool,
) -> None:
    """An error keeps the frames that it came through, and what they know of."""
    closed: list[Memory] = []
    close = Memory.close

    def noted(memory: Memory) -> None:
        close(memory)
        closed.append(memory)

    monkeypatch.setattr(Memory, "close", noted)
    if refused:
        proxy.inject(s3_error(403, "AccessDenied"), "PUT", "partNumber", times=None)
    upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE)
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        assert isinstance(send(uploader, upload), ClientError if refused else Receipt)
    assert len(closed) == 1


def test_what_the_store_has_makes_room_before_it_is_proven(sink: FaultProxy) -> None:
    """Else each file over a line with latency waits for one more answer."""
    sink.inject(Stall("request"), "HEAD", "key-0")
    sink.inject(s3_error(403, "AccessDenied"), "PUT", "key-1")
    taken: list[int] = []
    hooks = replace(
        Record().hooks(),
        taken=lambda upload: taken.append(upload.record_id),
        at_most=lambda: 1 + len(taken),
    )
    uploads = files("bucket", os.memfd_create("file"), 3, 0)
    with closing(curl_uploader(profile(sink.url))) as uploader:
        coming = transferred(uploader, uploads, hooks)
        found = [next(coming) for _ in range(2)]
        assert [(upload.record_id, type(outcome)) for upload, outcome in found] == [
            (1, ClientError),
            (2, Receipt),
        ]
        assert taken == [0, 2]
        coming.close()


# --- signatures --------------------------------------------------------------------------------


def computed_signature(request: Request, region: str) -> tuple[str, str]:
    """The signature that a request has, with the one that botocore computes for it."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=\S+, SignedHeaders=(\S+), Signature=(\S+)",
        request.headers["authorization"],
    )
    assert found is not None
    again = AWSRequest(
        method=request.method,
        url=f"http://{request.headers['host']}{request.target}",
        headers={name: request.headers[name] for name in found[1].split(";")},
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    assert datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
    auth = S3SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY), "s3", region)
    canonical = auth.canonical_request(again)
    return found[2], auth.signature(auth.string_to_sign(again, canonical), again)


@settings(max_examples=60)
@given(key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60))
def test_every_key_is_signed_as_botocore_signs_it(key: str) -> None:
    descriptor = os.memfd_create("file")
    os.write(descriptor, b"data")
    try:
        with FaultProxy() as sink, closing(curl_uploader(profile(sink.url))) as uploader:
            send(uploader, Upload(1, "bucket", key, descriptor, 4))
            assert [each.method for each in sink.requests] == ["PUT", "HEAD"]
            for each in sink.requests:
                given_signature, expected = computed_signature(each, "us-east-1")
                assert given_signature == expected
    finally:
        os.close(descriptor)


def test_everything_that_matters_is_signed(sink: FaultProxy, opened: Open) -> None:
    used = profile(sink.url, "amazon", region="eu-north-1", session_token="a/token+with=signs")
    with closing(curl_uploader(used)) as uploader:
        send(uploader, Upload(1, "bucket", "key.txt", opened(b"data"), 4))
    for each in sink.requests:
        assert len(set(computed_signature(each, "eu-north-1"))) == 1
        signed = each.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        unsigned = each.headers.keys() - set(signed) - {"authorization"}
        assert unsigned <= {"user-agent", "accept", "content-length"}
    assert sink.requests[0].headers["x-amz-checksum-crc32"] == "rfPzYw=="  # of "data"
    assert sink.requests[0].headers["x-amz-security-token"] == "a/token+with=signs"


def test_parts_are_signed_with_their_query(sink: FaultProxy, opened: Open) -> None:
    upload_id = "odd id/+=&?%~-_."
    answer = f"<R><UploadId>{upload_id.replace('&', '&amp;')}</UploadId></R>"
    sink.inject(Answer(200, answer.encode()), "POST", r"\?uploads")
    sink.inject(s3_error(403, "AccessDenied"), "PUT", "partNumber=2")
    with closing(curl_uploader(profile(sink.url))) as uploader:
        send(uploader, Upload(1, "bucket", "ü key", opened(bytes(LARGE)), LARGE))
    parts = [each for each in sink.requests if each.method == "PUT"]
    assert parts
    for each in parts:
        assert len(set(computed_signature(each, "us-east-1"))) == 1


@settings(max_examples=30)
@given(key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60))
def test_every_request_of_a_large_file_is_signed(key: str) -> None:
    descriptor = os.memfd_create("file")
    os.truncate(descriptor, LARGE)
    used = {"region": "eu-north-1", "session_token": "a/token+with=signs"}
    try:
        with FaultProxy() as sink, closing(curl_uploader(profile(sink.url, **used))) as uploader:
            sink.inject(Answer(200, b"<R><UploadId>o+d/d</UploadId></R>"), "POST", r"\?uploads")
            sink.inject(Answer(200, headers={"ETag": '"e"'}), "PUT", times=None)
            sink.inject(Answer(404), "HEAD", times=None)
            send(uploader, Upload(1, "bucket", key, descriptor, LARGE))
            uploader.abort_multipart("bucket", key, "o+d/d")
            methods = [each.method for each in sink.requests]
            assert methods[:2] == ["GET", "POST"]
            # No object is seen, so that what was begun is aborted; then once more, by hand.
            assert methods[-5:] == ["POST", "HEAD", "HEAD", "DELETE", "DELETE"]
            for each in sink.requests:
                given_signature, expected = computed_signature(each, "eu-north-1")
                assert given_signature == expected, each
                assert each.headers["x-amz-security-token"] == "a/token+with=signs"
    finally:
        os.close(descriptor)


def test_amazon_is_told_of_checksums_before_the_parts(sink: FaultProxy, opened: Open) -> None:
    sink.inject(Answer(200, b"<R><UploadId>id</UploadId></R>"), "POST", r"\?uploads")
    with closing(curl_uploader(profile(sink.url, "amazon"))) as uploader:
        send(uploader, Upload(1, "bucket", "key.txt", opened(bytes(LARGE)), LARGE))
    [created] = [each for each in sink.requests if each.target.endswith("?uploads")]
    assert created.headers["x-amz-checksum-algorithm"] == "CRC32"
    assert created.headers["content-type"] == "text/plain"
    assert re.fullmatch("[0-9a-f]{32}", created.headers["x-amz-meta-flood-upload"])
    for each in sink.requests:
        assert len(set(computed_signature(each, "us-east-1"))) == 1


@pytest.mark.parametrize("size", [4, LARGE])
def test_a_token_that_no_header_can_carry_is_not_sent(
    sink: FaultProxy, opened: Open, size: int
) -> None:
    used = profile(sink.url, session_token="to ken")
    with closing(curl_uploader(used)) as uploader:
        result = send(uploader, Upload(1, "bucket", "key", opened(bytes(size)), size))
        with pytest.raises(ConfigError):
            uploader.abort_multipart("bucket", "key", "id")
    assert isinstance(result, ConfigError)
    assert sink.requests == []


@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize("key", ["a/../b", "./a", "a/.", ".."])
def test_no_key_is_taken_for_a_path_to_walk(
    sink: FaultProxy, opened: Open, key: str, size: int
) -> None:
    sink.inject(Answer(200, b"<R><UploadId>id</UploadId></R>"), "POST", r"\?uploads")
    with closing(curl_uploader(profile(sink.url))) as uploader:
        send(uploader, Upload(1, "bucket", key, opened(bytes(size)), size))
        uploader.abort_multipart("bucket", key, "id")
    paths = {each.target.partition("?")[0] for each in sink.requests if each.method != "GET"}
    assert paths == {f"/bucket/{key}"}


# --- connections -------------------------------------------------------------------------------


def test_connections_are_used_again_by_later_calls(
    proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    data = opened(b"data")
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        for _ in range(3):
            [(_, result)] = transferred(uploader, files(bucket, data, 1), Record().hooks())
            assert isinstance(result, Receipt)
        assert proxy.count() == 6
        assert proxy.connections == 1


def test_a_connection_that_the_store_has_closed_is_no_failure(
    proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    upload = Upload(1, bucket, "key", opened(b"data"), 4)
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        assert isinstance(send(uploader, upload), Receipt)
        proxy.down()
        proxy.up()
        time.sleep(1.1)  # libcurl looks at what has been idle for a second
        assert isinstance(send(uploader, upload), Receipt)


def test_an_answer_that_breaks_off_fails_one_file(
    proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    """libcurl gives its connection, which is over, to the next file."""
    for method in ("PUT", "HEAD"):
        for skip in (0, 5, 11, 20):
            proxy.inject(Raw(b"HTTP/1.1 404 Not Found\r\nContent-Le"), method, skip=skip)
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        uploads = files(bucket, opened(b"data"), 60)
        outcomes = dict(transferred(uploader, uploads, Record().hooks()))
        failed = [each for each in outcomes.values() if not isinstance(each, Receipt)]
        assert len(failed) == 8, failed
        again = [each for each, outcome in outcomes.items() if outcome in failed]
        outcomes = dict(transferred(uploader, again, Record().hooks()))
        assert all(isinstance(each, Receipt) for each in outcomes.values()), outcomes
    assert proxy.count("PUT") == 60 + 8


@pytest.mark.parametrize("concurrency", [1, 3, 9])
def test_connections_are_opened_as_needed_up_to_a_limit(
    proxy: FaultProxy, bucket: str, opened: Open, concurrency: int
) -> None:
    proxy.inject(Stall("stored", seconds=0.05), "PUT", times=None)
    data = opened(b"data")
    with closing(curl_uploader(profile(proxy.url), concurrency=concurrency)) as uploader:
        for _ in range(2):
            uploads = files(bucket, data, 4 * concurrency)
            outcomes = dict(transferred(uploader, uploads, Record().hooks()))
            assert all(isinstance(each, Receipt) for each in outcomes.values())
    assert proxy.connections == concurrency


def test_a_call_after_close_opens_anew(proxy: FaultProxy, bucket: str, opened: Open) -> None:
    data = opened(b"data")
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        under_way = transferred(uploader, files(bucket, data, 3), Record().hooks())
        first = next(under_way)
        uploader.close()
        rest = list(under_way)
        assert all(isinstance(result, Receipt) for _, result in [first, *rest])
        assert isinstance(send(uploader, Upload(9, bucket, "key", data, 4)), Receipt)


class Zeros:
    """A body of so many bytes, which keeps how many were asked for at once."""

    def __init__(self, size: int) -> None:
        self.asked: set[int] = set()
        self._left = size

    def read(self, amount: int) -> bytes:
        self.asked.add(amount)
        block = bytes(min(amount, self._left))
        self._left -= len(block)
        return block

    def rewind(self) -> None:
        raise AssertionError("it is sent once")

    def digest(self) -> bytes:
        return b""


def test_buffers_are_as_large_as_bodies_need(sink: FaultProxy) -> None:
    """One for each of hundreds of connections is much memory; large bodies take large ones."""
    store = Store(profile(sink.url), lambda *_: "")
    headers = ["Expect:", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    with closing(Connections(store.configure, 1, 10.0, 10.0)) as connections:
        for size, block in ((5 * MIB, 256), (40_000, 16), (MIB, 64), (8 * MIB, 256), (65_536, 16)):
            body = Zeros(size)
            url = f"{sink.url}/bucket/key"
            exchange = Exchange("PutObject", url, "here", headers, body=body, size=size)
            assert connections.ask(exchange, lambda: False).succeeded
            assert max(body.asked) == block * 1024


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with trusted certificates, which has not got that of `authority` yet."""
    path = tmp_path / "bundle.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    return path


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FaultProxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with FaultProxy(tls=tls) as running:
        yield running


def test_an_authority_that_is_installed_meanwhile_counts(
    authority: trustme.CA, bundle: Path, secure: FaultProxy
) -> None:
    """libcurl would know for a day what it read."""
    assert REMEMBERED <= 60
    store = Store(profile(secure.url), lambda *_: "", remembered=0)
    with closing(Connections(store.configure, 1, 10.0, 10.0)) as connections:

        def ask() -> Exchange:
            url = f"{secure.url}/bucket/key"
            return connections.ask(
                Exchange("HeadObject", url, "here", [], method="HEAD"), lambda: False
            )

        with pytest.raises(TransportFailed) as caught:
            ask()
        assert classify(caught.value).code == "tls_certificate"
        authority.cert_pem.write_to_path(str(bundle))
        assert ask().status


def test_nobody_is_trusted_besides_a_directory(
    bundle: Path, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pycurl sets a file for each handle that it makes."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle.parent))
    handle, lines = pycurl.Curl(), list[bytes]()
    Store(profile(secure.url), lambda *_: "").configure(handle)
    handle.setopt(pycurl.VERBOSE, 1)
    handle.setopt(pycurl.DEBUGFUNCTION, lambda _kind, line: lines.append(line))
    handle.setopt(pycurl.URL, secure.url)
    with closing(handle), pytest.raises(pycurl.error):
        handle.perform()
    text = b"".join(lines)
    assert f"CApath: {bundle.parent}\n".encode() in text
    assert b"CAfile" not in text


def test_descriptors_are_given_back(proxy: FaultProxy, bucket: str, opened: Open) -> None:
    data = opened(b"data")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with closing(curl_uploader(profile(proxy.url))) as uploader:
            list(transferred(uploader, files(bucket, data, 5), Record().hooks()))
    proxy.down()  # its own sockets are in this process, too
    assert len(os.listdir("/proc/self/fd")) <= before


def test_bodies_in_memory_are_bounded(proxy: FaultProxy, bucket: str, opened: Open) -> None:
    """Files beyond the first sixteen are read once more instead."""
    proxy.inject(Stall("stored", seconds=0.3), "PUT", times=None)
    data = opened(os.urandom(MIB))
    with closing(curl_uploader(profile(proxy.url), concurrency=20)) as uploader:
        outcomes = dict(transferred(uploader, files(bucket, data, 20, MIB), Record().hooks()))
    assert all(isinstance(each, Receipt) for each in outcomes.values()), outcomes


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize(
    "answer",
    [
        s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"),
        Answer(
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong;"
            b" expecting 'eu-west-3'</Message><Region>eu-west-3</Region></Error>",
        ),
    ],
    ids=["header", "body"],
)
def test_a_bucket_in_another_region_is_followed(
    moto_server: S3Server,
    bucket_name: Callable[[], str],
    opened: Open,
    answer: Answer,
    size: int,
) -> None:
    bucket = moto_server.make_bucket(bucket_name())
    with (
        FaultProxy(moto_server.address) as proxy,
        closing(curl_uploader(profile(proxy.url, "amazon"))) as uploader,
    ):
        proxy.inject(answer, "PUT")
        data = opened(bytes(size))
        for number in range(2):
            upload = Upload(number, bucket, f"key-{number}", data, size)
            assert isinstance(send(uploader, upload), Receipt)
        puts = [each for each in proxy.requests if each.method == "PUT"]
    regions = [each.headers["authorization"].split("/")[2] for each in puts]
    assert regions[0] == "us-east-1"
    assert set(regions[2:]) == {"eu-west-3"}


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_every_request_of_a_large_file_follows_its_bucket(
    moto_server: S3Server, bucket_name: Callable[[], str], opened: Open, method: str
) -> None:
    bucket = moto_server.make_bucket(bucket_name())
    with (
        FaultProxy(moto_server.address) as proxy,
        closing(curl_uploader(profile(proxy.url))) as uploader,
    ):
        proxy.inject(s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"), method)
        upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE, multipart_upload_id="old")
        assert isinstance(send(uploader, upload), Receipt)
    regions = [each.headers["authorization"].split("/")[2] for each in proxy.requests]
    first = [each.method for each in proxy.requests].index(method)
    assert set(regions[: first + 1]) == {"us-east-1"}
    assert set(regions[first + 1 :]) == {"eu-west-3"}
    assert proxy.requests[first + 1].target == proxy.requests[first].target


def test_a_store_that_sends_us_in_circles_is_not_followed(
    proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    for region in ("eu-west-1", "eu-west-2", "eu-west-1"):
        proxy.inject(s3_error(301, "PermanentRedirect", x_amz_bucket_region=region), "PUT")
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        result = send(uploader, Upload(1, bucket, "key", opened(b"data"), 4))
    assert isinstance(result, Exception)
    assert (classify(result).kind, classify(result).code) == (PERMANENT, "PermanentRedirect")
    assert proxy.count("PUT") == 2


def test_interim_answers_without_end_are_given_up(
    proxy: FaultProxy, bucket: str, opened: Open
) -> None:
    proxy.inject(Unending(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "PUT")
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        result = send(uploader, Upload(1, bucket, "key", opened(b"data"), 4))
    assert isinstance(result, Exception)
    assert (classify(result).kind, classify(result).code) == (TRANSIENT, "bad_response")


LIST = r"^/\?"
EMPTY = b"<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>"


def test_a_list_that_lacks_the_bucket_is_not_asked_for_again(
    proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(Answer(200, EMPTY), "GET", LIST, times=None)
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        uploader.ensure_bucket(bucket)  # another account's
        with pytest.raises(BucketMissing):
            uploader.ensure_bucket("no-such-bucket")
    assert [each.method for each in proxy.requests] == ["GET", "HEAD"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, EMPTY.replace(b"</List", b"<ContinuationToken>x</ContinuationToken></List")),
        Answer(200, EMPTY[:-9]),
        Answer(200, b"<html>Welcome</html>"),
        s3_error(403, "AccessDenied"),
    ],
    ids=["goes on", "cut off", "something else", "denied"],
)
def test_a_list_that_tells_nothing_is_asked_for_again(
    proxy: FaultProxy, bucket: str, answer: Answer
) -> None:
    proxy.inject(answer, "GET", LIST)
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        uploader.ensure_bucket(bucket)
    assert [each.method for each in proxy.requests] == ["GET", "GET"]


def test_what_only_boto3_finds_is_known_to_libcurl(proxy: FaultProxy) -> None:
    """The list goes on, which libcurl leaves to boto3."""
    more = b"<ContinuationToken>next</ContinuationToken>"
    first, second = (
        EMPTY.replace(b"<Buckets>", b"".join([b"<Buckets>", *names]))
        for names in ([named("bucket-1")], [named("bucket-2"), named("bucket-3")])
    )
    proxy.inject(Answer(200, first.replace(b"</List", more + b"</List")), "GET", LIST, times=2)
    proxy.inject(Answer(200, second), "GET", "continuation-token=next")
    with closing(curl_uploader(profile(proxy.url))) as uploader:
        uploader.ensure_bucket("bucket-2")
        asked = len(proxy.requests)
        for other in ("bucket-3", "bucket-1", "bucket-2"):
            uploader.ensure_bucket(other)
    assert asked == len(proxy.requests) == 3


def named(bucket: str) -> bytes:
    return f"<Bucket><Name>{bucket}</Name></Bucket>".encode()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Unending(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), "bad_response"),
        (Unending(b"HTTP/1.1 200 OK\r\n\r\n", b" ", 0.02), "read_timeout"),
        (Stall("request"), "read_timeout"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<List"), "connection_reset"),
    ],
    ids=["endless", "dripping", "none", "cut off"],
)
def test_a_list_that_does_not_end_is_the_error(
    proxy: FaultProxy, bucket: str, fault: Fault, code: str
) -> None:
    proxy.inject(fault, "GET", LIST, times=None)
    with (
        closing(curl_uploader(profile(proxy.url), read_timeout=0.3)) as uploader,
        pytest.raises(TransportFailed) as caught,
    ):
        uploader.ensure_bucket(bucket)
    assert classify(caught.value).code == code
    assert proxy.count() <= 1


def test_what_the_kernel_has_taken_is_waited_for_while_it_goes_out(
    rclone_server: S3Server, bucket: str, opened: Open
) -> None:
    """A slow line, which has for longer than any time-out what libcurl handed over at once."""
    data = bytes(MIB)
    with FaultProxy(rclone_server.address, receive_buffer=16 * 1024) as slow:
        slow.inject(Pass(bytes_per_second=MIB // 3), "PUT")
        uploader = curl_uploader(profile(slow.url), connect_timeout=1.0, read_timeout=1.0)
        with closing(uploader):
            result = send(uploader, Upload(1, bucket, "key", opened(data), len(data)))
        assert isinstance(result, Receipt), result
        assert slow.count("PUT") == 1


def test_every_reason_has_its_row() -> None:
    for reason in {*REASONS.values(), *NOT_CONNECTED.values(), "send_timeout", "read_timeout"}:
        verdict = classify(TransportFailed(reason, "host:1", "words"))
        assert verdict.code in (reason, "tls_certificate"), reason
        assert "host:1: words" in verdict.message
    assert classify(TransportFailed("nonsense", "h", "w")).code == "bad_response"
    assert classify(TransportFailed("endless", "h", "w")).code == "bad_response"
    assert "no end" in classify(TransportFailed("endless", "h", "w")).message
    assert classify(TransportFailed("tls_host", "h", "w")).code == "tls_certificate"
    assert "another host" in classify(TransportFailed("tls_host", "h", "w")).message
    assert classify(TransportFailed("never heard of", "h", "w")).kind == TRANSIENT


# --- without libcurl ---------------------------------------------------------------------------

WITHOUT = """
import json, logging, sys
from types import SimpleNamespace
said = []
class Hear(logging.Handler):
    def emit(self, record):
        said.append([record.getMessage(), record.facts["reason"]])
logging.getLogger().addHandler(Hear())
from flood.profiles import Profile
from flood.providers import PROVIDERS
from workers.uploaders import maker
names = ("concurrency", "multipart_threshold", "multipart_part_size", "connect_timeout",
         "read_timeout", "bucket_cache_seconds")
settings = SimpleNamespace(transfer=sys.argv[1], **dict.fromkeys(names, 9))
make = maker(settings)
used = Profile("p", PROVIDERS["s3"], "key", "secret", None, "here", "http://127.0.0.1:1")
print(json.dumps([type(make(used)).__name__, said]))
"""


@pytest.mark.parametrize(
    ("transfer", "pycurl", "chosen", "reason"),
    [
        ("curl", None, "Curl", None),
        ("boto3", None, "S3", None),
        ("curl", "raise ImportError('libcurl.so.4 is missing')", "S3", "libcurl.so.4 is missing"),
        ("curl", "version_info = lambda: (0, '7.88.1')", "S3", "libcurl 7.88.1"),
        ("curl", "raise OSError('no room')", "S3", "no room"),
        ("curl", "def (", "S3", "invalid syntax"),
        ("curl", "", "S3", "has no attribute"),
        ("boto3", "raise ImportError('libcurl.so.4 is missing')", "S3", None),
    ],
)
def test_boto3_does_the_work_where_libcurl_cannot(
    tmp_path: Path, transfer: str, pycurl: str | None, chosen: str, reason: str | None
) -> None:
    if pycurl is not None:
        (tmp_path / "pycurl.py").write_text(pycurl)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, transfer],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        check=True,
        capture_output=True,
        text=True,
    )
    name, said = json.loads(done.stdout)
    assert name == chosen
    if reason is None:
        assert said == []
    else:
        [[what, why]] = said
        assert what == "libcurl cannot be used"
        assert reason in why


AT_ONCE = """
import json
from concurrent.futures import ThreadPoolExecutor
from workers.uploaders import without_libcurl
with ThreadPoolExecutor(4) as pool:
    print(json.dumps(list(pool.map(without_libcurl, ["curl"] * 4))))
"""


def test_whoever_asks_for_libcurl_at_once_is_told_the_same(tmp_path: Path) -> None:
    broken = "import time; time.sleep(0.3); raise ImportError('libcurl.so.4 is missing')"
    (tmp_path / "pycurl.py").write_text(broken)
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == ["libcurl.so.4 is missing"] * 4
