"""What every implementation of Uploader does, shown against real servers."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import Fault, Pass, Stall
from tests.proxy import FaultProxy
from tests.servers import S3Server
from tests.uploading import (
    LARGE,
    MIB,
    MakeUploader,
    Open,
    Record,
    flood_threads,
    profile,
    transferred,
    wait_until,
)
from workers.failures import BucketMissing, InvalidBucket, KeyNotUtf8, KeyTooLong
from workers.transfer import Interrupted, Measure, Receipt, Upload, Uploader

KEYS = [
    "plain.txt",
    "deeply/nested/in/some/directories/file",
    "with spaces  and + plus.txt",
    "percent %20 %2F 100%.txt",
    "-leading-dash",
    "quotes ' \" `backtick`",
    "line\nbreak",
    "tab\tand\x01control",
    "ünïcødé/ключ/鍵",
    "e\u0301 decomposed",
    "emoji 🚰🌊",
    "query?a=b&c=d#fragment",
    "brackets [x] {y} <z> |^~",
    "semicolon;colon:comma,at@dollar$equals=",
    "back\\slash",
    ".hidden",
    "...three dots",
    "n" * 200,
]

Make = Callable[..., Uploader]


@pytest.fixture(params=["rclone-s3", "rclone-backblaze", "moto-amazon", "moto-cloudflare"])
def setting(request: pytest.FixtureRequest) -> tuple[S3Server, str]:
    """A server with the provider whose rules are followed."""
    server, provider = request.param.split("-")
    return request.getfixturevalue(f"{server}_server"), provider


@pytest.fixture
def server(setting: tuple[S3Server, str]) -> S3Server:
    return setting[0]


@pytest.fixture
def make(make_uploader: MakeUploader, setting: tuple[S3Server, str]) -> Iterator[Make]:
    with ExitStack() as stack:

        def one(url: str = setting[0].url, concurrency: int = 4) -> Uploader:
            uploader = make_uploader(profile(url, setting[1]), concurrency=concurrency)
            return stack.enter_context(closing(uploader))

        yield one


@pytest.fixture
def bucket(server: S3Server, bucket_name: Callable[[], str]) -> str:
    return server.make_bucket(bucket_name())


def test_every_kind_of_key_arrives_byte_for_byte(
    make: Make, server: S3Server, bucket: str, opened: Open
) -> None:
    files = {
        key: f"content of {number}\r\n".encode() * 50
        for number, key in enumerate(KEYS)
        if server.name != "moto" or "\n" not in key  # moto's routes end at a line break
    }
    uploads = [
        Upload(number, bucket, key, opened(data), len(data))
        for number, (key, data) in enumerate(files.items())
    ]
    outcomes = list(transferred(make(), uploads, Record().hooks()))
    assert sorted(upload.record_id for upload, _ in outcomes) == list(range(len(files)))
    wrong = {u.key: r for u, r in outcomes if not isinstance(r, Receipt) or r.unverified}
    assert wrong == {}
    assert {key: server.read(bucket, key) for key in files} == files


@pytest.mark.parametrize("size", [0, 1, 5 * 1024, LARGE - 1])
def test_small_files_are_one_put(
    make: Make, server: S3Server, bucket: str, opened: Open, size: int
) -> None:
    data = os.urandom(size)
    record = Record()
    upload = Upload(1, bucket, "dir/file.txt", opened(data), size)
    [(answered, receipt)] = transferred(make(), [upload], record.hooks())
    assert answered is upload
    assert isinstance(receipt, Receipt)
    assert (receipt.bytes_sent, receipt.unverified) == (size, None)
    assert record.events == []
    assert server.read(bucket, "dir/file.txt") == data
    head = server.client.head_object(Bucket=bucket, Key="dir/file.txt")
    assert head["ContentType"] == "text/plain"


@pytest.mark.parametrize("size", [LARGE, 11 * MIB + 7])
def test_large_files_go_in_parts(
    make: Make, server: S3Server, bucket: str, opened: Open, size: int
) -> None:
    data = os.urandom(size)
    record = Record()
    upload = Upload(1, bucket, "dir/large file.bin", opened(data), size)
    [(_, receipt)] = transferred(make(), [upload], record.hooks())
    assert isinstance(receipt, Receipt), receipt
    assert (receipt.bytes_sent, receipt.unverified) == (size, None)
    assert [name for name, _ in record.events] == ["started", "ended"]
    stored = server.read(bucket, "dir/large file.bin")
    assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
    assert server.unfinished(bucket) == []


def test_no_more_is_sent_than_was_opened(
    make: Make, server: S3Server, bucket: str, opened: Open
) -> None:
    uploads = [Upload(n, bucket, f"key-{n}", opened(b"0123456789"), 4) for n in range(3)]
    for upload, receipt in transferred(make(concurrency=1), uploads, Record().hooks()):
        assert isinstance(receipt, Receipt), receipt
        assert server.read(bucket, upload.key) == b"0123"


def test_small_and_large_files_mix(make: Make, server: S3Server, bucket: str, opened: Open) -> None:
    sizes = [3, LARGE, 5, 0, LARGE + 1]
    uploads = [Upload(n, bucket, f"key-{n}", opened(b"x" * s), s) for n, s in enumerate(sizes)]
    outcomes = dict(transferred(make(), iter(uploads), Record().hooks()))
    assert all(isinstance(outcomes[each], Receipt) for each in uploads), outcomes
    assert [len(server.read(bucket, each.key)) for each in uploads] == sizes


def test_a_file_that_fails_takes_no_neighbour_with_it(
    make: Make, server: S3Server, bucket: str, opened: Open, tmp_path: Path
) -> None:
    data = opened(b"data")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        uploads = [
            Upload(1, bucket, "good-1", data, 4),
            Upload(2, bucket, "not utf-8 \udcff", data, 4),
            Upload(3, bucket, "ä" * 513, data, 4),
            Upload(4, bucket, "directory", directory, 4),
            Upload(5, bucket, "good-2", data, 4),
        ]
        outcomes = {u.record_id: r for u, r in transferred(make(), uploads, Record().hooks())}
    finally:
        os.close(directory)
    assert isinstance(outcomes[2], KeyNotUtf8)
    assert isinstance(outcomes[3], KeyTooLong)
    assert not isinstance(outcomes[4], Receipt)
    assert server.keys(bucket) == ["good-1", "good-2"]


def test_the_earlier_attempts_parts_are_removed_first(
    make: Make, server: S3Server, bucket: str, opened: Open
) -> None:
    def begun(key: str) -> str:
        answer = server.client.create_multipart_upload(Bucket=bucket, Key=key)
        return str(answer["UploadId"])

    recorded, unrecorded, foreign = begun("key"), begun("key"), begun("key-2")
    record = Record()
    upload = Upload(1, bucket, "key", opened(bytes(LARGE)), LARGE, multipart_upload_id=recorded)
    [(_, receipt)] = transferred(make(), [upload], record.hooks())
    assert isinstance(receipt, Receipt), receipt
    assert [name for name, _ in record.events] == ["ended", "started", "ended"]
    assert recorded != unrecorded
    assert server.unfinished(bucket) == [foreign]


def test_aborting_what_is_gone_is_no_error(make: Make, server: S3Server, bucket: str) -> None:
    answer = server.client.create_multipart_upload(Bucket=bucket, Key="key")
    uploader = make()
    uploader.abort_multipart(bucket, "key", answer["UploadId"])
    assert server.unfinished(bucket) == []
    uploader.abort_multipart(bucket, "key", answer["UploadId"])


def test_buckets_are_found_and_missed(
    make: Make, server: S3Server, bucket: str, bucket_name: Callable[[], str]
) -> None:
    uploader = make()
    uploader.ensure_bucket(bucket)
    late = bucket_name()
    with pytest.raises(BucketMissing, match=late):
        uploader.ensure_bucket(late)
    server.make_bucket(late)
    uploader.ensure_bucket(late)  # absence is not remembered


@pytest.mark.parametrize("name", ["", "a", "two words", "ümlaut", "\udcff", "arn:aws:s3:::b", "-x"])
def test_a_name_that_can_be_no_bucket_is_refused(make: Make, name: str) -> None:
    with pytest.raises(InvalidBucket):
        make().ensure_bucket(name)


def test_nothing_starts_once_told_to_stop(
    make: Make, server: S3Server, bucket: str, opened: Open
) -> None:
    record = Record()
    record.stop.set()
    sizes = [4, LARGE]
    uploads = [Upload(n, bucket, f"key-{n}", opened(bytes(s)), s) for n, s in enumerate(sizes)]
    outcomes = list(transferred(make(), uploads, record.hooks()))
    assert [type(result) for _, result in outcomes] == [Interrupted, Interrupted]
    assert server.keys(bucket) == []


@pytest.mark.parametrize("size", [4, LARGE])
def test_closing_the_iterator_ends_everything(
    make: Make, server: S3Server, bucket: str, opened: Open, size: int
) -> None:
    """A consumer that goes away, as it does at KeyboardInterrupt, leaves no thread or part."""
    with FaultProxy(server.address) as proxy:
        proxy.inject(Stall("request"), "PUT", "key-2", times=None)
        uploads = [
            Upload(1, bucket, "key-1", opened(b"data"), 4),
            Upload(2, bucket, "key-2", opened(bytes(size)), size),
        ]
        outcomes = transferred(make(proxy.url), uploads, Record().hooks())
        upload, _ = next(outcomes)
        assert upload.key == "key-1"
        began = time.monotonic()
        outcomes.close()  # type: ignore[attr-defined]  # it is a generator
        assert time.monotonic() - began < 3.0
    wait_until(lambda: not flood_threads())
    assert server.keys(bucket) == ["key-1"]
    assert server.unfinished(bucket) == []


def test_the_caller_gets_a_turn_while_a_transfer_takes_long(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    bucket_name: Callable[[], str],
    opened: Open,
) -> None:
    bucket = rclone_server.make_bucket(bucket_name())
    with FaultProxy(rclone_server.address) as proxy:
        proxy.inject(Stall("stored", seconds=0.5), "PUT")
        upload = Upload(1, bucket, "slow", opened(b"data"), 4)
        with closing(make_uploader(profile(proxy.url))) as uploader:
            *turns, last = uploader.transfer([upload], Record().hooks())
    assert turns
    assert set(turns) == {None}
    assert last is not None


#: Sends files of a size to a store of which a fault happens to each PUT; gives what was told of the
#: bytes that it had taken, each with seconds since the first of them.
Watched = Callable[[Fault, Sequence[str], int], list[tuple[float, int]]]

#: One, two side by side, one whose key is boto3's business, parts.
CROWDS = [(["a"], 2 * MIB), (["a", "b"], MIB), (["a/../b"], 2 * MIB), (["a"], LARGE)]


@pytest.fixture
def watched(
    make_uploader: MakeUploader,
    rclone_server: S3Server,
    bucket_name: Callable[[], str],
    opened: Open,
) -> Iterator[Watched]:
    bucket = rclone_server.make_bucket(bucket_name())
    with FaultProxy(rclone_server.address, receive_buffer=16 * 1024) as proxy:

        def told(fault: Fault, keys: Sequence[str], size: int) -> list[tuple[float, int]]:
            proxy.inject(fault, "PUT", times=None)
            uploads = [
                Upload(number, bucket, key, opened(bytes(size)), size)
                for number, key in enumerate(keys)
            ]
            seen: list[tuple[float, int]] = []

            def sending(measure: Measure) -> None:
                taken = measure()
                if taken:
                    seen.append((time.monotonic(), taken))

            hooks = replace(Record().hooks(), sending=sending)
            with closing(make_uploader(profile(proxy.url))) as uploader:
                list(transferred(uploader, uploads, hooks))
            return [(at - seen[0][0], taken) for at, taken in seen]

        yield told


@pytest.mark.parametrize(("keys", "size"), CROWDS)
def test_it_is_told_how_much_a_slow_store_has_taken(
    watched: Watched, keys: list[str], size: int
) -> None:
    """What waits in the kernel, megabytes at times, the store has yet to take."""
    whole = size * len(keys)
    told = watched(Pass(bytes_per_second=size), keys, size)
    assert len({taken for _, taken in told}) > 2  # a busy machine looks seldom
    assert all(taken < whole for at, taken in told if at < 0.3)


@pytest.mark.parametrize(("keys", "size"), CROWDS)
def test_it_is_told_that_a_store_takes_nothing(
    watched: Watched, keys: list[str], size: int
) -> None:
    told = watched(Stall("request", seconds=1.5), keys, size)
    meanwhile = [taken for at, taken in told if at < 0.8]
    assert max(meanwhile) < size / 8
    # Over each connection the kernel asks now and then for a few bytes more.
    assert len(set(meanwhile)) < 10
