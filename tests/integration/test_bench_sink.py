"""The benchmark's sink takes what clients of S3 send, and tells truly what it got."""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.bench.floods import Failed
from tests.bench.measure import check
from tests.bench.sink import MOST_THREADS, NoSink, Sink, build
from tests.bench.workloads import make_tree
from tests.uploading import LARGE, MIB, MakeUploader, Open, Record, profile, transferred
from workers.failures import BucketMissing
from workers.transfer import Receipt, Upload

KEYS = ["plain", "a/deep/er key", "100% + &?#.txt", "ünïcødé/鍵", "tab\there", "../up/./and/down"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory, tls=False)


def built(tmp_path_factory: pytest.TempPathFactory, *, tls: bool) -> Path:
    try:
        return build(tmp_path_factory.mktemp("sink"), tls=tls)
    except NoSink as why:
        pytest.skip(str(why))


@pytest.fixture
def sink(program: Path) -> Iterator[Sink]:
    with Sink(program, ["bench"]) as running:
        yield running


def client(sink: Sink, *, verify: str | None = None, **settings: Any) -> Any:
    return boto3.session.Session().client(
        "s3",
        region_name="us-east-1",
        endpoint_url=sink.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        verify=verify,
        config=Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **settings
        ),
    )


def got(sink: Sink) -> dict[str, tuple[int, int]]:
    return {one.name.decode(): (one.size, one.sum) for one in sink.objects()}


def test_it_takes_as_many_threads_as_can_be_asked_for(program: Path) -> None:
    with Sink(program, ["bench"], threads=MOST_THREADS) as sink:
        assert sink.counts()["objects"] == 0
    with pytest.raises(NoSink), Sink(program, ["bench"], threads=MOST_THREADS + 1):
        pass


# --- boto3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_what_boto3_sends_is_told_by_size_and_sum(sink: Sink, checksums: str) -> None:
    s3 = client(sink, request_checksum_calculation=checksums)
    contents = {key: bytes([number]) * (1000 * number) for number, key in enumerate(KEYS)}
    for key, data in contents.items():
        s3.put_object(Bucket="bench", Key=key, Body=data)
    assert got(sink) == {f"bench/{key}": (len(d), sum(d)) for key, d in contents.items()}
    for key, data in contents.items():
        assert s3.head_object(Bucket="bench", Key=key)["ContentLength"] == len(data)
    counts = sink.counts()
    assert (counts["puts"], counts["heads"], counts["objects"]) == (len(KEYS),) * 3
    assert counts["bytes"] == sum(map(len, contents.values()))
    assert counts["connections"] == counts["most_connections"] == 1


def test_what_boto3_sends_in_parts_is_one_object(sink: Sink) -> None:
    data = bytes(range(256)) * 4 * 1024 * 12
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    client(sink).upload_fileobj(io.BytesIO(data), "bench", "large", Config=transfer)
    assert got(sink) == {"bench/large": (len(data), sum(data))}
    assert sink.counts()["unfinished"] == 0


def test_an_unfinished_upload_is_listed_until_it_is_aborted(sink: Sink) -> None:
    s3 = client(sink)
    names = {"Bucket": "bench", "Key": "large"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    s3.upload_part(**names, PartNumber=1, Body=b"part")
    [listed] = s3.list_multipart_uploads(Bucket="bench", Prefix="lar")["Uploads"]
    assert (listed["Key"], listed["UploadId"]) == ("large", names["UploadId"])
    with pytest.raises(ClientError, match="InvalidPart"):
        s3.complete_multipart_upload(
            **names, MultipartUpload={"Parts": [{"PartNumber": 2, "ETag": "x"}]}
        )
    s3.abort_multipart_upload(**names)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bench")
    assert sink.objects() == []
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.upload_part(**names, PartNumber=1, Body=b"part")


@pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])
def test_objects_are_listed_in_pages_and_by_directory(sink: Sink, call: str) -> None:
    s3 = client(sink)
    keys = sorted(f"{number % 3} &/{number:02}" for number in range(20))
    for key in keys:
        s3.put_object(Bucket="bench", Key=key, Body=b"")
    pages = s3.get_paginator(call).paginate(Bucket="bench", PaginationConfig={"PageSize": 7})
    assert [one["Key"] for page in pages for one in page["Contents"]] == keys
    by_directory = getattr(s3, call)(Bucket="bench", Delimiter="/")
    assert [one["Prefix"] for one in by_directory["CommonPrefixes"]] == ["0 &/", "1 &/", "2 &/"]
    inside = getattr(s3, call)(Bucket="bench", Prefix="1 &/", Delimiter="/")
    assert [one["Key"] for one in inside["Contents"]] == [k for k in keys if k[0] == "1"]


def test_an_object_is_replaced_and_deleted(sink: Sink) -> None:
    s3 = client(sink)
    s3.put_object(Bucket="bench", Key="key", Body=b"first")
    s3.put_object(Bucket="bench", Key="key", Body=b"")
    assert got(sink) == {"bench/key": (0, 0)}
    s3.delete_object(Bucket="bench", Key="key")
    assert got(sink) == {}
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="bench", Key="key")


def test_it_keeps_many_objects_and_forgets_them(sink: Sink) -> None:
    requests = b"".join(
        b"PUT /bench/%d HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % (number, number % 10)
        for number in range(3000)
    )
    with talk(sink) as connection:
        for begin in range(0, len(requests), 50_000):
            connection.sendall(requests[begin : begin + 50_000])
        answers(connection, 3000)
    assert got(sink) == {f"bench/{n}": (1, ord(str(n % 10))) for n in range(3000)}
    sink.forget()
    assert sink.objects() == []
    assert sink.counts()["requests"] == 0


# --- flood's uploaders -----------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["s3", "amazon", "cloudflare", "backblaze"])
def test_every_uploader_is_confirmed(
    make_uploader: MakeUploader, sink: Sink, opened: Open, provider: str
) -> None:
    contents = [*(b"content %d" % number * 99 for number in range(len(KEYS))), bytes(LARGE + 1)]
    uploads = [
        Upload(number, "bench", key, opened(data), len(data))
        for number, (key, data) in enumerate(zip([*KEYS, "large"], contents, strict=True))
    ]
    with closing(make_uploader(profile(sink.url, provider))) as uploader:
        uploader.ensure_bucket("bench")
        outcomes = list(transferred(uploader, uploads, Record().hooks()))
        with pytest.raises(BucketMissing):
            uploader.ensure_bucket("another")
    wrong = {u.key: r for u, r in outcomes if not isinstance(r, Receipt) or r.unverified}
    assert wrong == {}
    assert got(sink) == {
        f"bench/{upload.key}": (len(data), sum(data))
        for upload, data in zip(uploads, contents, strict=True)
    }


# --- the protocol ----------------------------------------------------------------------------


def talk(sink: Sink) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sink.port), timeout=10)


def answers(connection: socket.socket, count: int) -> bytes:
    """Read so many answers without bodies."""
    read = b""
    while read.count(b"\r\n\r\n") < count:
        block = connection.recv(65536)
        assert block, read
        read += block
    return read


def test_a_client_that_asks_first_is_told_to_go_on(sink: Sink) -> None:
    with talk(sink) as connection:
        connection.sendall(
            b"PUT /bench/key HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        assert answers(connection, 1) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"data")
        assert answers(connection, 1).startswith(b"HTTP/1.1 200 OK\r\n")
    assert got(sink) == {"bench/key": (4, sum(b"data"))}


REQUESTS = (
    b"PUT /bench/one HTTP/1.1\r\nContent-Length: 3\r\n\r\none"
    b"PUT /bench/chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    b"PUT /bench/aws HTTP/1.1\r\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n"
    b"Content-Length: 44\r\n\r\n5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    b"HEAD /bench/one HTTP/1.1\r\n\r\n"
)


@pytest.mark.parametrize("piece", [1, 7, len(REQUESTS)])
@pytest.mark.parametrize("latency", [0.0, 2.0])
def test_requests_arrive_in_any_pieces(program: Path, piece: int, latency: float) -> None:
    with Sink(program, ["bench"], latency=latency) as sink, talk(sink) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(REQUESTS), piece):
            connection.sendall(REQUESTS[begin : begin + piece])
        read = answers(connection, 4)
        assert read.count(b"HTTP/1.1 200 OK\r\n") == 4
        assert b"Content-Length: 3\r\n" in read
        assert got(sink) == {
            "bench/aws": (5, sum(b"hello")),
            "bench/chunks": (13, sum(b"abc0123456789")),
            "bench/one": (3, sum(b"one")),
        }


def test_the_etag_is_the_announced_md5_or_looks_like_none(sink: Sink) -> None:
    s3 = client(sink, request_checksum_calculation="when_required")
    plain = s3.put_object(Bucket="bench", Key="plain", Body=b"data")["ETag"]
    assert "-" in plain
    announced = s3.put_object(
        Bucket="bench", Key="announced", Body=b"data", ContentMD5="jXd/OF09/siBXSD3SWAm3A=="
    )["ETag"]
    assert announced == '"8d777f385d3dfec8815d20f7496026dc"'


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_and_connections_take_their_time(program: Path, threads: int) -> None:
    with Sink(program, ["b"], latency=60, connect_latency=40, threads=threads) as sink:
        for _ in range(threads + 1):
            with talk(sink) as connection:
                began = time.monotonic()
                # epoll's clock is some milliseconds coarser than Python's.
                for least in (0.09, 0.15):
                    connection.sendall(b"HEAD /b HTTP/1.1\r\n\r\n")
                    assert answers(connection, 1).startswith(b"HTTP/1.1 200 OK")
                    assert time.monotonic() - began >= least
        assert sink.counts()["connections"] == threads + 1


def test_a_stored_object_has_the_time_of_this_machine(sink: Sink) -> None:
    before = time.monotonic()
    client(sink).put_object(Bucket="bench", Key="key", Body=b"data")
    [stored] = sink.objects()
    assert before <= stored.at <= time.monotonic()


def test_nonsense_is_refused_and_hurts_nobody(sink: Sink) -> None:
    with talk(sink) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert answers(connection, 1).startswith(b"HTTP/1.1 400 ")
    with talk(sink) as connection:
        connection.sendall(b"x" * 200_000)
        with pytest.raises((ConnectionError, AssertionError)):
            answers(connection, 1)
    client(sink).head_bucket(Bucket="bench")


# --- TLS -------------------------------------------------------------------------------------


def test_uploads_over_tls(
    make_uploader: MakeUploader,
    tmp_path_factory: pytest.TempPathFactory,
    authority: trustme.CA,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = built(tmp_path_factory, tls=True)
    trusted, certificate = tmp_path / "authority.pem", tmp_path / "certificate.pem"
    authority.cert_pem.write_to_path(str(trusted))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted))
    with Sink(program, ["bench"], certificate=certificate, latency=1) as sink:
        assert ssl.get_server_certificate(("127.0.0.1", sink.port))
        uploads = [Upload(1, "bench", "key", opened(b"data" * 99_999), 399_996)]
        with closing(make_uploader(profile(sink.url))) as uploader:
            [(_, receipt)] = transferred(uploader, uploads, Record().hooks())
        assert isinstance(receipt, Receipt), receipt
        assert got(sink) == {"bench/key": (399_996, sum(b"data") * 99_999)}


# --- what is made of it ----------------------------------------------------------------------


def test_an_object_that_is_missing_or_wrong_is_noticed(sink: Sink, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "files", 3, 1000)
    s3 = client(sink)
    for key in tree.sums:
        with pytest.raises(Failed, match="objects are missing"):
            check(sink, tree)
        s3.put_object(Bucket="bench", Key=key, Body=(tree.path / key).read_bytes())
    check(sink, tree)
    last = next(iter(tree.sums))
    s3.put_object(Bucket="bench", Key=last, Body=bytes(1000))
    with pytest.raises(Failed, match="1 have another size or content"):
        check(sink, tree)
    s3.put_object(Bucket="bench", Key=last, Body=(tree.path / last).read_bytes())
    s3.put_object(Bucket="bench", Key="strange", Body=b"")
    with pytest.raises(Failed, match="1 are of nobody"):
        check(sink, tree)
