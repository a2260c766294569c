"""Processes that are killed at work."""

import random
from pathlib import Path

import pytest

from tests.acceptance.harness import Flood, MakeFlood, check_promises, credentials
from tests.faults import Pass
from tests.proxy import FaultProxy
from tests.servers import S3Server

MIB = 1024**2
SLOW = Pass(bytes_per_second=MIB // 8)
SIZES = {"multipart_threshold": "8MiB", "multipart_part_size": "5MiB"}


@pytest.fixture
def slow(make_flood: MakeFlood, proxy: FaultProxy, bucket: str) -> Flood:
    """A spool with two uploads under way that take their time, one of them in parts."""
    proxy.inject(SLOW, "PUT", times=None)
    flood = make_flood(credentials(("main", proxy.url)), **SIZES)
    flood.start_watch()
    flood.start_consumer()
    flood.drop(bucket, "small", bytes(4 * MIB))
    flood.drop(bucket, "large", random.randbytes(12 * MIB))
    flood.wait_for(
        lambda: proxy.count("PUT", "/small$") and proxy.count("PUT", r"/large\?.*partNumber"),
        "both uploads",
    )
    return flood


def check_second_try(flood: Flood, server: S3Server, proxy: FaultProxy) -> None:
    flood.wait_delivered()
    check_promises(flood, server)
    for row in flood.rows():
        kinds = [each["kind"] for each in flood.attempts(row["id"])]
        assert kinds == ["lost", None]
    assert proxy.count("PUT", "/small$") == 2, "uploaded twice at worst"
    assert proxy.count("POST", r"/large\?uploads") == 2


def test_a_consumer_is_killed_in_mid_upload(
    slow: Flood, server: S3Server, proxy: FaultProxy
) -> None:
    _, consumer = slow.running
    consumer.kill()
    assert all(row["owner"] for row in slow.rows()), "nobody could let go of the claims"
    proxy.heal()
    slow.start_consumer()
    check_second_try(slow, server, proxy)


def test_a_worker_process_is_killed_with_its_consumer(
    make_flood: MakeFlood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    proxy.inject(SLOW, "PUT", times=1)
    flood = make_flood(credentials(("main", proxy.url)))
    flood.start_watch()
    consumer = flood.start_consumer(2, "process")
    flood.drop(bucket, "key", bytes(4 * MIB))
    flood.wait_for(lambda: proxy.count("PUT"), "the upload")
    consumer.kill()
    flood.start_consumer(2, "process")
    flood.wait_delivered()
    check_promises(flood, server)
    kinds = [each["kind"] for each in flood.attempts(flood.row()["id"])]
    assert kinds == ["lost", None]


def test_another_consumer_goes_on_meanwhile(
    slow: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    _, consumer = slow.running
    slow.start_consumer()
    proxy.heal()
    consumer.kill()
    slow.drop(bucket, "other", b"not held up")
    slow.wait_for(lambda: slow.rows(filepath="other", current_state="completed"))
    slow.start_consumer()
    slow.wait_delivered()
    check_promises(slow, server)


def test_both_are_killed_in_mid_upload(
    slow: Flood, server: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    for one in slow.running:
        one.kill()
    slow.drop(bucket, "meanwhile", b"while nobody looked")
    proxy.heal()
    slow.start_watch()
    slow.start_consumer()
    slow.wait_delivered()
    check_promises(slow, server)


def drop_many(flood: Flood, bucket: str, count: int) -> Path:
    """Move a directory with many small files into incoming, all at once."""
    outside = flood.outside("many")
    outside.mkdir()
    for number in range(count):
        data = b"%d" % number
        (outside / f"file-{number}").write_bytes(data)
        flood.expect(bucket, f"many/file-{number}", data)
    return outside.rename(flood.incoming(bucket) / "many")


def test_flood_watch_is_killed_in_mid_batch(flood: Flood, server: S3Server, bucket: str) -> None:
    watch = flood.start_watch()
    flood.incoming(bucket)
    many = drop_many(flood, bucket, 2000)
    left = random.randrange(1, 1999)
    flood.wait_for(lambda: sum(1 for _ in many.iterdir()) <= left, f"only {left} files left")
    watch.kill()
    states = {state: len(flood.files(state)) for state in ("incoming", "processing")}
    print(f"killed with {states} and {flood.count()} rows")  # noqa: T201  for a failure's reader
    assert sum(states.values()) == 2000
    flood.start_watch()
    flood.wait_for(lambda: flood.count(current_state="processing") == 2000, "all rows")
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)


def test_both_are_killed_again_and_again(flood: Flood, server: S3Server, bucket: str) -> None:
    flood.incoming(bucket)
    settled = 0
    for round_number in range(3):
        started = [flood.start_watch(), flood.start_consumer()]
        if round_number == 0:
            drop_many(flood, bucket, 600)
        goal = settled + random.randrange(1, 180)
        flood.wait_for(lambda goal=goal: flood.count(current_state="completed") >= goal)
        random.shuffle(started)
        for one in started:
            one.kill()
        settled = flood.count(current_state="completed")
    flood.start_watch()
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)
    for row in flood.rows():
        kinds = [each["kind"] for each in flood.attempts(row["id"])]
        assert set(kinds) <= {None, "lost"}
