"""What becomes of uploads when something is wrong: each error is a real one."""

import base64
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
import trustme
from botocore.exceptions import ClientError, ProxyConnectionError
from hypothesis import given
from hypothesis import strategies as st

from flood.states import INTERRUPTED, PERMANENT, TRANSIENT
from tests.chains import CHAINS, nameless, server_tls, trust
from tests.faults import (
    Alive,
    Alter,
    Answer,
    Cut,
    Exchange,
    Fault,
    Gone,
    Preceded,
    Raw,
    Stall,
    Trailed,
    Tunnel,
    Unending,
    s3_error,
)
from tests.proxy import FaultProxy
from tests.servers import SECRET_ACCESS_KEY, S3Server
from tests.uploading import (
    LARGE,
    MIB,
    UPLOADERS,
    MakeUploader,
    Open,
    Record,
    profile,
    send,
    transferred,
)
from workers.classify import classify
from workers.failures import TransportFailed
from workers.transfer import Receipt, Upload, Uploader

Send = Callable[..., object]


@pytest.fixture
def bucket(rclone_server: S3Server, bucket_name: Callable[[], str]) -> str:
    return rclone_server.make_bucket(bucket_name())


@pytest.fixture
def proxy(rclone_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address, receive_buffer=16 * 1024) as running:
        yield running


@pytest.fixture
def put(make_uploader: MakeUploader, bucket: str, opened: Open) -> Iterator[Send]:
    """Uploads `data` to an endpoint; gives what came of it."""
    with ExitStack() as stack:

        def one(url: str, data: bytes = b"some data", **changes: Any) -> object:
            timeouts = {
                name: changes.pop(name, 10.0) for name in ("connect_timeout", "read_timeout")
            }
            used = profile(url, changes.pop("provider", "s3"), **changes)
            uploader = stack.enter_context(closing(make_uploader(used, **timeouts)))
            return send(uploader, Upload(1, bucket, "key", opened(data), len(data)))

        yield one


#: For what comes to a standstill; else a busy machine would.
BRIEF: Final[dict[str, Any]] = {"connect_timeout": 0.5, "read_timeout": 0.5}


def expect(result: object, kind: str, code: str) -> str:
    assert isinstance(result, BaseException), result
    verdict = classify(result)
    assert (verdict.kind, verdict.code) == (kind, code), verdict
    assert SECRET_ACCESS_KEY not in verdict.message
    return verdict.message


def test_host_name_unknown(put: Send) -> None:
    message = expect(put("http://no-such-host.invalid:9000"), TRANSIENT, "dns")
    assert "no-such-host.invalid:9000" in message


def test_refused_then_up_again(put: Send, proxy: FaultProxy) -> None:
    proxy.down()
    expect(put(proxy.url), TRANSIENT, "connection_refused")
    proxy.up()
    assert isinstance(put(proxy.url), Receipt)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Cut("request"), "connection_reset"),
        (Cut("body", after=MIB), "connection_reset"),
        (Cut("stored"), "connection_reset"),
        (Cut("stored", reset=False), "connection_reset"),
        (Stall("request"), "send_timeout"),
        (Stall("stored"), "read_timeout"),
        (Raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "bad_response"),
        (Raw(b"HTTP/1.1 404 Not Found\r\nContent-Le"), "connection_reset"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), "connection_reset"),
        (
            Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nab"),
            "connection_reset",
        ),
    ],
    ids=repr,
)
def test_the_connection_breaks(put: Send, proxy: FaultProxy, fault: Fault, code: str) -> None:
    proxy.inject(fault, "PUT")
    patience = BRIEF if isinstance(fault, Stall) else {}
    expect(put(proxy.url, bytes(5 * MIB), **patience), TRANSIENT, code)
    assert proxy.count("PUT") == 1
    assert isinstance(put(proxy.url, bytes(5 * MIB)), Receipt)


#: The beginning of an answer, then the end of the connection.
#: What rclone says where the clock is off.
TOO_OLD = (
    "The difference between the request time and the server's time exceeds the maximum allowed."
)
BROKEN_OFF = Raw(b'HTTP/1.1 200 OK\r\nETag: "0"\r\n')


@pytest.mark.parametrize(
    ("method", "size"),
    [("PUT", 9), ("HEAD", 9), ("HEAD", 2 * MIB), ("GET", LARGE)],
    ids=["put", "head", "head-streamed", "list-of-uploads"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_ended_within_an_answer_is_not_used_again(
    request: pytest.FixtureRequest,
    make_uploader: MakeUploader,
    trusted: None,
    bucket: str,
    opened: Open,
    scheme: str,
    method: str,
    size: int,
) -> None:
    """It would fail the request that comes next, which is not to blame."""
    proxy = request.getfixturevalue("proxy" if scheme == "http" else "secure")
    proxy.inject(BROKEN_OFF, method)
    upload = Upload(1, bucket, "key", opened(bytes(size)), size)
    with closing(make_uploader(profile(proxy.url))) as uploader:
        if method != "GET":  # without that list the upload goes on
            expect(send(uploader, upload), TRANSIENT, "connection_reset")
        assert isinstance(send(uploader, upload), Receipt)
    assert proxy.count(method) >= 1


ERROR = b"HTTP/1.1 500 Oh\r\nContent-Type: application/xml\r\n\r\n<Error><Message>"


@pytest.mark.parametrize(
    "fault",
    [
        Unending(ERROR, b"a", 0.02),
        Unending(b"HTTP/1.1 200 OK\r\nX-A: ", b"a", 0.02),
        Unending(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
        Unending(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.02),
    ],
    ids=["body", "header", "interim", "headers"],
)
def test_an_answer_that_drips_is_given_up(put: Send, proxy: FaultProxy, fault: Fault) -> None:
    """Each byte of it is in time."""
    proxy.inject(fault, "PUT", times=None)
    message = expect(put(proxy.url, read_timeout=0.2), TRANSIENT, "read_timeout")
    assert "--read-timeout" in message


def test_an_answer_without_end_is_given_up(put: Send, proxy: FaultProxy) -> None:
    """Long before it fills the memory."""
    proxy.inject(Unending(ERROR, b"a" * 65536), "PUT", times=None)
    message = expect(put(proxy.url), TRANSIENT, "bad_response")
    assert "16 MiB" in message
    assert "--concurrency" not in message


def test_an_answer_that_drips_while_the_body_is_stuck_is_given_up(
    put: Send, proxy: FaultProxy
) -> None:
    """In the kernel's buffers, of which nobody takes anything."""
    proxy.inject(Unending(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05, early=True), "PUT")
    used = {"connect_timeout": 0.2, "read_timeout": 0.2}
    message = expect(put(proxy.url, bytes(MIB // 3), **used), TRANSIENT, "read_timeout")
    assert "not whole after 2 s" in message


@pytest.mark.parametrize("kind", ["drip", "end"])
def test_an_early_answer_is_given_up(put: Send, proxy: FaultProxy, kind: str) -> None:
    """While the store is asked whether it wants the body."""
    fault = Unending(b"HTTP/1.1 1", b"0", 0.02, early=True)
    proxy.inject(fault if kind == "drip" else Raw(b"HTTP/1.1 100 Continue\r\n"), "PUT", times=None)
    used = {"connect_timeout": 0.2, "read_timeout": 0.2, "provider": "amazon"}
    verdict = classify(put(proxy.url, bytes(2 * MIB), **used))  # type: ignore[arg-type]  # what failed
    assert verdict.kind == TRANSIENT
    assert verdict.code in ("read_timeout", "send_timeout", "connection_reset", "bad_response")


def test_what_was_given_up_does_not_arrive_later(put: Send) -> None:
    """From the kernel's buffers, when a newer version may have been uploaded."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        sending = pool.submit(put, url, bytes(MIB), **BRIEF)
        with listening.accept()[0] as connection:
            connection.recv(1024)
            result = sending.result()
            assert isinstance(result, BaseException)
            assert classify(result).code in ("send_timeout", "read_timeout")
            with pytest.raises(ConnectionResetError):
                read_to_the_end(connection)


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_a_completion_that_is_kept_alive_is_waited_for(put: Send, proxy: FaultProxy) -> None:
    """Amazon sends blanks for as long as it takes."""
    xml = (
        b"<CompleteMultipartUploadResult><ETag>kept-alive-1</ETag></CompleteMultipartUploadResult>"
    )
    proxy.inject(Alive(xml, 4.5), "POST", "uploadId")
    proxy.inject(Answer(200, b"", {"Content-Length": str(LARGE)}), "HEAD", times=None)
    result = put(proxy.url, bytes(LARGE), read_timeout=0.4)
    assert isinstance(result, Receipt), result
    assert result.etag == "kept-alive-1"


@pytest.mark.parametrize("size", [9, 2 * MIB, LARGE])
def test_interim_answers_are_passed_over(put: Send, proxy: FaultProxy, size: int) -> None:
    """RFC 9110, section 15.2: any number of them, asked for or not."""
    early = b'HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nETag: "another"\r\n\r\n'
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" + early + b"HTTP/1.1 100 Continue\r\n\r\n" + early
    proxy.inject(Preceded(interim), times=None)
    result = put(proxy.url, bytes(size))
    assert isinstance(result, Receipt), result
    assert result.etag not in (None, "another")
    assert not result.unverified


@pytest.mark.parametrize("size", [9, 2 * MIB, LARGE])
def test_trailers_are_passed_over(put: Send, proxy: FaultProxy, size: int) -> None:
    """RFC 9110, section 6.5: what comes behind the body may be discarded."""
    proxy.inject(Trailed(b'Via: x HTTP/1.1\r\nETag: "another"\r\n'), times=None)
    result = put(proxy.url, bytes(size))
    assert isinstance(result, Receipt), result
    assert result.etag not in (None, "another")
    assert not result.unverified


@pytest.mark.parametrize("greeting", ["reset", "cut", "reset-hello"])
def test_the_connection_breaks_before_the_request(
    put: Send, proxy: FaultProxy, greeting: Any
) -> None:
    proxy.greeting = greeting
    expect(put(proxy.url), TRANSIENT, "connection_reset")


#: Where nobody is.
ELSEWHERE: Final = "http://127.0.0.1:1/"


@contextmanager
def full_port() -> Iterator[int]:
    """Listen on a port whose queue is full, so that further connections get no answer at all."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(address)
            except TimeoutError:
                break
        else:
            pytest.fail("the queue of a listening socket has no end here")
        yield address[1]


def test_no_answer_to_the_connection(put: Send) -> None:
    with full_port() as port:
        expect(put(f"http://127.0.0.1:{port}", **BRIEF), TRANSIENT, "connect_timeout")


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(authority.cert_pem, tmp_path, monkeypatch)


@pytest.fixture
def secure(rclone_server: S3Server, authority: trustme.CA) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address, tls=server_tls(authority, "127.0.0.1")) as running:
        yield running


def test_certificate_of_an_unknown_authority(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    expect(put(secure.url), PERMANENT, "tls_certificate")
    assert secure.requests == []


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificate_of_an_authority_named_in_the_environment(
    put: Send, secure: FaultProxy, trusted: None, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    bundle = os.environ["AWS_CA_BUNDLE"]
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv(variable, bundle)
    assert isinstance(put(secure.url), Receipt)


@pytest.mark.skipif(not shutil.which("openssl"), reason="takes openssl to name certificates")
def test_certificate_of_an_authority_in_a_directory(
    put: Send, secure: FaultProxy, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_directory(monkeypatch)
    assert isinstance(put(secure.url), Receipt)


def trust_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the directory that has the file with authorities, instead of it."""
    directory = os.path.dirname(os.environ["AWS_CA_BUNDLE"])
    subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
    monkeypatch.setenv("AWS_CA_BUNDLE", directory)


@pytest.fixture
def installed(trusted: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that only the system knows by itself."""
    bundle = os.environ["AWS_CA_BUNDLE"]
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return bundle


@pytest.mark.parametrize("name", ["ca.pem", "jörg.pem", os.fsdecode(b"j\xf6rg")], ids=ascii)
def test_certificate_of_an_authority_that_the_system_has(
    put: Send, secure: FaultProxy, installed: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    moved = os.path.join(os.path.dirname(installed), name)
    os.rename(installed, moved)
    monkeypatch.setenv("SSL_CERT_FILE", moved)
    assert isinstance(put(secure.url), Receipt)


@pytest.mark.skipif(not shutil.which("openssl"), reason="takes openssl to name certificates")
@pytest.mark.parametrize("content", ["", "no certificate", None])
def test_the_systems_other_certificates_count_where_some_cannot_be_read(
    put: Send,
    secure: FaultProxy,
    installed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
) -> None:
    directory = os.path.dirname(installed)
    subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
    unsound = tmp_path / "unsound"
    if content is not None:
        unsound.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(unsound))
    monkeypatch.setenv("SSL_CERT_DIR", f"/nowhere:{directory}")
    assert isinstance(put(secure.url), Receipt)


@pytest.mark.skipif(not shutil.which("openssl"), reason="takes openssl to name certificates")
def test_a_file_and_a_directory_of_the_systems_both_count(
    put: Send, secure: FaultProxy, installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    trustme.CA().cert_pem.write_to_path(str(others / "other.pem"))
    subprocess.run(["openssl", "rehash", others], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", installed)
    monkeypatch.setenv("SSL_CERT_DIR", str(others))
    assert isinstance(put(secure.url), Receipt)
    monkeypatch.setenv("SSL_CERT_FILE", str(others / "other.pem"))
    expect(put(secure.url), PERMANENT, "tls_certificate")
    subprocess.run(["openssl", "rehash", tmp_path], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert isinstance(put(secure.url), Receipt)


def test_boto3_takes_an_authority_that_is_installed_meanwhile(
    secure: FaultProxy,
    authority: trustme.CA,
    bucket: str,
    opened: Open,
    installed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libcurl remembers what it read, as test_curl.py has it."""
    trustme.CA().cert_pem.write_to_path(installed)
    monkeypatch.setenv("SSL_CERT_FILE", installed)
    upload = Upload(1, bucket, "key", opened(b"data"), 4)
    with closing(UPLOADERS["boto3"](profile(secure.url))) as uploader:
        expect(send(uploader, upload), PERMANENT, "tls_certificate")
        authority.cert_pem.write_to_path(installed)
        assert isinstance(send(uploader, upload), Receipt)


def test_what_is_named_counts_alone(
    put: Send, secure: FaultProxy, installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does for the AWS CLI."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", installed)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    expect(put(secure.url), PERMANENT, "tls_certificate")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    assert isinstance(put(secure.url), Receipt)


@pytest.mark.parametrize("name", ["jörg", "ca bundle", os.fsdecode(b"j\xf6rg")], ids=ascii)
def test_authorities_lie_below_any_directory(
    put: Send, secure: FaultProxy, trusted: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bundle = Path(os.environ["AWS_CA_BUNDLE"])
    directory = bundle.parent / name
    directory.mkdir()
    named = bundle.rename(directory / "ca.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(named))
    assert isinstance(put(secure.url), Receipt)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(directory))  # no certificate is found by its name there
    expect(put(secure.url), PERMANENT, "tls_certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(directory / "other.pem"))
    expect(put(secure.url), PERMANENT, "ca_bundle")


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_an_empty_list_of_authorities_trusts_nobody_new(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Some versions of botocore verify nothing then."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, "")
    expect(put(secure.url), PERMANENT, "tls_certificate")
    assert secure.requests == []


def test_certificate_of_another_host(put: Send, authority: trustme.CA, trusted: None) -> None:
    with FaultProxy(tls=server_tls(authority, "elsewhere.invalid")) as proxy:
        expect(put(proxy.url), PERMANENT, "tls_certificate")


@pytest.fixture(params=CHAINS, ids=lambda chain: chain.__name__)
def half_trusted(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """Of whose chain one certificate is trusted."""
    tls, trusted = request.param("127.0.0.1", "store.invalid")
    trust(trusted, tmp_path, monkeypatch)
    return tls


def test_whichever_certificate_of_a_chain_is_trusted(
    put: Send, rclone_server: S3Server, half_trusted: ssl.SSLContext
) -> None:
    with FaultProxy(rclone_server.address, tls=half_trusted) as store:
        assert isinstance(put(store.url), Receipt)


def test_a_trusted_certificate_of_a_server_is_trusted_for_no_other(
    put: Send, rclone_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    trust(authority.issue_cert("127.0.0.1").cert_chain_pems[0], tmp_path, monkeypatch)
    with FaultProxy(rclone_server.address, tls=server_tls(authority, "127.0.0.1")) as another:
        expect(put(another.url), PERMANENT, "tls_certificate")
        assert another.requests == []


def test_no_file_with_authorities(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    expect(put(secure.url), PERMANENT, "ca_bundle")


def test_a_file_without_authorities(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", __file__)
    expect(put(secure.url), PERMANENT, "ca_bundle")


@pytest.mark.parametrize("rest", [b"", b"MIIB"])
def test_a_damaged_file_with_authorities(
    put: Send, secure: FaultProxy, trusted: None, rest: bytes
) -> None:
    """As one that was cut off where the disk was full."""
    bundle = Path(os.environ["AWS_CA_BUNDLE"])
    whole = bundle.read_bytes()
    bundle.write_bytes(whole + whole[: len(whole) // 2] + rest)
    expect(put(secure.url), PERMANENT, "ca_bundle")


def test_a_certificate_without_names_of_hosts(
    put: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is only its common name is none for boto3."""
    tls, trusted = nameless("127.0.0.2")
    trust(trusted, tmp_path, monkeypatch)
    with FaultProxy(tls=tls) as proxy:
        expect(put(proxy.url), PERMANENT, "tls_certificate")


def test_https_to_a_port_that_speaks_http(put: Send, rclone_server: S3Server) -> None:
    expect(put(rclone_server.url.replace("http:", "https:")), PERMANENT, "not_tls")


@pytest.mark.parametrize(
    ("greeting", "codes"),
    [
        ("cut-hello", {"tls_handshake"}),
        ("reset-hello", {"connection_reset"}),
        ("stall", {"read_timeout", "connect_timeout"}),
    ],
)
def test_the_handshake_breaks(
    put: Send, secure: FaultProxy, trusted: None, greeting: Any, codes: set[str]
) -> None:
    secure.greeting = greeting
    result = put(secure.url, **(BRIEF if greeting == "stall" else {}))
    assert isinstance(result, BaseException)
    verdict = classify(result)
    assert verdict.kind == TRANSIENT
    assert verdict.code in codes


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(407, PERMANENT, "proxy_denied"), (503, TRANSIENT, "proxy")],
)
def test_an_http_proxy_refuses(
    put: Send, monkeypatch: pytest.MonkeyPatch, status: int, kind: str, code: str
) -> None:
    with FaultProxy() as between:
        between.inject(Answer(status), "CONNECT", times=None)
        monkeypatch.setenv("HTTPS_PROXY", between.url.replace("//", "//user:hunter2@"))
        message = expect(put("https://store.invalid"), kind, code)
    assert "hunter2" not in message


def test_an_http_proxy_passes_on(
    put: Send, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://user:hunter2@"))
    assert isinstance(put("http://store.invalid:9000"), Receipt)
    assert {each.headers["host"] for each in proxy.requests} == {"store.invalid:9000"}
    assert {"proxy-authorization" in each.headers for each in proxy.requests} == {True}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("us%20er:p%40ss%3Aw%C3%B6rd", "us er:p@ss:wörd".encode()),
        ("jörg:wörd", "jörg:wörd".encode()),
        ("jörg:wörd".encode("latin-1"), "jörg:wörd".encode("latin-1")),
        ("j%F6rg:a%0Ab", b"j\xf6rg:a\nb"),
        ("user:a:b%c%25|<>{}^`\"'$&", b"user:a:b%c%|<>{}^`\"'$&"),
        ("user", b"user:"),
        (":word", b":word"),
    ],
    ids=ascii,
)
def test_who_an_http_proxy_lets_through_may_have_any_password(
    put: Send,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    written: str | bytes,
    meant: bytes,
) -> None:
    address = proxy.url.replace("//", f"//{os.fsdecode(written)}@")
    monkeypatch.setenv("HTTP_PROXY", address)
    assert isinstance(put("http://store.invalid:9000"), Receipt)
    asked = {each.headers["proxy-authorization"] for each in proxy.requests}
    assert asked == {f"Basic {base64.b64encode(meant).decode()}"}


@pytest.mark.parametrize("written", ["HTTP://{}/", "//{}/any/path?query", "{}"])
def test_the_address_of_an_http_proxy_may_be_written_in_several_ways(
    put: Send, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", written.format(proxy.url.removeprefix("http://")))
    assert isinstance(put("http://store.invalid:9000"), Receipt)
    assert {"proxy-authorization" in each.headers for each in proxy.requests} == {False}


@pytest.mark.parametrize(
    "address",
    [
        *("us:SEC/RETPW@127.0.0.1:9", "us:SEC#RET/PW@127.0.0.1:9", "us:SEC?RETPW@127.0.0.1:9"),
        *("http://us/SECRETPW@127.0.0.1:9", "http://us:SECRETPW@127.0.0.1:99999", "http://:9"),
        *("http://us:SECRETPW@[::1:9", "http://us:SECRETPW@127.0.0.1:0", "foo bar"),
        *("http://us:SEC RETPW@127.0.0.1:9", "http://us:SEC\nRETPW@127.0.0.1:9"),
        *("http://us:SEC@RETPW@127.0.0.1:9", "http://us:SEC\\RETPW@127.0.0.1:9"),
        *("http://us:SEC%00RETPW@127.0.0.1:9", "http://us:SECRETPW@bad host:9"),
        *("ftp://us:SECRETPW@127.0.0.1:9", "http://us:SECRETPW@[::1::2]:9", "http://us:SECRETPW"),
        *("http://us:SECRETPW@h..h:9", "http://us:SECRETPW@höst:9", " us:SECRETPW@127.0.0.1:9"),
    ],
)
def test_what_is_no_address_of_a_proxy_is_not_told(
    put: Send, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    message = expect(put("http://store.invalid"), TRANSIENT, "proxy")
    assert "HTTP_PROXY is no address of a proxy; where user" in message
    assert not re.search("SEC|RET|PW@|us:", message)


#: No three letters of it come in a row by chance.
HUSH = "Zq7Xw9Kj2Vp4"

# What an address is made of, with much that it must not have.
_ODD = st.just("") | st.text("u\u00f6\udcf6%0:@/?#\\ \n\t\x7f[]{}<>\"'|^`$&;=+~", max_size=3)


@st.composite
def proxies(draw: st.DrawFn) -> str:
    cut = draw(st.integers(3, len(HUSH)))
    schemes = ["", "http://", "HTTP://", "//", "https://", "socks5h://", "ftp://", "http:/", " "]
    hosts = ["127.0.0.1:9", "127.0.0.1", "[::1]:9", "[::1", "[::1::2]:9", "bad host", "a..b", ""]
    return "".join(
        (
            draw(st.sampled_from(schemes)),
            *(draw(_ODD), ":", HUSH[:cut], draw(_ODD), HUSH[cut:], draw(_ODD), "@"),
            *(draw(st.sampled_from(hosts)), draw(_ODD)),
        )
    )


@pytest.mark.parametrize("kind", UPLOADERS)
@given(address=proxies())
def test_no_part_of_a_proxys_password_is_told(kind: str, address: str) -> None:
    """Whatever the one library or the other makes of it; nothing listens there."""
    with patch.dict(os.environ, {"HTTP_PROXY": address}):
        used = profile("http://store.invalid:9000")
        failures = (TransportFailed, ProxyConnectionError)
        with closing(UPLOADERS[kind](used)) as uploader, pytest.raises(failures) as caught:
            uploader.ensure_bucket("bucket")
    verdict = classify(caught.value)
    assert (verdict.kind, verdict.code) == (TRANSIENT, "proxy")
    said = f"{verdict.message} {caught.value!r}"
    assert [HUSH[n : n + 3] for n in range(len(HUSH) - 2) if HUSH[n : n + 3] in said] == []


def test_a_proxy_that_speaks_socks_takes_libcurl(
    put: Send, make_uploader: MakeUploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_socks() as (address, heard):
        monkeypatch.setenv("HTTP_PROXY", f"socks5h://user:{HUSH}@{address}")
        message = expect(put("http://store.invalid"), TRANSIENT, "proxy")
    assert HUSH not in message
    if make_uploader is UPLOADERS["boto3"]:
        assert "HTTP_PROXY is a SOCKS proxy, to which boto3 cannot speak" in message
        assert heard == []
    else:
        assert heard == [b"\x01\x04user%c%b" % (len(HUSH), HUSH.encode())]


@contextmanager
def refusing_socks() -> Iterator[tuple[str, list[bytes]]]:
    """A SOCKS proxy that lets somebody in, but connects to nothing (RFC 1928, RFC 1929); its
    address, with what it is told of who asks."""
    heard: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            connection = listening.accept()[0]
            with connection:
                connection.recv(512)
                connection.sendall(b"\x05\x02")
                heard.append(connection.recv(512))
                connection.sendall(b"\x01\x00")
                connection.recv(512)
                connection.sendall(b"\x05\x01\x00\x01" + bytes(6))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}", heard
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_http_proxy_is_passed_by(
    put: Send, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        monkeypatch.setenv("ALL_PROXY", between.url)
        assert isinstance(put(proxy.url), Receipt)  # NO_PROXY has 127.0.0.1
        assert between.requests == []


def test_an_http_proxy_that_is_down(put: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy() as between:
        between.down()
        monkeypatch.setenv("HTTP_PROXY", between.url)
        expect(put("http://store.invalid"), TRANSIENT, "proxy")
        between.up()


#: The two ways through a proxy: what it reads itself, what goes through a tunnel.
STORES: Final = ("http://store.invalid:9000", "https://store.invalid:9000")


def _port(between: FaultProxy | S3Server) -> int:
    return between.port if isinstance(between, FaultProxy) else between.address[1]


def through(
    monkeypatch: pytest.MonkeyPatch, between: FaultProxy | S3Server, scheme: str = "https"
) -> None:
    """Have every store be asked through a proxy, to which one speaks TLS as a rule."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, f"{scheme}://user:hunter2@127.0.0.1:{_port(between)}")


def blamed(message: str, between: FaultProxy | S3Server) -> bool:
    return f"(127.0.0.1:{_port(between)}: " in message and "hunter2" not in message


@pytest.mark.parametrize(
    "directory",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not shutil.which("openssl"), reason="takes openssl to name certificates"
            ),
        ),
    ],
)
def test_an_https_proxy_passes_on(
    put: Send, secure: FaultProxy, trusted: None, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    if directory:
        trust_directory(monkeypatch)
    through(monkeypatch, secure)
    assert isinstance(put(STORES[0]), Receipt)
    assert {"proxy-authorization" in each.headers for each in secure.requests} == {True}


def test_an_https_proxy_lets_a_tunnel_through(
    put: Send,
    rclone_server: S3Server,
    secure: FaultProxy,
    authority: trustme.CA,
    trusted: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    through(monkeypatch, secure)
    with FaultProxy(rclone_server.address, tls=server_tls(authority, "store.invalid")) as store:
        secure.inject(Tunnel(("127.0.0.1", store.port)), "CONNECT", times=None)
        assert isinstance(put(STORES[1]), Receipt)
        assert not any("proxy-authorization" in each.headers for each in store.requests)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("url", STORES)
def test_an_https_proxy_with_a_certificate_of_an_unknown_authority(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    through(monkeypatch, secure)
    message = expect(put(url), TRANSIENT, "proxy")
    assert blamed(message, secure)
    assert "AWS_CA_BUNDLE" in message
    assert secure.requests == []


def test_an_https_proxy_of_an_authority_that_the_system_has(
    put: Send, secure: FaultProxy, installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, secure)
    monkeypatch.setenv("SSL_CERT_FILE", installed)
    assert isinstance(put(STORES[0]), Receipt)


@pytest.mark.parametrize("url", STORES)
def test_an_https_proxy_of_whose_chain_one_certificate_is_trusted(
    put: Send,
    rclone_server: S3Server,
    half_trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    with (
        FaultProxy(rclone_server.address, tls=half_trusted) as between,
        FaultProxy(rclone_server.address, tls=half_trusted) as store,
    ):
        through(monkeypatch, between)
        between.inject(Tunnel(("127.0.0.1", store.port)), "CONNECT", times=None)
        assert isinstance(put(url), Receipt)


@pytest.mark.parametrize("url", STORES)
def test_an_https_proxy_with_a_certificate_of_another_host(
    put: Send, authority: trustme.CA, trusted: None, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with FaultProxy(tls=server_tls(authority, "elsewhere.invalid")) as between:
        through(monkeypatch, between)
        assert blamed(expect(put(url), TRANSIENT, "proxy"), between)
        assert between.requests == []


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("bundle", ["/nowhere/ca.pem", __file__])
def test_an_https_proxy_takes_authorities_that_can_be_read(
    put: Send, secure: FaultProxy, monkeypatch: pytest.MonkeyPatch, bundle: str, url: str
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    through(monkeypatch, secure)
    expect(put(url), PERMANENT, "ca_bundle")
    assert secure.requests == []


@pytest.mark.parametrize("url", STORES)
def test_an_https_proxy_that_speaks_http(
    put: Send, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    through(monkeypatch, rclone_server)
    message = expect(put(url), TRANSIENT, "proxy")
    assert blamed(message, rclone_server)
    assert "write http://" in message


@pytest.mark.parametrize("url", STORES)
@pytest.mark.parametrize("greeting", ["cut-hello", "reset-hello", "stall"])
def test_the_handshake_with_an_https_proxy_breaks(
    put: Send,
    secure: FaultProxy,
    trusted: None,
    monkeypatch: pytest.MonkeyPatch,
    greeting: Any,
    url: str,
) -> None:
    secure.greeting = greeting
    through(monkeypatch, secure)
    result = put(url, **(BRIEF if greeting == "stall" else {}))
    assert blamed(expect(result, TRANSIENT, "proxy"), secure)


def test_an_https_proxy_breaks_after_a_tunnel(
    make_uploader: MakeUploader,
    opened: Open,
    bucket: str,
    rclone_server: S3Server,
    secure: FaultProxy,
    authority: trustme.CA,
    trusted: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an earlier request learned of the proxy says nothing of this one."""
    through(monkeypatch, secure)
    with (
        FaultProxy(rclone_server.address, tls=server_tls(authority, "store.invalid")) as store,
        closing(make_uploader(profile(STORES[1]))) as uploader,
    ):
        secure.inject(Tunnel(("127.0.0.1", store.port)), "CONNECT", times=None)
        assert isinstance(send(uploader, Upload(1, bucket, "key", opened(b"1"), 1)), Receipt)
        secure.down()
        secure.greeting = "cut-hello"
        secure.up()
        result = send(uploader, Upload(2, bucket, "key", opened(b"2"), 1))
        assert blamed(expect(result, TRANSIENT, "proxy"), secure)


@pytest.fixture(params=["http", "https"])
def gate(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    trusted: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultProxy]:
    """A proxy on the way to every store."""
    tls = server_tls(authority, "127.0.0.1") if request.param == "https" else None
    with FaultProxy(tls=tls) as between:
        through(monkeypatch, between, request.param)
        yield between


@pytest.mark.parametrize(
    "fault",
    [
        *(Stall("request"), Cut("request"), Cut("request", reset=False)),
        *(Unending(b"H", b"T", 0.05), Raw(b"HTTP/1.1 200"), Raw(b"SSH-2.0-OpenSSH\r\n")),
    ],
    ids=["mute", "reset", "end", "drip", "part", "ssh"],
)
def test_a_proxy_that_does_not_answer_connect(put: Send, gate: FaultProxy, fault: Fault) -> None:
    """That belongs to connecting, whatever the read time-out."""
    gate.inject(fault, "CONNECT", times=None)
    begun = time.monotonic()
    result = put(STORES[1], connect_timeout=0.5, read_timeout=30.0)
    assert time.monotonic() - begun < 10.0
    message = expect(result, TRANSIENT, "proxy")
    assert blamed(message, gate)
    assert "timeout" not in message


@pytest.mark.parametrize("fault", [Stall("request"), Cut("request", reset=False)], ids=repr)
def test_what_fails_in_a_tunnel_that_was_used_before_is_the_stores(
    make_uploader: MakeUploader,
    opened: Open,
    bucket: str,
    rclone_server: S3Server,
    gate: FaultProxy,
    authority: trustme.CA,
    fault: Fault,
) -> None:
    with (
        FaultProxy(rclone_server.address, tls=server_tls(authority, "store.invalid")) as store,
        closing(make_uploader(profile(STORES[1]), read_timeout=0.5)) as uploader,
    ):
        gate.inject(Tunnel(("127.0.0.1", store.port)), "CONNECT", times=None)
        assert isinstance(send(uploader, Upload(1, bucket, "key", opened(b"1"), 1)), Receipt)
        store.inject(fault, "PUT", times=None)
        result = send(uploader, Upload(2, bucket, "key", opened(b"2"), 1))
    code = "read_timeout" if isinstance(fault, Stall) else "connection_reset"
    assert f":{gate.port}" not in expect(result, TRANSIENT, code)


class SlowHandshake(Fault):
    """A tunnel to what answers with a record of TLS, a byte now and then."""

    def play(self, exchange: Exchange) -> None:
        exchange.conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        exchange.conn.recv(1)
        exchange.conn.sendall(b"\x16\x03\x03\x40\x00")
        while not exchange.closing.wait(0.05):
            exchange.conn.sendall(b"\x02")
        raise Gone


@pytest.mark.parametrize(
    "fault",
    [SlowHandshake(), Unending(b"HTTP/1.1 200 OK\r\nX:", b"x", 0.05)],
    ids=["handshake", "header"],
)
def test_what_drips_on_the_way_through_a_proxy_is_given_up(
    put: Send, gate: FaultProxy, fault: Fault
) -> None:
    """Each byte of it is in time; with TLS to the proxy that is TLS within TLS."""
    gate.inject(fault, "CONNECT", times=None)
    begun = time.monotonic()
    result = put(STORES[1], connect_timeout=0.5, read_timeout=30.0)
    assert time.monotonic() - begun < 10.0
    assert isinstance(result, BaseException)
    assert classify(result).kind == TRANSIENT


def test_behind_a_proxy_the_handshake_has_the_time_for_connecting(
    put: Send, gate: FaultProxy
) -> None:
    """A store, or what is in its place, that says nothing there."""
    with FaultProxy() as store:
        store.greeting = "stall"
        gate.inject(Tunnel(("127.0.0.1", store.port)), "CONNECT", times=None)
        result = put(STORES[1], connect_timeout=0.5, read_timeout=30.0)
    message = expect(result, TRANSIENT, "connect_timeout")
    assert "(store.invalid:9000: " in message


@pytest.mark.parametrize("speaks_tls", [False, True])
def test_behind_an_https_proxy_it_is_the_store(
    put: Send,
    rclone_server: S3Server,
    secure: FaultProxy,
    trusted: None,
    monkeypatch: pytest.MonkeyPatch,
    speaks_tls: bool,
) -> None:
    through(monkeypatch, secure)
    with FaultProxy(tls=server_tls(trustme.CA(), "store.invalid")) as store:
        address = ("127.0.0.1", store.port) if speaks_tls else rclone_server.address
        secure.inject(Tunnel(address), "CONNECT", times=None)
        code = "tls_certificate" if speaks_tls else "not_tls"
        assert "(store.invalid:9000: " in expect(put(STORES[1]), PERMANENT, code)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (s3_error(500, "InternalError", "We encountered an internal error."), TRANSIENT, None),
        (s3_error(503, "SlowDown", "Please reduce your request rate."), TRANSIENT, None),
        (s3_error(503, "ServiceUnavailable", "no tomes available"), TRANSIENT, None),
        (s3_error(400, "RequestTimeout", "Your socket connection was idle."), TRANSIENT, None),
        (s3_error(400, "BadDigest", "The MD5 did not match."), TRANSIENT, None),
        (s3_error(429, "TooManyRequests", "Slow"), TRANSIENT, None),
        (s3_error(409, "OperationAborted", "A conflict"), TRANSIENT, None),
        (
            s3_error(307, "TemporaryRedirect", "Please re-send.", Location=ELSEWHERE),
            TRANSIENT,
            None,
        ),
        (Answer(429), TRANSIENT, "http_429"),
        (Answer(408), TRANSIENT, "http_408"),
        (
            Answer(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
            TRANSIENT,
            "http_502",
        ),
        (Answer(520), TRANSIENT, "http_520"),
        (s3_error(403, "AccessDenied", "Access Denied"), PERMANENT, None),
        (s3_error(403, "AccessDenied", "Storage cap exceeded"), PERMANENT, "cap_exceeded"),
        (s3_error(400, "EntityTooLarge", "Your proposed upload is too large."), PERMANENT, None),
        (s3_error(400, "ExpiredToken", "The token has expired."), PERMANENT, None),
        (s3_error(403, "RequestTimeTooSkewed", "The difference is too large."), PERMANENT, None),
        (s3_error(403, "AccessDenied", TOO_OLD), PERMANENT, "RequestTimeTooSkewed"),
        (s3_error(403, "AccessDenied", "at no request time"), PERMANENT, "AccessDenied"),
        (s3_error(501, "NotImplemented", "A header you provided"), PERMANENT, None),
        (s3_error(400, "NeverHeardOf", "Something new"), PERMANENT, None),
        (s3_error(500, "NeverHeardOf", "Something new"), TRANSIENT, None),
        (s3_error(507, "InsufficientStorage", "Full"), TRANSIENT, None),
        (Answer(505), PERMANENT, "http_505"),
        (Answer(413, b"<html>", {"Content-Type": "text/html"}), PERMANENT, "http_413"),
        (Answer(301, b"", {"Location": "http://127.0.0.1:1/"}), TRANSIENT, "not_s3"),
        (Answer(301, b"<html></html>", {"Location": "https://127.0.0.1:1/"}), TRANSIENT, "not_s3"),
        (Answer(403, b"<html>" + bytes(200_000)), PERMANENT, "http_403"),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), TRANSIENT, "not_s3"),
        (Answer(307, b"<html></html>", {"Location": "/login"}), TRANSIENT, "not_s3"),
    ],
    ids=lambda value: repr(value)[-60:] if isinstance(value, Answer) else None,
)
def test_the_store_says_no(
    put: Send, proxy: FaultProxy, answer: Answer, kind: str, code: str | None
) -> None:
    proxy.inject(answer, "PUT", times=None)
    result: Any = put(proxy.url)
    message = expect(result, kind, code or result.response["Error"]["Code"])
    assert str(result.response["Error"].get("Message") or "") in message
    assert proxy.count("PUT") == 1, "one attempt is one request"


def warm(uploader: Uploader, bucket: str, opened: Open) -> None:
    """Have a connection that was used before."""
    for number in range(4):
        upload = Upload(number, bucket, f"warm-{number}", opened(b"x"), 1)
        assert isinstance(send(uploader, upload), Receipt)


@pytest.mark.parametrize("size", [4, 2 * MIB, LARGE])
@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_that_ends_after_it_was_used_before(
    make_uploader: MakeUploader,
    proxy: FaultProxy,
    bucket: str,
    opened: Open,
    size: int,
    reset: bool,
) -> None:
    """It is sent once more, on a new connection; what happens there is what happened."""
    data = bytes(size)
    with closing(make_uploader(profile(proxy.url))) as uploader:
        warm(uploader, bucket, opened)
        before = proxy.count("PUT")
        proxy.inject(Cut("stored", reset=reset), "PUT", times=None)
        result = send(uploader, Upload(9, bucket, "key", opened(data), size))
        expect(result, TRANSIENT, "connection_reset")
        # A part is tried three times at once; LARGE makes three of them.
        assert proxy.count("PUT") - before <= (9 if size == LARGE else 2)


@pytest.mark.parametrize("size", [4, 2 * MIB])
def test_a_connection_that_ends_within_an_answer_after_it_was_used_before(
    make_uploader: MakeUploader, proxy: FaultProxy, bucket: str, opened: Open, size: int
) -> None:
    """The store has the request, and has begun to say what it makes of it."""
    with closing(make_uploader(profile(proxy.url))) as uploader:
        warm(uploader, bucket, opened)
        before = proxy.count("PUT")
        proxy.inject(BROKEN_OFF, "PUT", times=None)
        result = send(uploader, Upload(9, bucket, "key", opened(bytes(size)), size))
        expect(result, TRANSIENT, "connection_reset")
        assert proxy.count("PUT") - before == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("farewell", ["close", "reset", "third", "idle"])
def test_connections_that_end_unannounced_fail_nothing(
    request: pytest.FixtureRequest,
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    trusted: None,
    bucket: str,
    opened: Open,
    scheme: str,
    farewell: Any,
) -> None:
    """A store may close what it has answered on at any time, also as the next request comes."""
    proxy = request.getfixturevalue("proxy" if scheme == "http" else "secure")
    proxy.farewell = farewell
    sizes = [*range(16), 2 * MIB, LARGE, *range(4)]
    data = [os.urandom(size) for size in sizes]
    uploads = [
        Upload(number, bucket, f"key-{number}", opened(each), len(each))
        for number, each in enumerate(data)
    ]
    with closing(make_uploader(profile(proxy.url))) as uploader:
        outcomes = list(transferred(uploader, uploads, Record().hooks()))
        assert [result for _, result in outcomes if not isinstance(result, Receipt)] == []
    assert [rclone_server.read(bucket, each.key) for each in uploads] == data
    assert rclone_server.unfinished(bucket) == []


@pytest.mark.parametrize("size", [4, LARGE])
def test_an_error_after_a_status_of_success(put: Send, proxy: FaultProxy, size: int) -> None:
    """The store began its answer too early; HEAD may well show what was there before."""
    error = s3_error(500, "InternalError", "We encountered an internal error.")
    proxy.inject(Answer(200, error.body, error.headers), "PUT", times=None)
    expect(put(proxy.url, bytes(size)), TRANSIENT, "InternalError")
    assert proxy.count("HEAD") == 0


@pytest.mark.parametrize("size", [4, LARGE])
def test_a_web_page_is_no_answer_of_a_store(put: Send, proxy: FaultProxy, size: int) -> None:
    """As where a network wants a login since the bucket was asked for."""
    page = b'<!doctype html>\n<html><head><meta charset="utf-8"></head></html>'
    proxy.inject(Answer(200, page, {"Content-Type": "text/html"}), "PUT", times=None)
    message = expect(put(proxy.url, bytes(size)), TRANSIENT, "not_s3")
    assert "correct AWS_ENDPOINT" in message
    assert proxy.count("HEAD") == 0


def test_a_name_in_the_message_is_no_cap(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "not authorized for arn:aws:s3:::b/cap/x"), "PUT")
    expect(put(proxy.url), PERMANENT, "AccessDenied")


def test_a_store_that_redirects_is_said_to(put: Send, proxy: FaultProxy) -> None:
    redirect = s3_error(307, "TemporaryRedirect", "Please re-send.", Location=ELSEWHERE)
    proxy.inject(redirect, "PUT", times=None)
    message = expect(put(proxy.url, bytes(LARGE)), TRANSIENT, "TemporaryRedirect")
    assert "sends this bucket's requests to another address" in message
    assert "AWS_REGION" in message
    assert "AWS_ENDPOINT" in message


REDIRECTS: Final = (301, 302, 303, 307, 308)


@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize("status", REDIRECTS)
def test_head_that_is_sent_elsewhere_is_asked_no_more(
    put: Send, proxy: FaultProxy, status: int, size: int
) -> None:
    """Neither does it name a region, nor would HEAD of the bucket."""
    proxy.inject(Answer(status, b"", {"Location": ELSEWHERE}), "HEAD", times=None)
    expect(put(proxy.url, bytes(size)), TRANSIENT, "not_s3")
    assert proxy.count("HEAD") == 1


@pytest.mark.parametrize("region", ["", "<Region>no region</Region>", "<Region><a/></Region>"])
@pytest.mark.parametrize("size", [4, LARGE])
def test_a_region_that_is_not_named_is_not_asked_for(
    put: Send, proxy: FaultProxy, size: int, region: str
) -> None:
    body = f"<Error><Code>PermanentRedirect</Code><Endpoint>x</Endpoint>{region}</Error>"
    redirect = Answer(301, body.encode(), {"Location": ELSEWHERE})
    proxy.inject(redirect, "PUT", times=None)
    proxy.inject(redirect, "POST", times=None)
    proxy.inject(Answer(301, b"", {"Location": ELSEWHERE}), "HEAD", times=None)
    expect(put(proxy.url, bytes(size)), PERMANENT, "PermanentRedirect")
    assert (proxy.count("HEAD"), proxy.count("PUT") + proxy.count("POST")) == (0, 1)


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize(
    ("code", "kind", "recorded"),
    [
        ("PermanentRedirect", PERMANENT, "PermanentRedirect"),
        ("TemporaryRedirect", TRANSIENT, "TemporaryRedirect"),
        ("", TRANSIENT, "not_s3"),
    ],
)
def test_what_sends_a_bucket_elsewhere_is_asked_with_what_code(
    make_uploader: MakeUploader,
    proxy: FaultProxy,
    bucket: str,
    status: int,
    code: str,
    kind: str,
    recorded: str,
) -> None:
    location = {"Location": ELSEWHERE}
    coded = s3_error(status, code, **location) if code else Answer(status, b"", location)
    proxy.inject(coded, "GET", f"^/{bucket}", times=None)
    proxy.inject(s3_error(403, "AccessDenied"), "GET", times=None)
    proxy.inject(Answer(status, b"", location), "HEAD", times=None)
    with closing(make_uploader(profile(proxy.url))) as uploader:
        with pytest.raises(ClientError) as caught:
            uploader.ensure_bucket(bucket)
        expect(caught.value, kind, recorded)
    asked = [each.method for each in proxy.requests if each.target.startswith(f"/{bucket}")]
    assert asked == ["HEAD", "GET"]


def test_head_that_names_the_region_of_a_bucket_is_followed(
    make_uploader: MakeUploader, moto_server: S3Server, bucket_name: Callable[[], str]
) -> None:
    bucket = moto_server.make_bucket(bucket_name())
    with FaultProxy(moto_server.address) as proxy:
        proxy.inject(s3_error(403, "AccessDenied"), "GET", times=None)
        proxy.inject(Answer(301, b"", {"x-amz-bucket-region": "eu-west-3"}), "HEAD")
        with closing(make_uploader(profile(proxy.url))) as uploader:
            uploader.ensure_bucket(bucket)
        asked = [each for each in proxy.requests if each.method == "HEAD"]
    regions = [each.headers["authorization"].split("/")[2] for each in asked]
    assert regions == ["us-east-1", "eu-west-3"]


def test_retry_after_is_heard(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(s3_error(503, "SlowDown", "slow", Retry_After="17"), "PUT")
    result = put(proxy.url)
    assert isinstance(result, BaseException)
    assert classify(result).retry_after == 17.0


def test_wrong_secret_key(put: Send, rclone_server: S3Server) -> None:
    result = put(rclone_server.url, secret_access_key="wrong")
    expect(result, PERMANENT, "SignatureDoesNotMatch")


def test_wrong_access_key(put: Send, rclone_server: S3Server) -> None:
    result = put(rclone_server.url, access_key_id="nobody")
    expect(result, PERMANENT, "InvalidAccessKeyId")


def test_a_token_that_no_header_can_carry_is_not_shown(put: Send, rclone_server: S3Server) -> None:
    result = put(rclone_server.url, session_token="very\nsecret")
    assert "secret" not in expect(result, PERMANENT, "configuration")


def test_no_such_bucket(make_uploader: MakeUploader, rclone_server: S3Server, opened: Open) -> None:
    with closing(make_uploader(profile(rclone_server.url))) as uploader:
        for size in (4, LARGE):
            upload = Upload(1, "no-such-bucket", "key", opened(bytes(size)), size)
            expect(send(uploader, upload), PERMANENT, "NoSuchBucket")


def trailer_settings(moto_server: S3Server, authority: trustme.CA) -> FaultProxy:
    return FaultProxy(moto_server.address, tls=server_tls(authority, "127.0.0.1"))


@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize("kind", ["directory", "closed", "unreadable"])
@pytest.mark.parametrize("provider", ["s3", "amazon"])
def test_the_file_cannot_be_read(
    make_uploader: MakeUploader,
    moto_server: S3Server,
    bucket_name: Callable[[], str],
    authority: trustme.CA,
    trusted: None,
    tmp_path: Path,
    provider: str,
    kind: str,
    size: int,
) -> None:
    """With `s3` the read fails while signing, with `amazon` over TLS in the middle of sending."""
    path = {"directory": str(tmp_path), "closed": os.devnull, "unreadable": "/proc/self/mem"}[kind]
    descriptor = os.open(path, os.O_RDONLY)
    if kind == "closed":
        os.close(descriptor)
    bucket = moto_server.make_bucket(bucket_name())
    with (
        trailer_settings(moto_server, authority) as proxy,
        closing(make_uploader(profile(proxy.url, provider))) as uploader,
    ):
        try:
            result = send(uploader, Upload(1, bucket, "key", descriptor, size))
        finally:
            if kind != "closed":
                os.close(descriptor)
        expect(result, PERMANENT, "local_io")
    assert moto_server.keys(bucket) == []
    assert moto_server.unfinished(bucket) == []


@pytest.mark.parametrize("provider", ["s3", "amazon"])
@pytest.mark.parametrize("size", [200_000, 11 * MIB])
def test_the_file_shrinks(
    make_uploader: MakeUploader,
    moto_server: S3Server,
    bucket_name: Callable[[], str],
    authority: trustme.CA,
    trusted: None,
    opened: Open,
    provider: str,
    size: int,
) -> None:
    bucket = moto_server.make_bucket(bucket_name())
    with (
        trailer_settings(moto_server, authority) as proxy,
        closing(make_uploader(profile(proxy.url, provider))) as uploader,
    ):
        result = send(uploader, Upload(1, bucket, "key", opened(bytes(size - 100)), size))
    expect(result, TRANSIENT, "changed")
    assert moto_server.keys(bucket) == []
    assert moto_server.unfinished(bucket) == []


@pytest.mark.parametrize("size", [0, 100_000, 11 * MIB])
def test_amazons_checksums_over_tls(
    make_uploader: MakeUploader,
    moto_server: S3Server,
    bucket_name: Callable[[], str],
    authority: trustme.CA,
    trusted: None,
    opened: Open,
    size: int,
) -> None:
    data = os.urandom(size)
    bucket = moto_server.make_bucket(bucket_name())
    with (
        trailer_settings(moto_server, authority) as proxy,
        closing(make_uploader(profile(proxy.url, "amazon"))) as uploader,
    ):
        result = send(uploader, Upload(1, bucket, "key", opened(data), size))
    assert isinstance(result, Receipt), result
    for each in proxy.requests:
        if each.method == "PUT":
            assert each.headers["x-amz-sdk-checksum-algorithm"] == "CRC32"
            announced = each.headers.get("x-amz-trailer", "")
            assert "x-amz-checksum-crc32" in (announced, *each.headers)
    assert moto_server.read(bucket, "key") == data


def test_interrupted_is_no_failure() -> None:
    assert classify(KeyboardInterrupt()).kind == INTERRUPTED


def test_only_providers_that_answer_it_are_asked_to_expect(put: Send, proxy: FaultProxy) -> None:
    data = bytes(2 * MIB)
    for provider in ("s3", "backblaze"):
        assert isinstance(put(proxy.url, data, provider=provider), Receipt)
    expectations = [each.headers.get("expect") for each in proxy.requests if each.method == "PUT"]
    assert expectations == [None, "100-continue"]


def test_garbled_answer_headers_do_not_matter(put: Send, proxy: FaultProxy) -> None:
    proxy.inject(Alter({"ETag": '"odd"', "x-amz-version-id": "v7"}), "PUT")
    result = put(proxy.url)
    assert isinstance(result, Receipt)
    assert (result.etag, result.version_id) == ("odd", "v7")
