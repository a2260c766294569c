"""flood-check's questions to stores, with real servers, sockets and certificates."""

import os
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from flood import models
from flood.check_directories import Remains
from flood.check_findings import ERROR, OK, STORE, WARNING, Finding
from flood.profiles import ENDPOINT, REGION, Profile
from flood.states import (
    COMPLETED,
    FAILED,
    INCOMING,
    INCOMING_TMP,
    PERMANENT,
    PROCESSING,
    STATES,
)
from tests.chains import CHAINS, Chain, trust
from tests.faults import Alter, Answer, Cut, Fault, Stall, Unending, s3_error
from tests.proxy import FaultProxy
from tests.servers import SECRET_ACCESS_KEY, S3Server
from tests.spooling import House, quick_house
from tests.uploading import UPLOADERS, profile, wait_until
from workers.authorities import Authorities, authorities
from workers.check import Check
from workers.classify import classify
from workers.probe import Probe
from workers.probe_upload import ProbeUpload
from workers.probe_way import Way


def now() -> datetime:
    return datetime.now(timezone.utc)


def ask(
    used: Profile,
    *buckets: str,
    at: Callable[[], datetime] = now,
    unneeded: Collection[str] = (),
    socks: bool = False,
) -> list[Finding]:
    """What one store answers; no file waits for the buckets that are `unneeded`."""
    probe = Probe(
        used,
        buckets,
        now=at,
        clock=time.monotonic,
        stopping=lambda: False,
        again=lambda *words: " ".join(("flood-check", *words)),
        remains=lambda name: Remains("", f"remove {name}" if name in unneeded else None),
        socks=socks,
    )
    found = list(probe.ask())
    assert not any(SECRET_ACCESS_KEY in repr(each) for each in found)
    return found


def statuses(found: list[Finding]) -> dict[str, str]:
    assert all(each.topic == STORE and each.profile == "test" for each in found)
    assert all(each.meaning and each.remedy for each in found if each.status != OK)
    return {each.about: each.status for each in found}


@pytest.fixture
def proxy(rclone_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(rclone_server.address) as running:
        yield running


@pytest.fixture
def bucket(rclone_server: S3Server, bucket_name: Callable[[], str]) -> str:
    return rclone_server.make_bucket(bucket_name())


# --- the way -------------------------------------------------------------------------------------


def test_a_store_that_is_well(rclone_server: S3Server, bucket: str) -> None:
    found = ask(profile(rclone_server.url), bucket)
    assert statuses(found) == {
        "TCP": OK,
        "ListBuckets": OK,
        "clock": OK,
        f"bucket {bucket}": OK,
    }


def test_a_host_that_has_no_address() -> None:
    [finding] = ask(profile("https://no-such-host.invalid"))
    assert (finding.about, finding.status) == ("DNS", ERROR)
    assert "AWS_ENDPOINT" in finding.remedy


def test_a_host_whose_name_comes_from_the_region() -> None:
    way = Way(
        profile="test",
        address="https://no-such-host.invalid",
        hint=REGION,
        authorities=Authorities(),
        now=now,
        clock=time.monotonic,
        stopping=lambda: False,
    )
    [finding] = way.walk()
    assert (finding.about, finding.status) == ("DNS", ERROR)
    assert "AWS_REGION" in finding.remedy


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        [finding] = ask(profile(f"http://127.0.0.1:{unused.getsockname()[1]}"))
    assert (finding.about, finding.status) == ("TCP", ERROR)
    assert "Connection refused" in finding.found


def test_a_server_that_says_nothing_is_not_waited_for(proxy: FaultProxy) -> None:
    proxy.inject(Stall("request"), times=None)
    begun = time.monotonic()
    found = ask(profile(proxy.url))
    assert time.monotonic() - begun < 30
    assert statuses(found) == {"TCP": OK, "ListBuckets": ERROR}
    assert "read_timeout" in found[-1].found


def server_tls(authority: trustme.CA, host: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **options).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    trust(authority.cert_pem, tmp_path, monkeypatch)
    return authority


#: For which host and how many days a certificate is, with what is found of it.
CERTIFICATES = pytest.mark.parametrize(
    ("host", "left", "status", "words"),
    [
        ("127.0.0.1", 300, OK, "certificate until"),
        ("127.0.0.1", 3, WARNING, "which is in"),
        ("127.0.0.1", -1, ERROR, "expired"),
        ("other.example.com", 300, ERROR, "mismatch"),
    ],
)


@CERTIFICATES
def test_certificates(
    rclone_server: S3Server, trusted: trustme.CA, host: str, left: int, status: str, words: str
) -> None:
    tls = server_tls(trusted, host, not_after=now() + timedelta(days=left))
    with FaultProxy(rclone_server.address, tls=tls) as secure:
        found = ask(profile(secure.url))
    assert statuses(found)["TLS"] == status
    [tls_finding] = [each for each in found if each.about == "TLS"]
    assert words in tls_finding.found
    assert ("ListBuckets" in statuses(found)) == (status != ERROR)


def test_a_certificate_of_an_authority_that_nobody_knows(
    rclone_server: S3Server, authority: trustme.CA
) -> None:
    with FaultProxy(rclone_server.address, tls=server_tls(authority, "127.0.0.1")) as secure:
        found = ask(profile(secure.url))
    assert statuses(found) == {"TCP": OK, "TLS": ERROR}
    assert f"who has a certificate in {authorities()}" in found[-1].found
    assert "update-ca-certificates" in found[-1].remedy
    assert "AWS_CA_BUNDLE" in found[-1].remedy


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.__name__)
def test_whichever_certificate_of_a_chain_is_trusted_flood_check_trusts_too(
    rclone_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chain: Callable[..., Chain],
) -> None:
    """As transfers do, or it would speak of files that fail while all are delivered."""
    tls, certificate = chain("127.0.0.1")
    trust(certificate, tmp_path, monkeypatch)
    with FaultProxy(rclone_server.address, tls=tls) as secure:
        found = ask(profile(secure.url))
    assert statuses(found) == {"TCP": OK, "TLS": OK, "ListBuckets": OK, "clock": OK}


@pytest.mark.parametrize("kind", ["file", "directory", "usual"])
def test_an_authority_among_the_systems(
    rclone_server: S3Server, trusted: trustme.CA, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bundle = os.environ["AWS_CA_BUNDLE"]
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    directory = os.path.dirname(bundle)
    subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
    built_in = {"file": Authorities(bundle), "directory": Authorities(None, directory)}
    system = authorities(built_in.get(kind, Authorities("/nowhere")), [bundle])
    with FaultProxy(rclone_server.address, tls=server_tls(trusted, "127.0.0.1")) as secure:
        way = Way(
            profile="test",
            address=secure.url,
            hint=ENDPOINT,
            authorities=system,
            now=now,
            clock=time.monotonic,
            stopping=lambda: False,
        )
        assert statuses(list(way.walk())) == {"TCP": OK, "TLS": OK}


def test_a_proxy_variable_that_is_no_address(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://us:SEC/RET@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    [found] = [each for each in ask(profile(rclone_server.url)) if each.about == "proxy"]
    assert found.status == ERROR
    assert "HTTP_PROXY is no address of a proxy" in found.found
    assert "SEC" not in str(found)


def test_a_bundle_that_cannot_be_read(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/bundle.pem")
    found = ask(profile(rclone_server.url.replace("http:", "https:")))
    assert statuses(found) == {"TCP": OK, "TLS": ERROR}
    assert "/nowhere/bundle.pem" in found[-1].found


def test_a_port_without_tls(rclone_server: S3Server) -> None:
    found = ask(profile(rclone_server.url.replace("http:", "https:")))
    assert statuses(found) == {"TCP": OK, "TLS": ERROR}
    assert "scheme and port" in found[-1].remedy
    assert found[-1].meaning == "every file for this profile fails"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.example.com ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert: handshake_failure
        b"\x15\x03\x01\x00\x02\x02\x46",  # an alert: protocol_version
    ],
)
@pytest.mark.parametrize("kind", UPLOADERS)
def test_what_a_failed_handshake_means_for_files(kind: str, answer: bytes) -> None:
    """Whether files wait or fail is what an upload there would end with."""
    with answering(answer) as url:
        [failed] = [each for each in ask(profile(url)) if each.status == ERROR]
        with closing(UPLOADERS[kind](profile(url))) as uploader:
            try:
                uploader.ensure_bucket("bucket")
            except Exception as error:  # noqa: BLE001  each uploader has its own; classify knows all
                permanent = classify(error).kind == PERMANENT
    assert failed.about == "TLS"
    assert ("fails" in failed.meaning) == permanent
    assert ("tried again" in failed.meaning) != permanent


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does this with each connection, then ends it."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers each greeting in this way, then ends the connection; its address, as
    that of a store that speaks TLS."""

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)

    with talking(talk) as address:
        yield f"https://{address}"


def test_a_proxy_that_is_down_is_what_is_told_of(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy")
        monkeypatch.delenv("NO_PROXY")
        found = ask(profile(rclone_server.url))
    assert statuses(found) == {"proxy": OK, "TCP": ERROR}
    assert "that the proxy runs" in found[-1].remedy
    assert not any("secret" in repr(each) for each in found)


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[FaultProxy | S3Server], None]:
    """Has every store be asked through a proxy, to which one speaks TLS."""

    def name(between: FaultProxy | S3Server) -> None:
        port = between.port if isinstance(between, FaultProxy) else between.address[1]
        for variable in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, f"https://user:hunter2@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy")
        monkeypatch.delenv("NO_PROXY")

    return name


@CERTIFICATES
def test_the_certificate_of_an_https_proxy(
    rclone_server: S3Server,
    trusted: trustme.CA,
    through: Callable[[FaultProxy], None],
    host: str,
    left: int,
    status: str,
    words: str,
) -> None:
    tls = server_tls(trusted, host, not_after=now() + timedelta(days=left))
    with FaultProxy(rclone_server.address, tls=tls) as between:
        through(between)
        found = ask(profile("http://store.invalid:9000"))
        assert bool(between.requests) == (status != ERROR)
    assert [each.about for each in found[:3]] == ["proxy", "TCP", "TLS"]
    assert (found[2].status, words in found[2].found) == (status, True)
    assert status == OK or found[2].meaning.startswith("files for this profile wait")
    assert ("ListBuckets" in statuses(found)) == (status != ERROR)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("url", ["http://store.invalid:9000", "https://store.invalid"])
def test_an_https_proxy_that_nobody_can_trust_is_told_no_password(
    rclone_server: S3Server,
    authority: trustme.CA,
    through: Callable[[FaultProxy], None],
    url: str,
) -> None:
    with FaultProxy(rclone_server.address, tls=server_tls(authority, "127.0.0.1")) as between:
        through(between)
        found = ask(profile(url))
        assert between.requests == []
    assert statuses(found) == {"proxy": OK, "TCP": OK, "TLS": ERROR}
    assert "AWS_CA_BUNDLE" in found[-1].remedy
    assert "check HTTPS_PROXY or HTTP_PROXY" in found[-1].remedy


def test_an_https_proxy_without_tls(
    rclone_server: S3Server, through: Callable[[S3Server], None]
) -> None:
    through(rclone_server)
    found = ask(profile("http://store.invalid:9000"))
    assert statuses(found) == {"proxy": OK, "TCP": OK, "TLS": ERROR}
    assert "scheme and port of HTTPS_PROXY" in found[-1].remedy
    assert found[-1].meaning.startswith("files for this profile wait")


@pytest.mark.parametrize(
    "fault", [Cut("request"), Unending(b"H", b"T", 0.2)], ids=["reset", "drip"]
)
def test_a_proxy_that_does_not_answer_connect_is_what_is_told_of(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    with FaultProxy() as between:
        between.inject(fault, "CONNECT", times=None)
        monkeypatch.setenv("https_proxy", between.url)
        found = ask(profile("https://store.invalid"))
    assert statuses(found) == {"proxy": OK, "TCP": OK, "ListBuckets": ERROR}
    assert f"({between.url.removeprefix('http://')}: CONNECT was not answered" in found[-1].found
    assert found[-1].found.endswith("[proxy]")
    assert "HTTPS_PROXY" in found[-1].remedy


# --- what it answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_keys(rclone_server: S3Server, change: dict[str, str], code: str) -> None:
    found = ask(profile(rclone_server.url, **change))
    assert statuses(found) == {"TCP": OK, "ListBuckets": ERROR, "clock": OK}
    assert f"[{code}]" in found[1].found
    assert found[1].meaning == "files fail with this reason"


def test_a_wrong_region(proxy: FaultProxy) -> None:
    proxy.inject(
        s3_error(400, "AuthorizationHeaderMalformed", "the region 'x' is wrong; expecting 'y'"),
        times=None,
    )
    found = ask(profile(proxy.url))
    assert statuses(found)["ListBuckets"] == ERROR
    assert "expecting 'y'" in found[1].found
    assert "AWS_REGION" in found[1].remedy


@pytest.mark.parametrize("answer", [Answer(200, b"<html>Welcome</html>"), Answer(404, b"nothing")])
def test_what_is_no_store(proxy: FaultProxy, answer: Answer) -> None:
    proxy.inject(answer, times=None)
    found = ask(profile(proxy.url))
    assert statuses(found)["ListBuckets"] == ERROR
    assert "[not_s3]" in found[1].found
    assert found[1].remedy.startswith("correct AWS_ENDPOINT, or log in to the network, then run")


def test_a_key_that_may_not_list_asks_for_each_bucket(proxy: FaultProxy, bucket: str) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), "GET", r"^/(\?|$)", times=None)
    found = ask(profile(proxy.url), bucket, "no-such-bucket")
    assert statuses(found) == {
        "TCP": OK,
        "ListBuckets": OK,
        f"bucket {bucket}": OK,
        "bucket no-such-bucket": ERROR,
    }


def test_a_key_that_may_ask_nothing(proxy: FaultProxy, bucket: str) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), times=None)
    found = ask(profile(proxy.url), bucket)
    assert statuses(found)[f"bucket {bucket}"] == WARNING
    assert f"--probe s3://test/{bucket}" in found[-1].remedy


def test_a_bucket_that_nobody_needs_any_more_is_no_error(rclone_server: S3Server) -> None:
    names = ("no-such-bucket", "A_bad_name!")
    found = ask(profile(rclone_server.url), *names, unneeded=names)
    assert [statuses(found)[f"bucket {name}"] for name in names] == [WARNING, WARNING]
    told = [each.remedy.partition("directories: ")[2] for each in found[-2:]]
    assert told == [f"remove {name}" for name in names]


@pytest.mark.parametrize("state", [INCOMING_TMP, INCOMING, PROCESSING, FAILED, COMPLETED, None])
def test_a_bucket_that_is_missing_matters_while_it_has_files(
    house: House, rclone_server: S3Server, state: str | None
) -> None:
    """Once it has none, what is told of it removes its directories, and keeps them away; no file
    ever goes with them, as it may be the last copy."""
    house.spool.prepare_destination("test", "holydai")
    os.mkdir(house.spool.absolute(f"{COMPLETED}/test/holydai/2026"))
    if state is not None:
        file = Path(house.spool.absolute(f"{state}/test/holydai/a file"))
        file.write_text("x")
    only = f"; there may be no other copy of 1 file in {state}"
    profiles = {"test": profile(rclone_server.url)}

    def told() -> list[Finding]:
        return [x for x in check(house, profiles, {}).run() if x.about == "bucket holydai"]

    [finding] = told()
    if state not in (COMPLETED, None):
        assert finding.status == ERROR
        kept = only if state == FAILED else ""
        assert finding.meaning == f"files below incoming/test/holydai fail{kept}"
        return
    assert finding.status == WARNING
    assert finding.meaning.endswith(only if state else "/holydai will fail")
    first, _, mends = finding.remedy.partition("this removes its empty directories: ")
    subprocess.run(["sh", "-c", mends], check=True)
    if state is not None:
        assert first.endswith("move those files away, then ")
        assert file.read_text() == "x"
        house.spool.prepare_destinations(profiles)
        assert told() == [finding]
        file.unlink()  # as if it was moved away
        subprocess.run(["sh", "-c", mends], check=True)
    house.spool.prepare_destinations(profiles)
    assert told() == []
    left = [name for x in STATES for name in house.spool.subdirectories(f"{x}/test")]
    assert "holydai" not in left


def test_buckets_of_the_spool_that_the_store_cannot_have(rclone_server: S3Server) -> None:
    found = ask(profile(rclone_server.url), "no-such-bucket", "a\n\udc80")
    assert statuses(found)["bucket no-such-bucket"] == ERROR
    assert statuses(found)["bucket a\n\udc80"] == ERROR


@pytest.mark.parametrize(
    ("off", "status", "words"),
    [
        (timedelta(seconds=20), OK, "agrees"),
        (timedelta(minutes=5), WARNING, "5 minutes behind"),
        (timedelta(minutes=-5), WARNING, "5 minutes ahead of"),
        (timedelta(hours=3), ERROR, "3 hours behind"),
        (timedelta(hours=-3), ERROR, "3 hours ahead of"),
    ],
)
def test_clocks(proxy: FaultProxy, off: timedelta, status: str, words: str) -> None:
    """The store's clock is as far off; moments later the difference is a moment less."""
    date = format_datetime(now() + off + timedelta(seconds=1), usegmt=True)
    proxy.inject(Alter({"Date": date}), times=None)
    moment = now()
    [clock] = [each for each in ask(profile(proxy.url), at=lambda: moment) if each.about == "clock"]
    assert clock.status == status
    assert words in clock.found


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch"])
@pytest.mark.parametrize("off", [timedelta(minutes=14), timedelta(minutes=16)])
def test_what_is_refused_while_the_clock_is_off_has_its_remedy(
    house: House, proxy: FaultProxy, bucket: str, code: str, off: timedelta
) -> None:
    """As of a store that does not say what it dislikes."""
    date = format_datetime(now() + off + timedelta(seconds=1), usegmt=True)
    answer = s3_error(403, code, "no")
    proxy.inject(Answer(403, answer.body, {**answer.headers, "Date": date}), times=None)
    found = check(house, {"test": profile(proxy.url)}, {"test": [bucket]}).run()
    told = {each.about: each for each in found if each.topic == STORE}
    clock = told["clock"]
    refusals = [told[f"upload to {bucket}"], told["ListBuckets"]]
    if off < timedelta(minutes=15):
        assert clock.status == WARNING
        assert all(each.remedy != clock.remedy for each in refusals)
    else:
        assert clock.status == ERROR
        assert [each.remedy for each in refusals] == [clock.remedy] * 2
        assert refusals[1].status == (WARNING if code == "AccessDenied" else ERROR)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 28 Nov 2026 03:00:00 -0000"])
def test_a_date_that_is_none_says_nothing(proxy: FaultProxy, date: str) -> None:
    proxy.inject(Alter({"Date": date}), times=None)
    assert statuses(ask(profile(proxy.url))) == {"TCP": OK, "ListBuckets": OK}


# --- an upload -----------------------------------------------------------------------------------


@pytest.fixture
def house() -> Iterator[House]:
    with quick_house() as made:
        models.close()
        yield made


def probe(
    house: House, used: Profile, bucket: str, stopping: Callable[[], bool] = lambda: False
) -> ProbeUpload:
    return ProbeUpload(used, bucket, house.settings(), clock=time.monotonic, stopping=stopping)


def run(one: ProbeUpload) -> list[Finding]:
    found: list[Finding] = []
    one.run(found.append)
    return found


def test_an_object_is_uploaded_and_removed(
    house: House, rclone_server: S3Server, bucket: str
) -> None:
    one = probe(house, profile(rclone_server.url), bucket)
    assert statuses(run(one)) == {f"upload to {bucket}": OK, f"removal from {bucket}": OK}
    assert one.left is None
    assert rclone_server.keys(bucket) == []


def test_no_version_of_it_stays(
    house: House, moto_server: S3Server, bucket_name: Callable[[], str]
) -> None:
    bucket = moto_server.make_bucket(bucket_name())
    moto_server.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    assert set(statuses(run(probe(house, profile(moto_server.url), bucket))).values()) == {OK}
    versions = moto_server.client.list_object_versions(Bucket=bucket)
    assert "Versions" not in versions
    assert "DeleteMarkers" not in versions


def test_a_key_that_may_not_delete_leaves_it(
    house: House, proxy: FaultProxy, rclone_server: S3Server, bucket: str
) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), "DELETE", times=None)
    one = probe(house, profile(proxy.url), bucket)
    found = run(one)
    assert statuses(found) == {f"upload to {bucket}": OK, f"removal from {bucket}": WARNING}
    [key] = rclone_server.keys(bucket)
    assert one.left == f"s3://test/{bucket}/{key}"
    assert one.left in found[-1].found
    assert b"flood-check" in rclone_server.read(bucket, key)


def test_a_key_that_may_not_read(house: House, proxy: FaultProxy, bucket: str) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), "HEAD", "/flood-check-", times=None)
    found = run(probe(house, profile(proxy.url), bucket))
    assert statuses(found) == {f"upload to {bucket}": WARNING, f"removal from {bucket}": OK}


def test_an_upload_that_is_refused_leaves_nothing(
    house: House, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(s3_error(403, "AccessDenied", "no"), "PUT", times=None)
    one = probe(house, profile(proxy.url), bucket)
    assert statuses(run(one)) == {f"upload to {bucket}": ERROR}
    assert one.left is None


def test_an_upload_whose_answer_is_lost_is_removed(
    house: House, proxy: FaultProxy, rclone_server: S3Server, bucket: str
) -> None:
    proxy.inject(Cut("stored"), "PUT", times=None)
    one = probe(house, profile(proxy.url), bucket)
    assert statuses(run(one)) == {f"upload to {bucket}": ERROR, f"removal from {bucket}": OK}
    assert one.left is None
    assert rclone_server.keys(bucket) == []


def test_a_bucket_that_is_not_there(house: House, rclone_server: S3Server) -> None:
    one = probe(house, profile(rclone_server.url), "no-such-bucket")
    found = run(one)
    assert statuses(found) == {"upload to no-such-bucket": ERROR}
    assert found[0].found.startswith("profile 'test' has no bucket 'no-such-bucket' at http://")
    assert found[0].found.endswith(" [NoSuchBucket]")
    assert found[0].remedy.startswith("create it, or name another bucket")


def test_a_bucket_that_can_never_be_there(house: House, rclone_server: S3Server) -> None:
    [finding] = run(probe(house, profile(rclone_server.url), "x"))
    assert finding.status == ERROR
    assert finding.found.endswith("[InvalidBucketName]")
    assert finding.remedy.startswith("name another bucket (names have 3 to 63 lower-case letters")
    assert "file" not in finding.found + finding.remedy


def socks(target: tuple[str, int]) -> AbstractContextManager[str]:
    """The address of a SOCKS proxy that connects everybody with one place (RFC 1928)."""

    def talk(connection: socket.socket) -> None:
        with socket.create_connection(target) as there:
            connection.recv(512)
            connection.sendall(b"\x05\x00")
            connection.recv(512)
            connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
            other = {connection: there, there: connection}
            while True:
                for one in select.select(list(other), [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    other[one].sendall(data)

    return talking(talk)


def test_through_a_socks_proxy_only_what_boto3_asks_is_left_out(
    house: House, rclone_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks(rclone_server.address) as address:
        monkeypatch.setenv("HTTP_PROXY", f"socks5h://{address}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        used = profile("http://store.invalid")
        one = probe(house, used, bucket)
        found = run(one)
        assert statuses(found) == {f"upload to {bucket}": OK, f"removal from {bucket}": WARNING}
        assert "HTTP_PROXY is a SOCKS proxy, which flood-check cannot use" in found[-1].found
        found = ask(used, bucket, socks=True)
        assert statuses(found) == {"proxy": OK, "TCP": OK, "client": WARNING}
        assert found[-1].remedy.endswith(f"flood-check --probe s3://test/{bucket}")
        assert statuses(ask(used, bucket)) == {"proxy": OK, "TCP": OK, "client": ERROR}
    [key] = rclone_server.keys(bucket)
    assert one.left == f"s3://test/{bucket}/{key}"


# --- all of it -----------------------------------------------------------------------------------


def check(
    house: House,
    profiles: dict[str, Profile],
    probes: dict[str, list[str]],
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Check:
    settings = replace(house.settings(), origins={"database": "flag"})
    return Check(settings, profiles, probes, now=now, clock=clock, stopping=stopping)


def test_stores_are_asked_side_by_side(house: House, rclone_server: S3Server, bucket: str) -> None:
    """Each of the dead ones takes its ten seconds."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        profiles = {f"dead-{n}": profile(dead, name=f"dead-{n}") for n in range(5)}
        profiles["test"] = profile(rclone_server.url)
        begun = time.monotonic()
        found = check(house, profiles, {"test": [bucket]}).run()
        assert time.monotonic() - begun < 40
    by_profile = [each.profile for each in found if each.topic == STORE]
    assert by_profile == sorted(by_profile, key=lambda name: list(profiles).index(str(name)))
    assert {each.status for each in found if each.profile == "test"} == {OK}
    assert sum(each.status == ERROR for each in found if each.topic == STORE) == 5
    assert {each.topic for each in found} == {STORE, "spool", "database", "work"}


def test_a_store_that_never_ends_is_given_up(house: House) -> None:
    """No step of it takes too long; time passes quickly here."""
    seconds = iter(range(0, 10**6, 3))
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        dead = profile(f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = check(house, {"test": dead}, {}, clock=lambda: float(next(seconds))).run()
    told = [each for each in found if each.topic == STORE]
    assert told[-1].status == ERROR
    assert "within 30 seconds" in told[-1].found


def test_a_stop_waits_until_the_object_is_gone(
    house: House, proxy: FaultProxy, rclone_server: S3Server, bucket: str
) -> None:
    stop = threading.Event()
    proxy.inject(Stall("stored", 3.0), "PUT", "/flood-check-", times=None)
    one = check(house, {"test": profile(proxy.url)}, {"test": [bucket]}, stop.is_set)
    running = threading.Thread(target=one.run)
    running.start()
    wait_until(lambda: rclone_server.keys(bucket) != [], 30)
    stop.set()
    running.join(60)
    assert not running.is_alive()
    assert one.left == []
    assert rclone_server.keys(bucket) == []


def test_a_stop_waits_for_nobody_else(house: House) -> None:
    stop = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        dead = profile(f"http://127.0.0.1:{silent.getsockname()[1]}")
        one = check(house, {"test": dead}, {}, stop.is_set)
        running = threading.Thread(target=one.run)
        running.start()
        # The first one is a connection alone.
        connections = [silent.accept()[0] for _ in range(2)]
        stop.set()
        begun = time.monotonic()
        running.join(60)
        for connection in connections:
            connection.close()
    assert time.monotonic() - begun < 5
    assert one.left == []
